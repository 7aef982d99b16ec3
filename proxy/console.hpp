// The administration console: the virtual database `pgbouncer`, spoken to with psql. Simple queries only, as in
// PgBouncer (a unit of the extended protocol gets one error): SHOW …, PAUSE, RESUME, RECONNECT, RELOAD. One per
// connection, on its worker's thread.
//
// Most answers come from all workers: a command is under way (`busy_`) until they have come in, and what the client
// sends meanwhile waits, up to a limit. A worker never waits for another.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "proxy/console_commands.hpp"

namespace tessera::proxy {

class Worker;
class SessionHost;

class Console {
public:
  enum class Role { viewer, admin };
  static constexpr std::size_t max_command = 65'536;
  static constexpr std::size_t max_waiting = 4 * max_command;

  Console(Worker& worker, Role role, SessionHost& host);
  ~Console();
  void greet();
  void on_client_bytes(std::string_view bytes);
  // The client's stream has ended: what it sent before that is carried out.
  void on_client_end();
  // About every 50 ms: PAUSE looks whether all connections have come back.
  void sweep();

private:
  void take_input();
  void handle(char type, std::string_view whole);
  void run(std::string_view sql);
  void start(const ConsoleCommand& command);
  void show(const ConsoleCommand& command);
  void change_pools(const ConsoleCommand& command);
  void count_busy();
  void reload();
  void answer(const Result<std::string>& reply);
  void finish(const Result<std::string>& reply);
  // Asks all workers; `then` is called on this thread, unless the console is gone by then.
  template <typename Answer>
  void ask(std::function<Answer(Worker&)> question, std::function<void(std::vector<Answer>)> then);

  Worker& worker_;
  Role role_;
  SessionHost& host_;
  std::string input_;
  bool skipping_ = false;  // up to Sync, after an error in the extended protocol
  bool ended_ = false;     // the client's stream
  bool busy_ = false;      // a command is under way
  bool pausing_ = false;   // …and it is PAUSE, waiting for connections
  bool counting_ = false;  // …and asking for their number
  std::string pause_database_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace tessera::proxy
