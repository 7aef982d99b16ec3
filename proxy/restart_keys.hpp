// Keys of the configuration that only a restart applies, and that a reload accepts all the same because nothing depends
// on them at once.
#pragma once

#include <string>
#include <vector>

#include "config/config.hpp"

namespace tessera::proxy {

// Those that differ, each as "key: restart to apply".
std::vector<std::string> restart_keys(const config::Config& before, const config::Config& after);

}  // namespace tessera::proxy
