#include "config/config.hpp"

#include <algorithm>
#include <fmt/core.h>

namespace tessera::config {

std::string Address::text() const {
  const bool v6 = !host.starts_with('/') && host.find(':') != std::string::npos;
  return v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

std::vector<std::string> Table::key_types() const {
  std::vector<std::string> types;
  int depth = 0;  // a comma within parentheses belongs to a modifier
  for (const char c : key_type) {
    if (types.empty()) types.emplace_back();
    depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    if (c == ',' && depth <= 0)
      types.emplace_back();
    else if (c != ' ' || !types.back().empty())
      types.back() += c;
  }
  for (std::string& type : types) type.erase(type.find_last_not_of(' ') + 1);
  return types;
}

const Database* Config::find_database(std::string_view name) const {
  const auto found =
      std::find_if(databases.begin(), databases.end(), [&](const Database& d) { return d.name == name; });
  return found == databases.end() ? nullptr : &*found;
}

}  // namespace tessera::config
