#include "config/config.hpp"

#include <algorithm>
#include <fmt/core.h>

namespace tessera::config {

std::string Address::text() const {
  const bool v6 = !host.starts_with('/') && host.find(':') != std::string::npos;
  return v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

const Database* Config::find_database(std::string_view name) const {
  const auto found =
      std::find_if(databases.begin(), databases.end(), [&](const Database& d) { return d.name == name; });
  return found == databases.end() ? nullptr : &*found;
}

}  // namespace tessera::config
