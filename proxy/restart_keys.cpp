#include "proxy/restart_keys.hpp"

#include <algorithm>

namespace tessera::proxy {

std::vector<std::string> restart_keys(const config::Config& running, const config::Config& after) {
  std::vector<std::string> keys;
  const auto add = [&](bool changed, const char* key) {
    if (changed) keys.push_back(std::string(key) + ": restart to apply");
  };
  add(running.pid_file != after.pid_file, "pid_file");
  add(running.io_uring != after.io_uring, "io_uring");
  add(running.listen.backlog != after.listen.backlog, "listen.backlog");
  return keys;
}

config::Config in_force(const config::Config& running, config::Config file) {
  file.pid_file = running.pid_file;
  file.io_uring = running.io_uring;
  file.listen.backlog = running.listen.backlog;
  return file;
}

bool needs_restart(std::string_view key) {
  constexpr std::string_view fixed[] = {"listen.postgres", "listen.mysql", "listen.backlog", "admin.listen",
                                        "workers",         "io_uring",     "pid_file"};
  return std::ranges::find(fixed, key) != std::end(fixed);
}

}  // namespace tessera::proxy
