// One worker: a thread, its event loop, and everything that lives on it: clients, pools, plan caches, listeners. Other
// threads reach it by `loop().post` only.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "net/event_loop.hpp"
#include "pool/cancel.hpp"
#include "pool/key_derivation.hpp"
#include "proxy/auth_query.hpp"
#include "proxy/client.hpp"
#include "proxy/listen_hub.hpp"
#include "proxy/password_check.hpp"
#include "proxy/worker_database.hpp"

namespace tessera::proxy {

class Server;

class Worker {
public:
  Worker(Server& server, unsigned number, std::shared_ptr<const Runtime> runtime);
  ~Worker();

  void start();
  void join();  // after loop().stop()

  net::EventLoop& loop() { return loop_; }
  Server& server() { return server_; }
  pool::KeyDerivation& derivation();
  unsigned number() const { return number_; }
  int clients() const { return client_count_.load(std::memory_order_relaxed); }

  // ---- on its thread
  const Runtime& runtime() const { return *runtime_; }
  void adopt(net::Descriptor socket, std::string address, Client::Place place, std::vector<Admission::Ticket> tickets);
  void forget(SessionId id);
  WorkerDatabase* find_database(std::string_view name);
  ListenHub* listen_hub(WorkerDatabase& database);
  AuthQuery* auth_query(const std::string& database);
  void reconfigure(std::shared_ptr<const Runtime> runtime, const RoutingMap& routings);
  // PAUSE, RESUME and RECONNECT of one database, or of all if the name is empty; also of what a reload has replaced and
  // sessions still work with.
  enum class PoolChange : std::uint8_t { pause, resume, reconnect };
  void change_pools(std::string_view name, PoolChange change);
  PasswordCheck* password_check(const std::string& database);
  void set_routing(const std::string& database, const RoutingRef& routing);
  // Cancels what the session runs; `done` is called on this thread when the servers have been told.
  void cancel(SessionId session, std::function<void()> done);
  // The connection is about to be closed under a statement that nobody waits for any more: the server is told to stop
  // it.
  void abandon(const pool::Backend& backend);
  // A cancel request for one connection of the session.
  void stop(SessionId session, pool::Backend& backend, std::function<void()> done);
  Client* find_client(SessionId id);
  void drain();
  void end_all(const Error& reason);
  template <typename Visit>
  void each_client(Visit&& visit) {
    for (auto& [id, client] : clients_) visit(*client);
  }
  template <typename Visit>
  void each_database(Visit&& visit) {
    for (auto& [name, state] : databases_) visit(*state.database);
  }
  // Also those that a reload has put others in the place of and that sessions still work with.
  template <typename Visit>
  void each_database_and_retired(Visit&& visit) {
    each_database(visit);
    for (DatabaseState& state : removed_) visit(*state.database);
  }

private:
  struct DatabaseState {
    std::unique_ptr<WorkerDatabase> database;
    std::unique_ptr<ListenHub> listen;
    std::unique_ptr<AuthQuery> auth_query;
    std::unique_ptr<PasswordCheck> password_check;
    void change_pools(PoolChange change);
    void sweep(TimePoint now);
    void shut_down();
  };
  void run();
  void tick();
  void shut_down();
  void retire(DatabaseState&& state);
  void end_retired();
  DatabaseState make_database(const std::shared_ptr<const DatabaseRuntime>& runtime);

  Server& server_;
  unsigned number_;
  std::shared_ptr<const Runtime> runtime_;
  net::EventLoop loop_;
  std::map<std::string, DatabaseState, std::less<>> databases_;
  std::vector<DatabaseState> removed_;  // left the configuration; their sessions finish the transactions they are in
  std::unordered_map<SessionId, std::unique_ptr<Client>> clients_;
  std::unordered_map<std::uint64_t, std::unique_ptr<pool::CancelDelivery>> cancels_;
  std::uint64_t next_cancel_ = 0;
  std::atomic<int> client_count_ = 0;
  std::uint64_t out_of_memory_ = 0;  // as the loop counts
  bool draining_ = false;
  std::thread thread_;
};

}  // namespace tessera::proxy
