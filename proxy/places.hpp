// How many clients there is room for. File descriptors are the scarce thing: each client is one, each server connection
// is one, and the process needs some for itself. Clients are turned away before the others run out, so that those who
// are in can still reach their servers and an administrator can still look. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/config.hpp"

namespace tessera::proxy {

struct Places {
  std::uint64_t clients = 0;          // most clients, those in reserved places not counted
  std::uint64_t servers = 0;          // descriptors kept for server connections
  std::uint64_t itself = 0;           // …and for the process: admin endpoint, log, cancel requests, reserved places
  std::vector<std::string> warnings;  // what the configuration asks for and cannot have
};

// Beyond `Places::clients` so many connections may come in as far as saying who they are; only cancel requests and the
// console (the database `pgbouncer`) go further.
inline constexpr std::uint64_t reserved_places = 16;

// Server connections that the pools may open, all together, as far as the configuration tells: users that only an
// auth_query knows are counted as one.
std::uint64_t server_connections(const config::Config& config);

// `descriptors`: the limit of open files.
Places places(const config::Config& config, std::uint64_t descriptors, unsigned workers);

}  // namespace tessera::proxy
