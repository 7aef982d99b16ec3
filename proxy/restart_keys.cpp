#include "proxy/restart_keys.hpp"

namespace tessera::proxy {

std::vector<std::string> restart_keys(const config::Config& before, const config::Config& after) {
  std::vector<std::string> keys;
  const auto add = [&](bool changed, const char* key) {
    if (changed) keys.push_back(std::string(key) + ": restart to apply");
  };
  add(before.pid_file != after.pid_file, "pid_file");
  add(before.listen.backlog != after.listen.backlog, "listen.backlog");
  return keys;
}

}  // namespace tessera::proxy
