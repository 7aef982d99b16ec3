// Where a server is and how to log in there. Immutable; shared by all workers.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/ids.hpp"
#include "net/socket.hpp"
#include "net/tls.hpp"
#include "wire/postgres/server_login.hpp"

namespace tessera::pool {

struct Endpoint {
  std::string name;  // "s0" (the shard), for messages and metrics
  ShardId shard;
  std::string host;  // as configured: what verify-full compares with the certificate
  std::uint16_t port = 0;
  std::vector<net::SocketAddress> addresses;
  std::string database;  // its name on the server
  postgres::ServerTls tls = postgres::ServerTls::off;
  std::shared_ptr<net::TlsContext> tls_context;  // unless off
  bool verify_host = false;
  std::chrono::milliseconds connect_timeout{5'000};

  bool is_local() const { return !addresses.empty() && addresses.front().is_unix(); }
};
using EndpointRef = std::shared_ptr<const Endpoint>;

// As whom.
struct Identity {
  std::string user;
  postgres::ServerCredential credential;
  friend bool operator==(const Identity&, const Identity&) = default;
};
using IdentityRef = std::shared_ptr<const Identity>;

}  // namespace tessera::pool
