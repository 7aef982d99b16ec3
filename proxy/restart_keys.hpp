// Keys of the configuration that only a restart applies, and that a reload accepts all the same because nothing depends
// on them at once.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/config.hpp"

namespace tessera::proxy {

// Those that differ from what the process was started with, each as "key: restart to apply".
std::vector<std::string> restart_keys(const config::Config& running, const config::Config& after);

// `file` with the values that the process runs with.
config::Config in_force(const config::Config& running, config::Config file);

// Does a reload leave `key` ("listen.backlog") as it is, or refuse to change it?
bool needs_restart(std::string_view key);

}  // namespace tessera::proxy
