#include "proxy/worker.hpp"

#include <fmt/format.h>

#include "proxy/log.hpp"
#include "proxy/server.hpp"

namespace tessera::proxy {

namespace {
constexpr std::chrono::milliseconds tick_interval{50};
std::atomic<std::uint64_t> next_session_id = 1;
}  // namespace

Worker::Worker(Server& server, unsigned number, std::shared_ptr<const Runtime> runtime)
    : server_(server), number_(number), runtime_(std::move(runtime)) {
  for (const auto& [name, database] : runtime_->databases) databases_.emplace(name, make_database(database));
  loop_.set_ticker(tick_interval, [this] { tick(); });
}

Worker::~Worker() = default;

pool::KeyDerivation& Worker::derivation() {
  return server_.derivation();
}

Worker::DatabaseState Worker::make_database(const std::shared_ptr<const DatabaseRuntime>& runtime) {
  WorkerDatabase::Shared shared{
      &server_.budgets(), &server_.derivation(),
      [this](const std::string& database, std::shared_ptr<const router::Catalog> catalog, std::uint64_t reading) {
        server_.publish_catalog(database, std::move(catalog), reading);
      }};
  DatabaseState state;
  state.database = std::make_unique<WorkerDatabase>(runtime, loop_, std::move(shared));
  state.listen = std::make_unique<ListenHub>(*state.database);
  state.auth_query = std::make_unique<AuthQuery>(*state.database);
  state.password_check = std::make_unique<PasswordCheck>(*state.database);
  return state;
}

void Worker::start() {
  thread_ = std::thread([this] { run(); });
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
}

void Worker::run() {
  if (runtime_->config->io_uring) {
    const bool together = loop_.send_together();
    if (number_ == 0)
      log::info(together ? "io_uring is in use: what many connections have to send goes out by one system call"
                         : "the kernel does not let us use io_uring: each connection sends by itself");
  }
  loop_.run();
  shut_down();
}

// What is left goes while the loop still stands.
void Worker::shut_down() {
  end_all({sqlstate::admin_shutdown, "terminating connection due to administrator command", {}, {}, 0});
  clients_.clear();
  cancels_.clear();
  for (auto& [name, state] : databases_) state.shut_down();
  for (DatabaseState& state : removed_) state.shut_down();
}

void Worker::DatabaseState::sweep(TimePoint now) {
  database->sweep(now);
  listen->sweep(now);
  auth_query->sweep(now);
  password_check->sweep(now);
}

void Worker::DatabaseState::change_pools(PoolChange change) {
  switch (change) {
    case PoolChange::pause:
      database->pause();
      listen->pause();
      return auth_query->pause();
    case PoolChange::resume:
      database->resume();
      listen->resume();
      return auth_query->resume();
    case PoolChange::reconnect:
      database->reconnect();
      listen->reconnect();
      return auth_query->reconnect();
  }
}

void Worker::change_pools(std::string_view name, PoolChange change) {
  for (auto& [other, state] : databases_)
    if (name.empty() || other == name) state.change_pools(change);
  for (DatabaseState& state : removed_)
    if (name.empty() || state.database->name() == name) state.change_pools(change);
}

void Worker::DatabaseState::shut_down() {
  listen->shut_down();
  auth_query->shut_down();
  password_check->shut_down();
  database->shut_down({sqlstate::admin_shutdown, "Tessera is shutting down", {}, {}, 0});
}

// ---- clients --------------------------------------------------------------------------------------------------------

void Worker::adopt(net::Descriptor socket, std::string address, Client::Place place,
                   std::vector<Admission::Ticket> tickets) {
  const SessionId id(next_session_id.fetch_add(1, std::memory_order_relaxed));
  auto client = std::make_unique<Client>(*this, id, std::move(socket), std::move(address), place, std::move(tickets));
  Client& adopted = *client;
  clients_.emplace(id, std::move(client));
  client_count_.fetch_add(1, std::memory_order_relaxed);
  adopted.start();
}

void Worker::forget(SessionId id) {
  auto node = clients_.extract(id);
  if (node.empty()) return;
  client_count_.fetch_sub(1, std::memory_order_relaxed);
  loop_.defer([doomed = std::move(node.mapped())] {});
}

Client* Worker::find_client(SessionId id) {
  const auto found = clients_.find(id);
  return found == clients_.end() ? nullptr : found->second.get();
}

void Worker::cancel(SessionId session, std::function<void()> done) {
  Client* client = find_client(session);
  std::vector<pool::Backend*> targets;
  if (client != nullptr && client->session() != nullptr) {
    client->session()->cancel_wait();
    targets = client->session()->cancel_targets();
  }
  if (targets.empty()) return done();
  auto left = std::make_shared<std::size_t>(targets.size());
  for (pool::Backend* backend : targets) {
    stop(session, *backend, [left, done] {
      if (--*left == 0) done();
    });
    if (client->session() != nullptr) client->session()->options().database->metrics().cancels.add();
  }
}

void Worker::stop(SessionId session, pool::Backend& backend, std::function<void()> done) {
  backend.cancel_started();
  const std::uint64_t number = next_cancel_++;
  const auto delivered = [this, number, session, backend = &backend, alive = backend.alive(),
                          done = std::move(done)](bool settled) {
    if (*alive) {
      backend->cancel_finished();
      // It may come at any time and hit whatever runs then: nothing shall.
      if (!settled) backend->mark_spoiled();
      if (!settled && backend->replies().empty())
        backend->close(
            {sqlstate::connection_failure, "a cancel request is lost on its way to this connection", {}, {}, 0});
    }
    if (Client* waiting = find_client(session); waiting != nullptr && waiting->session() != nullptr)
      waiting->session()->on_cancel_delivered();
    auto node = cancels_.extract(number);
    if (!node.empty()) loop_.defer([doomed = std::move(node.mapped())] {});
    done();
  };
  auto& delivery = cancels_[number] = std::make_unique<pool::CancelDelivery>(backend, loop_, delivered);
  delivery->start();
}

void Worker::abandon(const pool::Backend& backend) {
  const std::uint64_t number = next_cancel_++;
  const auto delivered = [this, number](bool) {
    auto node = cancels_.extract(number);
    if (!node.empty()) loop_.defer([doomed = std::move(node.mapped())] {});
  };
  auto& delivery = cancels_[number] = std::make_unique<pool::CancelDelivery>(backend, loop_, delivered);
  delivery->start();
}

// ---- configuration --------------------------------------------------------------------------------------------------

WorkerDatabase* Worker::find_database(std::string_view name) {
  const auto found = databases_.find(name);
  return found == databases_.end() ? nullptr : found->second.database.get();
}

ListenHub* Worker::listen_hub(WorkerDatabase& database) {
  const auto found = databases_.find(database.name());
  return found == databases_.end() ? nullptr : found->second.listen.get();
}

AuthQuery* Worker::auth_query(const std::string& database) {
  const auto found = databases_.find(database);
  return found == databases_.end() ? nullptr : found->second.auth_query.get();
}

PasswordCheck* Worker::password_check(const std::string& database) {
  const auto found = databases_.find(database);
  return found == databases_.end() ? nullptr : found->second.password_check.get();
}

void Worker::reconfigure(std::shared_ptr<const Runtime> runtime, const RoutingMap& routings) {
  runtime_ = std::move(runtime);
  for (const auto& [name, database] : runtime_->databases) {
    const auto known = routings.find(name);
    const RoutingRef routing = known == routings.end() ? nullptr : known->second;
    const auto found = databases_.find(name);
    if (found != databases_.end() && same_shards(found->second.database->runtime(), *database)) {
      found->second.database->reconfigure(database, routing);
      found->second.auth_query->reconfigure();
      found->second.listen->reconfigure();
      continue;
    }
    // Other shards, or the same ones in another order, are another database; a PAUSE holds for it as well.
    DatabaseState made = make_database(database);
    if (routing) made.database->set_routing(routing);
    if (found != databases_.end()) {
      made.database->inherit(*found->second.database);
      retire(std::move(found->second));
    }
    databases_.insert_or_assign(name, std::move(made));
  }
  for (auto it = databases_.begin(); it != databases_.end();) {
    if (runtime_->databases.contains(it->first)) {
      ++it;
      continue;
    }
    retire(std::move(it->second));
    it = databases_.erase(it);
  }
  for (auto& [id, client] : clients_) client->reconfigure();
  // Here, and not where the reload is decided: what a worker asks before it has come here, the old servers answer.
  server_.auth_answers().forget_all();
}

void Worker::retire(DatabaseState&& state) {
  state.database->retire();
  removed_.push_back(std::move(state));
}

// Sessions of databases that are gone leave them when they lose nothing by it; the last one takes its database along.
void Worker::end_retired() {
  const Error reason{sqlstate::admin_shutdown, "the database's shards have changed", {}, {}, 0};
  std::vector<Client*> clients;
  for (auto& [id, client] : clients_)
    if (client->session() != nullptr && client->session()->options().database->retired())
      clients.push_back(client.get());
  for (Client* client : clients) client->follow_configuration();
  for (auto it = removed_.begin(); it != removed_.end();) {
    // Logins wait for what the servers say of their users; both kinds of questions have deadlines.
    if (it->database->sessions() > 0 || it->auth_query->busy() || it->password_check->busy()) {
      ++it;
      continue;
    }
    it->listen->shut_down();
    it->database->shut_down(reason);
    loop_.defer([doomed = std::move(*it)] {});
    it = removed_.erase(it);
  }
}

void Worker::set_routing(const std::string& database, const RoutingRef& routing) {
  WorkerDatabase* found = find_database(database);
  if (found == nullptr || routing->topology->shard_count() != found->shard_count()) return;
  found->set_routing(routing);
  found->catalog_is_read();
}

// ---- time and ending ------------------------------------------------------------------------------------------------

void Worker::tick() {
  const TimePoint now = loop_.now();
  if (loop_.out_of_memory() != out_of_memory_) {
    out_of_memory_ = loop_.out_of_memory();
    log::error("out of memory: connections were closed", {{"worker", std::to_string(number_)}});
  }
  bool failing = false;
  for (auto& [name, state] : databases_) {
    state.sweep(now);
    failing = failing || state.database->failing();
  }
  server_.names().check(runtime_, now, failing);
  for (DatabaseState& state : removed_) state.sweep(now);
  if (!removed_.empty()) end_retired();
  std::vector<pool::CancelDelivery*> deliveries;
  for (auto& [number, delivery] : cancels_) deliveries.push_back(delivery.get());
  for (pool::CancelDelivery* delivery : deliveries) delivery->check_deadline(now);
  std::vector<Client*> clients;
  clients.reserve(clients_.size());
  for (auto& [id, client] : clients_) clients.push_back(client.get());
  for (Client* client : clients) {
    client->sweep(now);
    if (draining_) client->drain();
  }
}

void Worker::drain() {
  draining_ = true;
}

void Worker::end_all(const Error& reason) {
  std::vector<Client*> clients;
  for (auto& [id, client] : clients_) clients.push_back(client.get());
  for (Client* client : clients) client->terminate(reason);
}

}  // namespace tessera::proxy
