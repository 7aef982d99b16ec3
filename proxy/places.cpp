#include "proxy/places.hpp"

#include <algorithm>
#include <fmt/format.h>

namespace tessera::proxy {

namespace {

// Listening sockets, log, PID file, what libraries keep open; connections of the admin endpoint; the reserved places.
constexpr std::uint64_t base = 64 + 64 + reserved_places;
constexpr std::uint64_t per_worker = 8;  // its loop, and cancel requests under way

std::uint64_t of_shard(const config::Database& database) {
  std::uint64_t all = 0;
  const auto size = static_cast<std::uint64_t>(database.pool.size);
  if (database.backend.auth == config::BackendAuth::password || database.users.empty()) {
    all = size;
  } else {
    for (const config::User& user : database.users)
      all += user.pool_size ? static_cast<std::uint64_t>(*user.pool_size) : size;
    if (database.auth_query) all += size;
  }
  const auto cap = static_cast<std::uint64_t>(database.pool.max_server_connections);
  return cap == 0 ? all : std::min(all, cap);
}

}  // namespace

std::uint64_t server_connections(const config::Config& config) {
  std::uint64_t all = 0;
  for (const config::Database& database : config.databases) all += of_shard(database) * database.shards.size();
  return all;
}

Places places(const config::Config& config, std::uint64_t descriptors, unsigned workers) {
  Places made;
  const std::uint64_t wanted = server_connections(config);
  // With few descriptors everybody gets a part: a quarter at most for the process, half of the rest for the servers.
  made.itself = std::min(base + per_worker * workers, descriptors / 4);
  made.servers = std::min(wanted, (descriptors - made.itself) / 2);
  const std::uint64_t room = descriptors - made.itself - made.servers;
  const auto asked = static_cast<std::uint64_t>(config.listen.max_clients);
  made.clients = asked == 0 ? room : std::min(asked, room);
  if (made.servers < wanted)
    made.warnings.push_back(
        fmt::format("the pools may open {} server connections, and of the {} file descriptors there are {} for them: "
                    "raise the limit of open files, or lower pool.size or pool.max_server_connections",
                    wanted, descriptors, made.servers));
  std::uint64_t of_databases = 0;
  for (const config::Database& database : config.databases)
    of_databases += static_cast<std::uint64_t>(database.limits.clients);
  const bool all_at_once = asked == 0 ? of_databases > room : asked > room;
  if (all_at_once)
    made.warnings.push_back(fmt::format(
        "{} asks for {} clients, and of the {} file descriptors there are {} for them: raise the limit of "
        "open files",
        asked == 0 ? "limits.clients" : "listen.max_clients", asked == 0 ? of_databases : asked, descriptors, room));
  return made;
}

}  // namespace tessera::proxy
