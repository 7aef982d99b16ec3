// The administration console: the virtual database `pgbouncer`, spoken to with psql. Simple queries only, as in PgBouncer:
// SHOW …, PAUSE, RESUME, RELOAD, RECONNECT. One per connection, on its worker's thread.
#pragma once

#include <string>
#include <string_view>

#include "base/error.hpp"

namespace tessera::proxy {

class Server;
class SessionHost;

class Console {
 public:
  enum class Role { viewer, admin };
  Console(Server& server, Role role, SessionHost& host);
  void greet();
  void on_client_bytes(std::string_view bytes);

 private:
  void handle(char type, std::string_view whole);
  void run(std::string_view sql);
  void answer(const Result<std::string>& reply);

  Server& server_;
  Role role_;
  SessionHost& host_;
  std::string input_;
};

}  // namespace tessera::proxy
