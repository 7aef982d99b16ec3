// ${env:NAME} and ${file:/path} inside any value. Expansion happens once, right after parsing; a node keeps what stood
// in the file beside the expanded text, and messages show only the former.
#pragma once

#include "config/load.hpp"
#include "config/problems.hpp"
#include "config/yaml.hpp"

namespace tessera::config {

inline constexpr std::size_t max_secret_bytes = 64u << 10;

// Expands every scalar under `node`. "$${" stands for a literal "${". What cannot be read is a problem and leaves the
// node `broken`. A value with a zero byte in it is a problem too: no protocol could carry it.
void expand_secrets(Node& node, const Environment& env, Problems& problems);

// A relative path is relative to the folder of the file in which it stands.
std::string resolve_path(const std::string& path, const std::string& said_in);

}  // namespace tessera::config
