#include "proxy/server.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <set>
#include <sys/stat.h>

#include "base/crypto.hpp"
#include "proxy/listener.hpp"
#include "proxy/log.hpp"
#include "proxy/restart_keys.hpp"

namespace tessera::proxy {

namespace {

postgres::Credential parse_verifier(const Secret& verifier) {
  if (std::optional<postgres::ScramSecret> secret = postgres::ScramSecret::parse(verifier.reveal()))
    return std::move(*secret);
  return postgres::Md5Verifier{verifier};
}

// A name may have several addresses (localhost: 127.0.0.1 and ::1): all of those that this machine has.
Result<std::vector<net::Descriptor>> open_sockets(const config::Listen& settings) {
  std::vector<net::Descriptor> sockets;
  if (!settings.postgres) return sockets;
  Result<std::vector<net::SocketAddress>> resolved = net::resolve(settings.postgres->host, settings.postgres->port);
  if (!resolved) return std::unexpected(resolved.error());
  if (resolved->size() > 1)
    std::erase_if(*resolved, [](const net::SocketAddress& address) { return !net::is_available(address); });
  if (resolved->empty())
    return fail(sqlstate::cannot_connect_now,
                fmt::format("this machine has no address of \"{}\"", settings.postgres->host));
  std::set<std::string> seen;
  for (const net::SocketAddress& address : *resolved) {
    if (!seen.insert(address.text()).second) continue;
    Result<net::Descriptor> socket = net::listen(address, settings.backlog);
    if (!socket) return std::unexpected(socket.error());
    // As PostgreSQL's: whoever is on the machine may connect, and logs in. The umask would let nobody else in.
    if (address.is_unix()) ::chmod(address.text().c_str(), 0777);
    sockets.push_back(std::move(*socket));
  }
  return sockets;
}

}  // namespace

Server::Server(std::shared_ptr<const config::Config> config, std::string pid_file)
    : derivation_(std::make_unique<pool::KeyDerivation>()),
      mock_key_(random_bytes(32)),
      started_at_(Clock::now()),
      config_(std::move(config)),
      pid_file_(std::move(pid_file)) {}

Server::~Server() {
  stop();
}

std::shared_ptr<const Runtime> Server::runtime() const {
  const std::scoped_lock lock(mutex_);
  return runtime_;
}

std::shared_ptr<const config::Config> Server::config_in_force() const {
  const std::shared_ptr<const config::Config> file = runtime()->config;
  if (restart_keys(*config_, *file).empty()) return file;
  return std::make_shared<const config::Config>(in_force(*config_, *file));
}

// ---- start and end --------------------------------------------------------------------------------------------------

Result<void> Server::start() {
  Result<std::shared_ptr<const Runtime>> made = build_runtime(config_, nullptr);
  if (!made) return std::unexpected(made.error());
  runtime_ = *made;
  make_credentials(*config_);
  for (const std::string& warning : runtime_->places.warnings)
    log::warn("too few file descriptors for the configuration", {{"reason", warning}});

  Result<std::vector<net::Descriptor>> sockets = open_sockets(config_->listen);
  if (!sockets) return std::unexpected(sockets.error());
  for (unsigned i = 0; i < worker_count(*config_); ++i)
    workers_.push_back(std::make_unique<Worker>(*this, i, runtime_));
  for (net::Descriptor& socket : *sockets)
    listeners_.push_back(std::make_unique<Listener>(*this, workers_[0]->loop(), std::move(socket)));
  for (const auto& worker : workers_) worker->start();
  for (const auto& listener : listeners_) workers_[0]->loop().post([raw = listener.get()] { raw->open(); });
  return {};
}

void Server::wait_for_catalogs(Duration limit) const {
  const auto told = [](const auto& database) { return database.second->catalog_look.told.load(); };
  const std::shared_ptr<const Runtime> now = runtime();
  const TimePoint until = Clock::now() + limit;
  while (!std::ranges::all_of(now->databases, told) && Clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

std::vector<int> Server::listening() const {
  std::vector<int> descriptors;
  for (const auto& listener : listeners_) descriptors.push_back(listener->descriptor());
  return descriptors;
}

void Server::stop_listening(SocketFiles files) {
  for (const auto& listener : listeners_)
    workers_[0]->loop().post([raw = listener.get(), files] {
      if (files == SocketFiles::leave) raw->leave_file();
      raw->close();
    });
}

void Server::start_draining() {
  draining_ = true;
  stop_listening(SocketFiles::remove);
  for (const auto& worker : workers_) worker->loop().post([raw = worker.get()] { raw->drain(); });
}

bool Server::has_clients() const {
  return std::any_of(workers_.begin(), workers_.end(), [](const auto& worker) { return worker->clients() > 0; });
}

void Server::stop() {
  names_.stop();
  chores_.stop();
  for (const auto& worker : workers_) worker->loop().stop();
  for (const auto& worker : workers_) worker->join();
  listeners_.clear();
  derivation_.reset();  // before the loops that it posts to
  workers_.clear();
}

// ---- configuration --------------------------------------------------------------------------------------------------

// Plain passwords become verifiers once: afterwards a login costs no key derivation.
void Server::make_credentials(const config::Config& config) {
  Credentials made;
  std::map<std::string, PlainSource> derived;
  for (const config::Database& database : config.databases) {
    for (const config::User& user : database.users) {
      if (!user.verifier.empty()) made.insert_or_assign({database.name, user.name}, parse_verifier(user.verifier));
      if (user.password.empty()) continue;
      const std::string key = database.name + '/' + user.name;
      const std::string digest(as_view(hmac_sha256(mock_key_, user.password.reveal())));
      const auto known = derived_.find(key);
      PlainSource source{digest, {}};
      if (known != derived_.end() && known->second.password_digest == digest)
        source.credential = known->second.credential;
      else
        source.credential = postgres::ScramSecret::from_password(user.password.reveal());
      made.insert_or_assign({database.name, user.name}, source.credential);
      derived.insert_or_assign(key, std::move(source));
    }
  }
  const std::scoped_lock lock(mutex_);
  credentials_ = std::move(made);
  derived_ = std::move(derived);
}

Server::ReloadOutcome Server::reload() {
  const std::scoped_lock one_at_a_time(reload_mutex_);
  ReloadOutcome outcome;
  const auto refuse = [&](const std::string& problem) { outcome.problems.push_back(problem); };
  config::Loaded loaded = config::load(runtime()->config->source, config::real_environment());
  for (const config::Problem& problem : loaded.problems) refuse(config::to_string(problem));
  if (!loaded.config) return outcome;
  if (!pid_file_.empty()) loaded.config->pid_file = pid_file_;
  auto config = std::make_shared<const config::Config>(std::move(*loaded.config));
  const std::shared_ptr<const Runtime> before = runtime();
  if (config->listen.postgres != before->config->listen.postgres)
    refuse("listen.postgres cannot change while Tessera runs: restart it");
  if (config->admin.listen != before->config->admin.listen)
    refuse("admin.listen cannot change while Tessera runs: restart it");
  if (worker_count(*config) != workers_.size()) refuse("workers cannot change while Tessera runs: restart it");
  if (!outcome.problems.empty()) return outcome;
  Result<std::shared_ptr<const Runtime>> made = build_runtime(config, before.get());
  if (!made) {
    refuse(made.error().message);
    return outcome;
  }
  const RoutingMap routings = make_routings(**made, outcome);
  if (!outcome.problems.empty()) return outcome;
  if (Result<void> log_ready = log::configure(config->log); !log_ready) {
    refuse(log_ready.error().message);
    return outcome;
  }
  make_credentials(*config);
  take_over(*made, routings);
  ++reloads_;
  if (on_reload_) on_reload_(*config);
  outcome.changed = true;
  for (std::string& note : restart_keys(*config_, *config)) outcome.notes.push_back(std::move(note));
  for (const std::string& warning : (*made)->places.warnings) outcome.notes.push_back(warning);
  for (const config::Problem& warning : loaded.warnings) outcome.notes.push_back(config::to_string(warning));
  for (const std::string& note : outcome.notes) log::warn("configuration", {{"warning", note}});
  log::info("configuration reloaded", {{"file", config->source}});
  return outcome;
}

// Rules that do not fit the tables as they are would fail later: they are tried here. Where they have not fitted before
// a reload makes nothing worse, and may be about something else.
RoutingMap Server::make_routings(const Runtime& runtime, ReloadOutcome& outcome) {
  RoutingMap routings;
  for (const auto& [name, database] : runtime.databases) {
    const auto unfit = unfit_.find(name);
    const RoutingRef known = routing(name);
    if (unfit == unfit_.end() && !known) continue;
    Result<RoutingRef> made = make_routing(*database, unfit != unfit_.end() ? unfit->second.catalog : known->catalog);
    if (made) {
      routings.insert_or_assign(name, *made);
      continue;
    }
    const std::string text = fmt::format("{}: {}", made.error().detail, made.error().message);
    if (unfit == unfit_.end())
      outcome.problems.push_back(text);
    else
      outcome.notes.push_back(text + " (clients are refused until the rules fit the tables)");
  }
  return routings;
}

// Servers and rules change together: a plan must never meet the servers of another configuration.
void Server::take_over(const std::shared_ptr<const Runtime>& runtime, const RoutingMap& routings) {
  {
    const std::scoped_lock lock(mutex_);
    runtime_ = runtime;
    routings_ = routings;
  }
  for (const auto& [name, routing] : routings) note_fit(name);
  std::erase_if(unfit_, [&](const auto& entry) { return !runtime->databases.contains(entry.first); });
  for (const auto& worker : workers_)
    worker->loop().post([raw = worker.get(), runtime, routings] { raw->reconfigure(runtime, routings); });
}

// As a reload of the same configuration.
Result<void> Server::follow_names(const Runtime& seen) {
  const std::scoped_lock one_at_a_time(reload_mutex_);
  const std::shared_ptr<const Runtime> before = runtime();
  if (before.get() != &seen || draining_) return {};  // a reload has looked them up meanwhile
  ReloadOutcome outcome;
  const Result<std::shared_ptr<const Runtime>> made = build_runtime(before->config, before.get());
  if (!made) return std::unexpected(made.error());
  const RoutingMap routings = make_routings(**made, outcome);
  if (!outcome.problems.empty()) return fail(sqlstate::config_file_error, outcome.problems.front());
  for (const auto& [name, database] : (*made)->databases)
    for (const pool::EndpointRef& endpoint : database->primaries)
      if (!net::same_addresses(endpoint->addresses,
                               before->databases.at(name)->primaries[endpoint->shard.value()]->addresses))
        log::info("a shard has another address", {{"database", name},
                                                  {"shard", endpoint->name},
                                                  {"host", endpoint->host},
                                                  {"address", endpoint->addresses.front().text()}});
  take_over(*made, routings);
  return {};
}

void Server::on_reload(std::function<void(const config::Config&)> then) {
  const std::scoped_lock lock(reload_mutex_);
  on_reload_ = std::move(then);
}

void Server::publish_catalog(const std::string& database, std::shared_ptr<const router::Catalog> catalog,
                             std::uint64_t reading) {
  const bool taken = chores_.post([this, database, catalog, reading] { publish_routing(database, catalog, reading); });
  if (!taken && !draining_) publish_routing(database, catalog, reading);
}

void Server::publish_routing(const std::string& name, const std::shared_ptr<const router::Catalog>& catalog,
                             std::uint64_t reading) {
  const std::scoped_lock one_at_a_time(reload_mutex_);
  // Two readings at once may end in the other order. Whatever the earlier one was for, the later one has seen too.
  std::uint64_t& newest = newest_reading_[name];
  if (reading < newest) return;
  newest = reading;
  const std::shared_ptr<const Runtime> now = runtime();
  const auto database = now->databases.find(name);
  if (database == now->databases.end()) return;
  Result<RoutingRef> routing = make_routing(*database->second, catalog);
  if (!routing) {
    // Statements are refused rather than routed by guess.
    note_unfit(name, catalog, routing.error());
    for (const auto& worker : workers_)
      worker->loop().post([raw = worker.get(), name, error = routing.error(), digest = catalog->digest] {
        if (WorkerDatabase* found = raw->find_database(name)) found->routing_failed(error, digest);
      });
    return;
  }
  note_fit(name);
  {
    const std::scoped_lock lock(mutex_);
    routings_[name] = *routing;
  }
  for (const auto& worker : workers_)
    worker->loop().post([raw = worker.get(), name, ref = *routing] { raw->set_routing(name, ref); });
}

// In the log once for each reason, however many clients and looks at the catalog find it.
void Server::note_unfit(const std::string& name, const std::shared_ptr<const router::Catalog>& catalog,
                        const Error& reason) {
  Unfit& known = unfit_[name];
  known.catalog = catalog;
  if (std::exchange(known.reason, reason.message) == reason.message) return;
  log::error("the sharding rules do not fit the database",
             {{"database", name}, {"where", reason.detail}, {"reason", reason.message}});
}

void Server::note_fit(const std::string& name) {
  if (unfit_.erase(name) > 0) log::info("the sharding rules fit the database again", {{"database", name}});
}

Result<RoutingRef> Server::make_routing(const DatabaseRuntime& database,
                                        const std::shared_ptr<const router::Catalog>& catalog) {
  auto routing = std::make_shared<Routing>();
  routing->version = next_routing_version_.fetch_add(1);
  routing->reading = newest_reading_[database.settings->name];
  auto topology = router::Topology::build(std::shared_ptr<const config::Database>(database.config, database.settings),
                                          *catalog, routing->version);
  if (!topology) return std::unexpected(topology.error());
  routing->topology = std::move(*topology);
  routing->catalog = catalog;
  return routing;
}

RoutingRef Server::routing(const std::string& database) const {
  const std::scoped_lock lock(mutex_);
  const auto found = routings_.find(database);
  return found == routings_.end() ? nullptr : found->second;
}

// ---- credentials ----------------------------------------------------------------------------------------------------

std::optional<postgres::Credential> Server::credential(const std::string& database, const std::string& user) const {
  const std::scoped_lock lock(mutex_);
  const auto found = credentials_.find({database, user});
  return found == credentials_.end() ? std::nullopt : std::optional(found->second);
}

// Users who may enter the console log in there as they do in the databases that list them: the configuration makes sure
// that these agree.
Result<postgres::Credential> Server::console_credential(const std::string& user, const std::string& address) const {
  const auto refuse = [](std::string_view why) { return fail(sqlstate::invalid_password, std::string(why)); };
  const std::shared_ptr<const Runtime> now = runtime();
  const std::vector<std::string>& admins = now->config->admin.console_admins;
  const std::vector<std::string>& viewers = now->config->admin.console_viewers;
  const auto listed = [&](const std::vector<std::string>& names) {
    return std::find(names.begin(), names.end(), user) != names.end();
  };
  if (!listed(admins) && !listed(viewers))
    return refuse("the user is listed neither in admin.console_admins nor in admin.console_viewers");
  for (const auto& [name, database] : now->databases) {
    const std::vector<config::User>& users = database->settings->users;
    const auto found = std::find_if(users.begin(), users.end(), [&](const auto& one) { return one.name == user; });
    if (found == users.end()) continue;
    if (!may_come_from(*found, address)) return refuse("the user may not come from this address (users: from)");
    if (const std::optional<postgres::Credential> known = credential(name, user)) return *known;
  }
  return refuse("the user has neither a password nor a verifier in the configuration");
}

Console::Role Server::console_role(const std::string& user) const {
  const std::shared_ptr<const Runtime> now = runtime();
  const std::vector<std::string>& admins = now->config->admin.console_admins;
  return std::find(admins.begin(), admins.end(), user) != admins.end() ? Console::Role::admin : Console::Role::viewer;
}

// ---- clients --------------------------------------------------------------------------------------------------------

void Server::dispatch(net::Descriptor socket, const net::SocketAddress& peer) {
  const std::shared_ptr<const Runtime> now = runtime();
  const config::Listen& listen = now->config->listen;
  const std::string address = peer.is_unix() || peer.host().empty() ? std::string("local") : peer.host();
  // A full house keeps a few places for administrators (places.hpp).
  Client::Place place = Client::Place::ordinary;
  std::optional<Admission::Ticket> total;
  if (now->places.clients > 0) total = admission_.enter("total", now->places.clients);
  if (!total) {
    place = Client::Place::reserved;
    total = admission_.enter("reserved", reserved_places);
  }
  // A balancer's connections are counted by its clients' addresses (Client::take_proxy_header).
  const bool balanced = net::in_networks(address, listen.proxy_protocol_from);
  std::optional<Admission::Ticket> from =
      admission_.enter("address/" + address, balanced ? 0 : static_cast<std::uint64_t>(listen.max_clients_per_address));
  if (!total || !from || draining_) {
    // As PostgreSQL does, in plain text and without waiting to be asked: the client takes it for the answer to its
    // first packet.
    const Error reason = draining_
                             ? Error{sqlstate::cannot_connect_now, "Tessera is shutting down", {}, {}, 0}
                             : Error{sqlstate::too_many_connections, "sorry, too many clients already", {}, {}, 0};
    if (!draining_) login_failures_.count("", reason.code);
    std::string message;
    postgres::append_error(message, reason, postgres::Severity::fatal);
    ::send(socket.get(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return;
  }
  if (!peer.is_unix()) {
    net::set_no_delay(socket.get());
    net::set_keep_alive(socket.get());
  }
  const auto least = std::min_element(workers_.begin(), workers_.end(),
                                      [](const auto& a, const auto& b) { return a->clients() < b->clients(); });
  Worker& worker = **least;
  std::vector<Admission::Ticket> tickets;
  tickets.push_back(std::move(*total));
  tickets.push_back(std::move(*from));
  if (&worker == workers_[0].get()) return worker.adopt(std::move(socket), address, place, std::move(tickets));
  worker.loop().post([&worker, socket = std::move(socket), address, place, tickets = std::move(tickets)]() mutable {
    worker.adopt(std::move(socket), address, place, std::move(tickets));
  });
}

bool Server::cancel(std::uint32_t pid, std::string_view secret, Worker& from, SessionId requester) {
  const Client* client = from.find_client(requester);
  const std::optional<CancelRegistry::Target> target =
      cancels_.find(pid, secret, client != nullptr ? client->address() : std::string(), from.loop().now());
  if (!target) return false;
  const auto tell = [&from, requester] {
    from.loop().post([&from, requester] {
      if (Client* client = from.find_client(requester)) client->cancelled_delivered();
    });
  };
  target->worker->loop().post(
      [worker = target->worker, session = target->session, tell] { worker->cancel(session, tell); });
  return true;
}

}  // namespace tessera::proxy
