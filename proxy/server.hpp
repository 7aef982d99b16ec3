// The whole process: listeners, workers, what they share, and the control thread's business (loading, reloading,
// ending). Everything here is thread-safe unless it says otherwise.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "config/load.hpp"
#include "pool/budget.hpp"
#include "pool/key_derivation.hpp"
#include "proxy/admission.hpp"
#include "proxy/auth_query.hpp"
#include "proxy/cancel_registry.hpp"
#include "proxy/chores.hpp"
#include "proxy/console.hpp"
#include "proxy/login_failures.hpp"
#include "proxy/runtime.hpp"
#include "proxy/shard_names.hpp"
#include "proxy/worker.hpp"

namespace tessera::proxy {

class Listener;

class Server {
public:
  // `pid_file`: the command line's, which counts whatever the configuration says; empty: none.
  explicit Server(std::shared_ptr<const config::Config> config, std::string pid_file = {});
  ~Server();

  // Loads certificates, binds the sockets, starts the workers. An error: nothing runs.
  Result<void> start();
  // Until it is known whether the rules fit the tables, or that the shards do not tell; at most so long. Main thread,
  // after the start.
  void wait_for_catalogs(Duration limit) const;
  // The sockets that clients come by. Main thread, before the end begins.
  std::vector<int> listening() const;
  // Takes no new clients. `leave_files`: another process listens on the same sockets from now on.
  enum class SocketFiles { remove, leave };
  void stop_listening(SocketFiles files);
  // …and sends the others away as soon as their transactions have ended.
  void start_draining();
  bool has_clients() const;
  // Ends all workers. Whoever asks them questions (gather.hpp) from other threads must have ended before.
  void stop();
  bool draining() const { return draining_; }

  // Reads the configuration again. On any error nothing changes and the error says why.
  struct ReloadOutcome {
    bool changed = false;
    std::vector<std::string> problems;
    std::vector<std::string> notes;  // of a reload that took place: warnings, keys that need a restart
  };
  ReloadOutcome reload();
  // `then` is called after each reload that took place, on the reloading thread; an empty function ends that.
  void on_reload(std::function<void(const config::Config&)> then);

  pool::KeyDerivation& derivation() { return *derivation_; }
  pool::Budgets& budgets() { return budgets_; }
  Admission& admission() { return admission_; }
  CancelRegistry& cancels() { return cancels_; }
  Chores& chores() { return chores_; }
  ShardNames& names() { return names_; }
  LoginFailures& login_failures() { return login_failures_; }
  const LoginFailures& login_failures() const { return login_failures_; }
  const std::string& mock_key() const { return mock_key_; }
  std::shared_ptr<const Runtime> runtime() const;
  // The configuration as the process runs with it: keys that only a restart applies may stand in the file otherwise.
  std::shared_ptr<const config::Config> config_in_force() const;
  const std::vector<std::unique_ptr<Worker>>& workers() const { return workers_; }
  TimePoint started_at() const { return started_at_; }
  std::uint64_t reloads() const { return reloads_; }

  // What is known of a user: the verifier made from the configuration. Nothing: not configured with one.
  std::optional<postgres::Credential> credential(const std::string& database, const std::string& user) const;
  // The same for the console; the error is for the log.
  Result<postgres::Credential> console_credential(const std::string& user, const std::string& address) const;
  AuthAnswers& auth_answers() { return auth_answers_; }
  Console::Role console_role(const std::string& user) const;

  // A new client's socket, from a listener.
  void dispatch(net::Descriptor socket, const net::SocketAddress& peer);
  // True: a session has this key; its statement is being cancelled, and `requester` on `from` will be told.
  bool cancel(std::uint32_t pid, std::string_view secret, Worker& from, SessionId requester);
  // A worker has read a database's catalog: builds the topology, on the thread for chores, and gives both to all
  // workers.
  void publish_catalog(const std::string& database, std::shared_ptr<const router::Catalog> catalog,
                       std::uint64_t reading);
  RoutingRef routing(const std::string& database) const;

private:
  using Credentials = std::map<std::pair<std::string, std::string>, postgres::Credential>;  // (database, user)
  struct PlainSource {
    std::string password_digest;
    postgres::Credential credential;
  };
  void make_credentials(const config::Config& config);
  RoutingMap make_routings(const Runtime& runtime, ReloadOutcome& outcome);
  void take_over(const std::shared_ptr<const Runtime>& runtime, const RoutingMap& routings);
  Result<void> follow_names(const Runtime& seen);
  Result<RoutingRef> make_routing(const DatabaseRuntime& database,
                                  const std::shared_ptr<const router::Catalog>& catalog);
  void publish_routing(const std::string& name, const std::shared_ptr<const router::Catalog>& catalog,
                       std::uint64_t reading);
  void note_unfit(const std::string& name, const std::shared_ptr<const router::Catalog>& catalog, const Error& reason);
  void note_fit(const std::string& name);

  std::unique_ptr<pool::KeyDerivation> derivation_;
  pool::Budgets budgets_;
  Admission admission_;
  CancelRegistry cancels_;
  LoginFailures login_failures_;
  AuthAnswers auth_answers_;
  std::string mock_key_;
  TimePoint started_at_;
  std::atomic<bool> draining_ = false;
  std::atomic<std::uint64_t> reloads_ = 0;
  std::atomic<std::uint64_t> next_routing_version_ = 1;
  // One reload or new catalog at a time; guards on_reload_, newest_reading_ and unfit_.
  std::mutex reload_mutex_;
  std::map<std::string, std::uint64_t> newest_reading_;  // of each database's catalog that was published
  struct Unfit {
    std::shared_ptr<const router::Catalog> catalog;
    std::string reason;
  };
  std::map<std::string, Unfit> unfit_;  // the newest catalogs that the rules of their databases do not fit
  std::function<void(const config::Config&)> on_reload_;

  const std::shared_ptr<const config::Config> config_;  // of the start
  const std::string pid_file_;

  mutable std::mutex mutex_;  // guards what follows
  std::shared_ptr<const Runtime> runtime_;
  Credentials credentials_;
  std::map<std::string, PlainSource> derived_;  // by database/user: verifiers made from plain passwords
  RoutingMap routings_;

  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  Chores chores_;  // its jobs use all of the above
  ShardNames names_{[this](const Runtime& seen) { return follow_names(seen); }};
};

}  // namespace tessera::proxy
