#include "proxy/worker_database.hpp"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

#include "base/crypto.hpp"
#include "parser/postgres/parse.hpp"
#include "proxy/hidden_state.hpp"
#include "proxy/log.hpp"
#include "proxy/setting_calls.hpp"
#include "router/contains.hpp"

namespace tessera::proxy {

using parser::StatementKind;

namespace {

constexpr Duration refusals_look_pause = std::chrono::seconds(5);  // of the catalog, however many are refused

// Statements that the session itself answers or must remember; their text is needed beside their plan.
bool concerns_session(const parser::Statement& statement) {
  switch (statement.kind) {
    case StatementKind::begin:
    case StatementKind::commit:
    case StatementKind::rollback:
    case StatementKind::savepoint:
    case StatementKind::release_savepoint:
    case StatementKind::rollback_to_savepoint:
    case StatementKind::prepare_transaction:
    case StatementKind::set:
    case StatementKind::set_transaction:
    case StatementKind::reset:
    case StatementKind::show:
    case StatementKind::discard:
    case StatementKind::listen:
    case StatementKind::unlisten:
    case StatementKind::notify:
      return true;
    default:
      return statement.prepared || statement.effects.temporary_objects || statement.explain.tessera ||
             statement.command == "SET CONSTRAINTS" || statement.kind == StatementKind::ddl;
  }
}

// What the statement has to do with settings and temporary objects.
void note_settings(const parser::Statement& statement, std::string_view sql, const PlanningView& view,
                   router::PlannedStatement& planned) {
  planned.names_tables = !statement.tables.empty();
  for (const parser::TableRef& table : statement.tables)
    if (!table.created && (table.schema.empty() || table.schema.starts_with("pg_temp")) &&
        router::contains(view.session.temporary_tables, table.name))
      planned.uses_temporary = true;
  if (calls_set_config(statement)) {
    if (auto calls = setting_calls(statement, sql))
      planned.setting_calls = std::move(*calls);
    else
      planned.opaque_settings = true;
  }
  for (const router::SettingCall& call : planned.setting_calls)
    if (changes_planning(call.name)) planned.changes_planning = true;
  if (statement.setting && statement.kind != StatementKind::show && changes_planning(statement.setting->name))
    planned.changes_planning = true;
  if (statement.effects.temporary_objects || statement.kind == StatementKind::discard ||
      (planned.uses_temporary && statement.kind == StatementKind::ddl))
    planned.changes_planning = true;
}

// The parser reads all strings as with standard_conforming_strings, the lexer as the session does: the plan of a text
// that they take differently is not one for its fingerprint.
bool misreads(std::string_view sql, parser::LexerMode mode) {
  return !mode.standard_conforming_strings && sql.contains('\\');
}

// Tells credentials apart without keeping them.
std::string digest_of(const postgres::ServerCredential& credential) {
  std::string content(1, static_cast<char>(credential.index()));
  if (const auto* password = std::get_if<postgres::PlainPassword>(&credential)) content += password->password.reveal();
  if (const auto* verifier = std::get_if<postgres::Md5Verifier>(&credential)) content += verifier->text.reveal();
  if (const auto* keys = std::get_if<postgres::ScramKeys>(&credential)) {
    content += as_view(keys->client_key);
    content += as_view(keys->server_key);
  }
  return std::string(as_view(sha256(content)));
}

std::string greeting_key(const pool::Identity& identity, const pool::SettingsMap& settings) {
  std::string key = identity.user + '\0' + digest_of(identity.credential);
  for (const auto& [name, sql] : settings) key += '\0' + name + '\0' + sql;
  return key;
}

}  // namespace

WorkerDatabase::WorkerDatabase(std::shared_ptr<const DatabaseRuntime> runtime, net::EventLoop& loop, Shared shared)
    : name_(runtime->settings->name),
      runtime_(std::move(runtime)),
      loop_(&loop),
      shared_(std::move(shared)),
      statements_(runtime_->primaries.size()),
      cache_(static_cast<std::size_t>(settings().limits.plan_cache)),
      meaning_key_(random_bytes(32)),
      metrics_(std::make_unique<DatabaseMetrics>(shard_count())),
      ids_(*this) {}

WorkerDatabase::~WorkerDatabase() = default;

// With pass-through each user has connections of his own, and may have a number of his own.
config::Pool WorkerDatabase::pool_limits(const std::string& role) const {
  config::Pool limits = settings().pool;
  if (settings().backend.auth != config::BackendAuth::passthrough) return limits;
  for (const config::User& user : settings().users) {
    if ((user.backend_user.empty() ? user.name : user.backend_user) != role || !user.pool_size) continue;
    limits.size = *user.pool_size;
    limits.min_idle = std::min(limits.min_idle, limits.size);
  }
  return limits;
}

pool::Pool& WorkerDatabase::pool(const pool::IdentityRef& identity, const std::string& user, ShardId shard) {
  // By identity, not by name: a role with another password is not let in on what the right one has opened.
  std::unique_ptr<pool::Pool>& found = pools_[PoolKey{identity.get(), shard}];
  if (found) return *found;
  const config::Pool limits = pool_limits(user);
  const pool::EndpointRef& endpoint = runtime_->primaries[shard.value()];
  const std::string server = fmt::format("{}/{}", name_, endpoint->name);
  auto budget =
      shared_.budgets->get(fmt::format("{}/{}", server, user), limits.size, server, limits.max_server_connections);
  const auto complain = [name = name_, user, shard = endpoint->name](const Error& reason) {
    log::warn("cannot connect to a shard",
              {{"database", name}, {"shard", shard}, {"user", user}, {"reason", reason.message}});
  };
  pool::Pool::Options options{name_, user, endpoint, identity, limits, settings().limits.message_size, complain};
  found = std::make_unique<pool::Pool>(std::move(options), std::move(budget), *loop_, *shared_.derivation);
  if (paused_ || resuming_) found->pause();
  return *found;
}

std::unique_ptr<pool::Pool> WorkerDatabase::own_pool(const pool::IdentityRef& identity, const std::string& user,
                                                     ShardId shard, const std::string& purpose,
                                                     std::function<void(const Error&)> complain) {
  const pool::EndpointRef& endpoint = runtime_->primaries[shard.value()];
  if (!complain)
    complain = [name = name_, user, purpose, shard = endpoint->name](const Error& reason) {
      log::warn(
          "cannot connect to a shard",
          {{"database", name}, {"shard", shard}, {"user", user}, {"purpose", purpose}, {"reason", reason.message}});
    };
  pool::Pool::Options options{name_,        user + "/" + purpose,           endpoint, identity,
                              own_limits(), settings().limits.message_size, complain};
  auto made = std::make_unique<pool::Pool>(std::move(options), single_budget(*endpoint), *loop_, *shared_.derivation);
  if (paused_) made->pause();
  return made;
}

config::Pool WorkerDatabase::own_limits() const {
  config::Pool limits = settings().pool;
  limits.size = 1;
  limits.min_idle = 0;
  limits.max_lifetime = limits.idle_timeout = limits.health_interval = config::Milliseconds(0);
  return limits;
}

config::Pool WorkerDatabase::auth_limits() const {
  config::Pool limits = settings().pool;
  limits.size = 1;
  limits.min_idle = 0;
  limits.checkout_timeout = config::Milliseconds(0);  // whoever asks has a deadline
  limits.reset_query.clear();
  return limits;
}

std::unique_ptr<pool::Pool> WorkerDatabase::auth_pool(const pool::IdentityRef& identity, ShardId shard) {
  const std::string name = name_ + "/auth_query";
  auto budget = shared_.budgets->get(name, 1, name, 0);
  pool::Pool::Options options{name_, "auth_query", runtime_->primaries[shard.value()], identity, auth_limits()};
  auto made = std::make_unique<pool::Pool>(std::move(options), std::move(budget), *loop_, *shared_.derivation);
  if (paused_) made->pause();
  return made;
}

const pool::EndpointRef& WorkerDatabase::asked_endpoint() const {
  for (const pool::EndpointRef& endpoint : runtime_->primaries)
    if (endpoint->name == settings().default_shard) return endpoint;
  return runtime_->primaries.front();
}

std::shared_ptr<pool::Budget> WorkerDatabase::single_budget(const pool::Endpoint& endpoint) const {
  return shared_.budgets->single(fmt::format("{}/{}", name_, endpoint.name), settings().pool.max_server_connections);
}

pool::IdentityRef WorkerDatabase::identity(const std::string& role, const postgres::ServerCredential& credential) {
  pool::IdentityRef& known = identities_[role + '\0' + digest_of(credential)];
  if (known && !superseded_.contains(known)) return known;
  if (!known) known = std::make_shared<const pool::Identity>(pool::Identity{role, credential});
  superseded_.erase(known);
  for (const auto& [key, other] : identities_)
    if (other && other != known && other->user == role) superseded_.insert(other);
  return known;
}

// Pools under credentials that have been replaced go when nobody uses them any more. (Whoever still works under them
// gets a new pool when he comes back.)
void WorkerDatabase::drop_superseded() {
  for (auto it = pools_.begin(); it != pools_.end();) {
    pool::Pool& pool = *it->second;
    if (!superseded_.contains(pool.options().identity) || !pool.unused()) {
      ++it;
      continue;
    }
    pool.shut_down({sqlstate::admin_shutdown, "its credentials were replaced", {}, {}, 0});
    health_.erase(&pool);
    loop_->defer([doomed = std::move(it->second)] {});
    it = pools_.erase(it);
  }
}

pool::PreparedTextRef WorkerDatabase::intern(std::string_view sql, const std::vector<postgres::Oid>& types,
                                             std::string_view parse_settings, std::string_view name_settings) {
  pool::PreparedTextRef made = pool::make_prepared_text(sql, types, parse_settings, name_settings);
  std::weak_ptr<const pool::PreparedText>& known = prepared_texts_[made->server_name];
  if (pool::PreparedTextRef shared = known.lock()) return shared;
  known = made;
  if (prepared_texts_.size() > sweep_prepared_at_) {
    std::erase_if(prepared_texts_, [](const auto& entry) { return entry.second.expired(); });
    sweep_prepared_at_ = std::max<std::size_t>(1024, prepared_texts_.size() * 2);
  }
  return made;
}

void WorkerDatabase::reconfigure(std::shared_ptr<const DatabaseRuntime> runtime, RoutingRef routing) {
  runtime_ = std::move(runtime);
  const auto plans = static_cast<std::size_t>(settings().limits.plan_cache);
  if (plans != cache_.capacity()) cache_ = router::PlanCache(plans);
  greetings_.clear();
  ids_.reconfigure();
  look_at_catalog(Duration::zero());
  unfit_digest_.clear();
  metrics_->resize(shard_count());
  for (auto& [key, pool] : pools_) {
    const std::size_t shard = pool->options().endpoint->shard.value();
    const config::Pool limits = pool_limits(pool->options().user);
    const std::string server = fmt::format("{}/{}", name_, runtime_->primaries[shard]->name);
    shared_.budgets->get(fmt::format("{}/{}", server, pool->options().user), limits.size, server,
                         limits.max_server_connections);
    pool->set_message_size(settings().limits.message_size);
    pool->reconfigure(runtime_->primaries[shard], pool->options().identity, limits);
  }
  for (auto& pool : catalog_pools_)
    pool->reconfigure(runtime_->primaries[catalog_shard().value()], pool->options().identity, own_limits());
  if (routing) set_routing(std::move(routing));
}

// What is idle here would keep the successor's pools below their size.
void WorkerDatabase::retire() {
  retired_ = true;
  for (auto& [key, pool] : pools_) {
    config::Pool limits = pool->options().limits;
    limits.min_idle = 0;
    pool->reconfigure(pool->options().endpoint, pool->options().identity, limits);
    pool->reconnect();
  }
  // What is read from now on is told to the successor.
  const Result<void> failed = fail(sqlstate::cannot_connect_now, "the database's shards have changed", "connect again");
  for (auto& waiting : std::exchange(waiting_for_catalog_, {})) waiting(failed);
}

void WorkerDatabase::set_routing(RoutingRef routing) {
  routing_ = std::move(routing);
  routing_problem_.reset();
  unfit_digest_.clear();
  runtime_->catalog_look.told = true;
  cache_.clear();
  greetings_.clear();
  metrics_->cache_entries.set(0);
  for (auto& then : std::exchange(waiting_for_catalog_, {})) then({});
}

void WorkerDatabase::routing_failed(const Error& reason, const std::string& digest) {
  routing_problem_ = reason;
  unfit_digest_ = digest;
  runtime_->catalog_look.told = true;
  routing_problem_->message = fmt::format("the sharding rules do not fit the database: {}", reason.message);
  routing_problem_->detail.clear();  // the place in the configuration, which is for the log
  catalog_is_read();
  const Result<void> failed = std::unexpected(*routing_problem_);
  for (auto& waiting : std::exchange(waiting_for_catalog_, {})) waiting(failed);
}

void WorkerDatabase::run(pool::Pool& pool, pool::Settings settings, std::vector<std::string> queries,
                         std::function<void(Result<pool::TextQuery::Answer>)> done) {
  const std::uint64_t id = next_query_++;
  auto query =
      std::make_unique<pool::TextQuery>(pool, std::move(settings), std::move(queries),
                                        [this, id, done = std::move(done)](Result<pool::TextQuery::Answer> answer) {
                                          // The query is on the stack: it goes when the round is over.
                                          auto node = queries_.extract(id);
                                          if (!node.empty()) loop_->defer([doomed = std::move(node.mapped())] {});
                                          done(std::move(answer));
                                        });
  pool::TextQuery& started = *query;
  queries_.emplace(id, std::move(query));
  started.start();
}

GreetingRef WorkerDatabase::greeting(const pool::IdentityRef& identity, ShardId shard, const pool::Settings& settings,
                                     GreetingDone then) {
  const std::string key = greeting_key(*identity, *settings);
  if (const auto found = greetings_.find(key); found != greetings_.end()) return found->second;
  run(pool(identity, identity->user, shard), settings, {"SELECT pg_catalog.current_setting('search_path')"},
      [this, key, then = std::move(then)](Result<pool::TextQuery::Answer> answer) {
        if (!answer) return then(std::unexpected(answer.error()));
        auto made = std::make_shared<Greeting>();
        made->parameters = std::move(answer->parameters);
        if (!answer->results[0].empty()) made->search_path = answer->results[0][0][0].value_or("");
        if (greetings_.size() >= 10'000) greetings_.clear();
        greetings_.insert_or_assign(key, made);
        then(GreetingRef(made));
      });
  return nullptr;
}

std::uint64_t WorkerDatabase::meaning_of(std::string_view settings) {
  if (settings == last_meaning_.settings) return last_meaning_.number;  // most sessions agree
  const auto digest = hmac_sha256(meaning_key_, settings);
  last_meaning_.settings = settings;
  std::memcpy(&last_meaning_.number, digest.data(), sizeof last_meaning_.number);
  return last_meaning_.number;
}

const router::PlannedText& WorkerDatabase::plan(std::string_view sql, const PlanningView& view,
                                                const RoutingRef& routing, parser::Fingerprint& print,
                                                router::PlannedTextRef* keep) {
  ++texts_planned_;
  parser::fingerprint(sql, view.lexer, print);
  // A hint is a comment, which the fingerprint does not see.
  const bool hinted = view.session.hints_allowed && print.hint_begin != print.hint_end;
  const bool by_key = print.exact && view.cacheable && routing == routing_ && !hinted && !misreads(sql, view.lexer);
  const router::PlanCache::Key key{print.high, print.low, view.meaning};
  if (by_key) {
    if (const router::PlannedTextRef* found = cache_.find(key); found != nullptr && (*found)->is_for(sql)) {
      metrics_->cache_hits.add();
      if (keep != nullptr) *keep = *found;
      return **found;
    }
  }
  metrics_->cache_misses.add();
  uncached_ = make_plan(sql, view, *routing, print);
  if (by_key && uncached_->cacheable) {
    cache_.insert(key, uncached_);
    metrics_->cache_entries.set(cache_.size());
  }
  if (keep != nullptr) *keep = uncached_;
  return *uncached_;
}

router::PlannedTextRef WorkerDatabase::make_plan(std::string_view sql, const PlanningView& view, const Routing& routing,
                                                 const parser::Fingerprint& print) {
  auto text = std::make_shared<router::PlannedText>();
  Result<std::vector<parser::Statement>> parsed = parser::postgres::parse(sql);
  if (!parsed) {
    text->syntax_error = parsed.error();
    text->cacheable = false;
    return text;
  }
  if (print.exact) text->counters = statements_.find(print, sql, view.lexer);
  const std::string_view hint = sql.substr(print.hint_begin, print.hint_end - print.hint_begin);
  for (parser::Statement& statement : *parsed) {
    router::PlannedStatement& planned = text->statements.emplace_back();
    planned.plan = router::plan(
        statement, sql, print.exact ? std::span<const parser::Slot>(print.slots) : std::span<const parser::Slot>(),
        hint, *routing.topology, *routing.catalog, view.session);
    if (!planned.plan.refusal) planned.plan.refusal = router::hint_refusal(hint, parsed->size(), view.session);
    // The catalog may say something else by now.
    text->gives_ids = planned.plan.ids && parsed->size() == 1;
    if (planned.plan.refusal && !text->gives_ids) {
      text->cacheable = false;
      look_at_catalog(refusals_look_pause);
    }
    if (planned.plan.literals_matter) text->cacheable = false;
    if (planned.plan.column_list) text->names_columns = true;
    const HiddenState hidden = hidden_state(statement, *routing.catalog, settings().read_only_functions);
    planned.changes_hidden_state = hidden.changes;
    planned.changes_session = hidden.changes_session;
    if (statement.code) text->cacheable = false;  // it is a literal
    planned.asks_sequences = hidden.asks_sequences;
    planned.advances_sequences = hidden.advances_sequences;
    planned.sets_sequences = hidden.sets_sequences;
    planned.loads_library = hidden.loads_library;
    note_settings(statement, sql, view, planned);
    const bool cursor = statement.cursor && routing.topology->shard_count() > 1;
    if (!concerns_session(statement) && !cursor && planned.setting_calls.empty()) continue;
    text->session_effects = true;
    // SET x = '1' and SET x = '2' share a fingerprint; so do BEGIN READ ONLY and the same with a comment before it.
    if (!print.slots.empty()) text->cacheable = false;
    text->exact_text = sql;
    planned.statement = std::make_shared<const parser::Statement>(std::move(statement));
  }
  if (!print.exact) text->cacheable = false;
  return text;
}

void WorkerDatabase::adopt(std::unique_ptr<executor::Execution> commit, std::vector<pool::Backend*> backends) {
  session_opened();
  const auto place = orphans_.emplace(orphans_.end());
  *place = std::make_unique<executor::Orphan>(std::move(commit), std::move(backends), [this, place] {
    loop().defer([this, place] {
      orphans_.erase(place);
      session_closed();
    });
  });
}

Result<std::vector<parser::Statement>> WorkerDatabase::parsed_for_several(std::string_view sql,
                                                                          const PlanningView& view) {
  if (misreads(sql, view.lexer))
    return fail(sqlstate::feature_not_supported,
                "backslashes in what runs on several shards need standard_conforming_strings", "SET it to on");
  return parser::postgres::parse(sql);
}

Result<std::optional<router::MergePlan>> WorkerDatabase::merge(const router::Values& values, const PlanningView& view,
                                                               const Routing& routing) {
  const auto statements = parsed_for_several(values.sql, view);
  if (!statements) return std::unexpected(statements.error());
  return router::merge(statements->front(), values, *routing.topology, *routing.catalog, view.session);
}

Result<router::GatherPlan> WorkerDatabase::gather(const router::Values& values, const PlanningView& view,
                                                  const Routing& routing, bool in_transaction) {
  const auto statements = parsed_for_several(values.sql, view);
  if (!statements) return std::unexpected(statements.error());
  auto plan = router::gather(statements->front(), values, *routing.topology, *routing.catalog, view.session,
                             in_transaction, gathered_++);
  if (plan && misreads(plan->statement, view.lexer))
    return fail(sqlstate::feature_not_supported, "backslashes in the query of a view need standard_conforming_strings",
                "SET it to on");
  return plan;
}

Result<router::SplitPlan> WorkerDatabase::split(const router::Values& values, const PlanningView& view,
                                                const Routing& routing) {
  const auto statements = parsed_for_several(values.sql, view);
  if (!statements) return std::unexpected(statements.error());
  return router::split(statements->front(), values, *routing.topology, *routing.catalog, view.session);
}

Result<router::CopyPlan> WorkerDatabase::copy(const router::Values& values, const PlanningView& view,
                                              const Routing& routing) {
  const auto statements = parsed_for_several(values.sql, view);
  if (!statements) return std::unexpected(statements.error());
  return router::copy_plan(statements->front(), values, *routing.topology, *routing.catalog, view.session);
}

// Idle connections are closed at once, the others when they come back: the servers may be restarted then.
void WorkerDatabase::pause() {
  paused_ = true;
  resuming_ = false;
  for (auto& [key, pool] : pools_) {
    pool->pause();
    pool->reconnect();
  }
  ids_.pause();
}

void WorkerDatabase::resume_pools() {
  // Who is served may ask for pools that are not there yet.
  std::vector<pool::Pool*> all;
  for (const auto& [key, pool] : pools_) all.push_back(pool.get());
  for (pool::Pool* pool : all) pool->resume();
  ids_.resume();
}

void WorkerDatabase::reconnect() {
  greetings_.clear();
  for (auto& [key, pool] : pools_) pool->reconnect();
}

void WorkerDatabase::sweep(TimePoint now) {
  if (!superseded_.empty()) drop_superseded();
  if (retired_)
    for (auto& [key, pool] : pools_) pool->reconnect();
  for (auto& [key, pool] : pools_) pool->sweep(now);
  ids_.sweep(now);
  sweep_catalog_pools(now);
  check_catalog(now);
  note_health();
}

// The end of trouble, and clients that were sent away, for the log and the events. (Failed attempts say so themselves.)
void WorkerDatabase::note_health() {
  failing_ = std::ranges::any_of(catalog_pools_, [](const auto& pool) { return !pool->healthy(); });
  for (auto& [key, pool] : pools_) {
    Health& before = health_[pool.get()];
    const bool failing = !pool->last_error().empty();
    failing_ = failing_ || failing;
    const std::uint64_t timeouts = pool->totals().timeouts;
    if (before.failing == failing && before.timeouts == timeouts) continue;
    const pool::Pool::Options& options = pool->options();
    const std::string_view shard = options.endpoint->name;
    if (before.failing && !failing)
      log::info("a shard can be connected to again", {{"database", name_}, {"shard", shard}, {"user", options.user}});
    if (before.timeouts != timeouts)
      log::warn("pool exhausted: clients waited too long for a connection",
                {{"database", name_},
                 {"shard", shard},
                 {"user", options.user},
                 {"clients", std::to_string(timeouts - before.timeouts)}});
    before = {failing, timeouts};
  }
}

void WorkerDatabase::shut_down(const Error& reason) {
  queries_.clear();
  ids_.shut_down(reason);
  for (auto& pool : catalog_pools_) pool->shut_down(reason);
  for (auto& [key, pool] : pools_) pool->shut_down(reason);
}

}  // namespace tessera::proxy
