// What `tessera --version` and SHOW tessera.version say.
#pragma once

#include <string_view>

namespace tessera::proxy {

inline constexpr std::string_view version = TESSERA_VERSION;

}  // namespace tessera::proxy
