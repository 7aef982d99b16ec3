// One database as one worker sees it: its pools, its plan cache, its counters, and the routing snapshot in force.
// Without locks: everything happens on the worker's thread, and what comes from outside (a new configuration, a new
// catalog) is posted to it.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "executor/orphan.hpp"
#include "parser/fingerprint.hpp"
#include "pool/text_query.hpp"
#include "proxy/id_sources.hpp"
#include "proxy/metrics.hpp"
#include "proxy/runtime.hpp"
#include "proxy/statement_table.hpp"
#include "router/copy.hpp"
#include "router/gather.hpp"
#include "router/merge.hpp"
#include "router/plan_cache.hpp"
#include "router/planner.hpp"
#include "router/split.hpp"

namespace tessera::proxy {

// What a session's planning depends on.
struct PlanningView {
  router::SessionView session;
  std::uint64_t meaning = 0;  // hash of the above
  parser::LexerMode lexer;
  bool cacheable = true;  // false: the session has temporary tables of its own
};

// What a server tells a new session: once for each user and set of start-up settings.
struct Greeting {
  pool::ParameterMap parameters;  // ParameterStatus
  std::string search_path;        // its effective value, defaults of role and database included
};
using GreetingRef = std::shared_ptr<const Greeting>;

class WorkerDatabase {
public:
  struct Shared {  // belongs to the process
    pool::Budgets* budgets;
    pool::KeyDerivation* derivation;
    // Publishes a catalog that this worker has loaded to all workers. `reading` grows with each reading that begins:
    // what an earlier one has found may have changed since.
    std::function<void(const std::string& database, std::shared_ptr<const router::Catalog>, std::uint64_t reading)>
        publish_catalog;
  };

  WorkerDatabase(std::shared_ptr<const DatabaseRuntime> runtime, net::EventLoop& loop, Shared shared);
  ~WorkerDatabase();

  const std::string& name() const { return name_; }
  const DatabaseRuntime& runtime() const { return *runtime_; }
  std::shared_ptr<const DatabaseRuntime> runtime_ref() const { return runtime_; }
  const config::Database& settings() const { return *runtime_->settings; }
  std::shared_ptr<const config::Database> shared_settings() const { return {runtime_->config, runtime_->settings}; }
  std::size_t shard_count() const { return runtime_->primaries.size(); }
  DatabaseMetrics& metrics() { return *metrics_; }
  net::EventLoop& loop() { return *loop_; }
  pool::KeyDerivation& derivation() { return *shared_.derivation; }

  // `routing`: what fits the new configuration; null: the catalog has not been read yet.
  void reconfigure(std::shared_ptr<const DatabaseRuntime> runtime, RoutingRef routing);
  void set_routing(RoutingRef routing);
  // The rules do not fit the catalog that was just read and has this digest: statements are refused until they do.
  void routing_failed(const Error& reason, const std::string& digest);
  const std::optional<Error>& routing_problem() const { return routing_problem_; }
  // …and clients are refused for it: a database of one shard goes on by what it has known before.
  bool refuses_for_routing() const { return routing_problem_ && (!routing_ || shard_count() > 1); }
  // It has left the configuration: no new session comes, and those that there are end after their transactions.
  void retire();
  bool retired() const { return retired_; }
  // Are there servers that the last attempts to connect have failed with?
  bool failing() const { return failing_; }
  void session_opened() { ++sessions_; }
  void session_closed() { --sessions_; }
  std::size_t sessions() const { return sessions_; }
  const RoutingRef& routing() const { return routing_; }
  // Routing needs the catalog before the first statement can be planned. True: it is there. False: it is being loaded
  // through `identity`'s pool, and `then` is called with the outcome.
  bool ensure_catalog(const pool::IdentityRef& identity, std::function<void(const Result<void>&)> then);
  // The shard whose catalog counts.
  ShardId catalog_shard() const;
  // After definitions through us: read again. The number of that reading.
  std::uint64_t catalog_changed(const pool::IdentityRef& identity);
  // What `catalog_queries` were answered.
  Result<std::shared_ptr<router::Catalog>> read_catalog(const Result<pool::TextQuery::Answer>& answer) const;
  // True: statements are planned by that reading, or a later one. False: not yet, and `then` is called when they are,
  // or when it has failed.
  bool await_catalog(std::uint64_t reading, std::function<void(const Result<void>&)> then);

  // Made when it is first asked for; valid while the session that asks is in a message, or holds a connection of it.
  pool::Pool& pool(const pool::IdentityRef& identity, const std::string& user, ShardId shard);
  // A pool of one connection beside the user's own, for what a connection must be kept for; the caller sweeps it.
  // `complain`: what is to be said of attempts that fail, if not the usual.
  std::unique_ptr<pool::Pool> own_pool(const pool::IdentityRef& identity, const std::string& user, ShardId shard,
                                       const std::string& purpose, std::function<void(const Error&)> complain = {});
  config::Pool own_limits() const;
  // The pool of the authentication query: one connection for all workers, which does not count among the shard's.
  std::unique_ptr<pool::Pool> auth_pool(const pool::IdentityRef& identity, ShardId shard);
  config::Pool auth_limits() const;
  // Where questions about users go: the default shard, or the first.
  const pool::EndpointRef& asked_endpoint() const;
  // Room for a connection beside the pools that counts among its shard's.
  std::shared_ptr<pool::Budget> single_budget(const pool::Endpoint& endpoint) const;
  // As whom a client works on the servers. Its pools are kept under the role's name and take new credentials over.
  pool::IdentityRef identity(const std::string& role, const postgres::ServerCredential& credential);
  // One object for equal prepared statements.
  pool::PreparedTextRef intern(std::string_view sql, const std::vector<postgres::Oid>& types,
                               std::string_view parse_settings, std::string_view name_settings);
  template <typename Visit>
  void each_pool(Visit&& visit) {
    for (auto& [key, pool] : pools_) visit(*pool);
  }

  // The plan of a text, from the cache or made anew. Valid until the next call. `print` is filled with the text's
  // literals.
  // `routing`: today's, or an older one that a transaction began with; only the former has a cache.
  const router::PlannedText& plan(std::string_view sql, const PlanningView& view, const RoutingRef& routing,
                                  parser::Fingerprint& print, router::PlannedTextRef* keep);

  // Finishes a commit whose client has gone.
  void adopt(std::unique_ptr<executor::Execution> commit, std::vector<pool::Backend*> backends);
  // The statements of a text that does not go to one shard as it is.
  static Result<std::vector<parser::Statement>> parsed_for_several(std::string_view sql, const PlanningView& view);
  // How the rows of a statement over several shards come together. Made for one execution.
  Result<router::SplitPlan> split(const router::Values& values, const PlanningView& view, const Routing& routing);
  Result<router::CopyPlan> copy(const router::Values& values, const PlanningView& view, const Routing& routing);
  // None: it cannot be merged with these values.
  Result<std::optional<router::MergePlan>> merge(const router::Values& values, const PlanningView& view,
                                                 const Routing& routing);
  Result<router::GatherPlan> gather(const router::Values& values, const PlanningView& view, const Routing& routing,
                                    bool in_transaction);

  // A number for the settings that a plan depends on. With a secret: users choose the text, and share the cache.
  std::uint64_t meaning_of(std::string_view settings);

  // The greeting for a session, at once if it is known (then `then` is not called), else asked of a server.
  using GreetingDone = std::function<void(const Result<GreetingRef>&)>;
  GreetingRef greeting(const pool::IdentityRef& identity, ShardId shard, const pool::Settings& settings,
                       GreetingDone then);

  // PAUSE, RESUME, RECONNECT: all pools, also those that are made while it lasts.
  void pause();
  void resume();
  void reconnect();
  bool paused() const { return paused_; }
  // After RESUME, until the catalog is known as the servers have it now: nothing runs yet.
  bool resuming() const { return resuming_; }
  // A PAUSE holds for the database that takes another one's place; sessions of that one will come over.
  void inherit(const WorkerDatabase& before);
  void catalog_is_read();

  // Where values for serial and identity columns come from.
  IdSources& ids() { return ids_; }

  const StatementTable& statements() const { return statements_; }

  void sweep(TimePoint now);
  void shut_down(const Error& reason);

private:
  void drop_superseded();
  void check_catalog(TimePoint now);
  bool look_is_due(TimePoint now, TimePoint looked_at);
  void look_unasked(TimePoint now);
  void looked_unasked(const DatabaseRuntime& asked, std::uint64_t reading,
                      const Result<pool::TextQuery::Answer>& answer);
  void note_catalog_failure(const Error& reason);
  void look_at_catalog(Duration pause);
  void read_catalog_to_resume(TimePoint now);
  void sweep_catalog_pools(TimePoint now);
  void resume_pools();
  pool::IdentityRef connected_identity() const;
  pool::IdentityRef likely_identity() const;
  pool::IdentityRef configured_identity() const;
  std::uint64_t activity() const;
  config::Pool pool_limits(const std::string& role) const;
  void run(pool::Pool& pool, pool::Settings settings, std::vector<std::string> queries,
           std::function<void(Result<pool::TextQuery::Answer>)> done);
  router::PlannedTextRef make_plan(std::string_view sql, const PlanningView& view, const Routing& routing,
                                   const parser::Fingerprint& print);
  void note_health();

  std::string name_;
  std::shared_ptr<const DatabaseRuntime> runtime_;
  net::EventLoop* loop_;
  Shared shared_;
  RoutingRef routing_;
  std::optional<Error> routing_problem_;
  std::string unfit_digest_;     // of the catalog that the problem was found with; empty: another configuration since
  std::string catalog_failure_;  // why it could not be read, as the log has it
  bool retired_ = false;
  std::size_t sessions_ = 0;
  StatementTable statements_;  // before the plans that hold its entries
  router::PlanCache cache_;
  std::string meaning_key_;
  struct {
    std::string settings;  // never empty, once there is one
    std::uint64_t number = 0;
  } last_meaning_;
  router::PlannedTextRef uncached_;
  struct PoolKey {
    const pool::Identity* identity;  // the pool keeps it
    ShardId shard;
    friend bool operator==(const PoolKey&, const PoolKey&) = default;
  };
  struct PoolKeyHash {
    std::size_t operator()(const PoolKey& key) const {
      return std::hash<const void*>()(key.identity) * 31 + key.shard.value();
    }
  };
  std::unordered_map<PoolKey, std::unique_ptr<pool::Pool>, PoolKeyHash> pools_;
  std::unordered_map<std::string, pool::IdentityRef> identities_;  // by role and credential
  std::set<pool::IdentityRef> superseded_;                         // their roles have newer credentials
  std::unordered_map<std::string, std::weak_ptr<const pool::PreparedText>> prepared_texts_;  // by server name
  std::size_t sweep_prepared_at_ = 1024;
  std::unordered_map<std::string, GreetingRef> greetings_;
  std::vector<std::unique_ptr<pool::Pool>> catalog_pools_;  // for reading the catalog while all others are held back
  std::unordered_map<std::uint64_t, std::unique_ptr<pool::TextQuery>> queries_;  // under way
  std::uint64_t next_query_ = 0;
  struct Health {
    bool failing = false;
    std::uint64_t timeouts = 0;
  };
  std::unordered_map<const pool::Pool*, Health> health_;  // as the log has it
  bool failing_ = false;                                  // some server did not answer, at the last look
  bool loading_catalog_ = false;
  bool looking_ = false;                    // for changes: one look at a time, however many are asked for meanwhile
  std::optional<TimePoint> look_asked_at_;  // a look at the catalog is wanted, whatever the interval says
  Duration look_pause_{};
  std::uint32_t gathered_ = 0;
  std::uint64_t texts_planned_ = 0;       // or found in the cache
  std::uint64_t activity_looked_at_ = 0;  // when this worker has looked
  bool paused_ = false, resuming_ = false;
  pool::IdentityRef inherited_;  // somebody of whom the database that was here before has known
  TimePoint read_again_at_{};    // while resuming, if nothing has come of the last reading by then
  std::unique_ptr<DatabaseMetrics> metrics_;
  std::vector<std::function<void(const Result<void>&)>> waiting_for_catalog_;
  IdSources ids_;
  std::list<std::unique_ptr<executor::Orphan>> orphans_;  // last: they give back to the pools
};

}  // namespace tessera::proxy
