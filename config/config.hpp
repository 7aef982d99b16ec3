// The configuration: plain, validated, immutable values. `load` (config/load.hpp) reads YAML and reports every mistake
// at once, so whoever holds a `Config` may rely on what the comments here promise. Shared between all threads as
// `std::shared_ptr<const Config>`; a reload makes a new one.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/secret.hpp"

namespace tessera::config {

using Milliseconds = std::chrono::milliseconds;

// host:port. Host is a name, an IPv4 or IPv6 address, or, beginning with '/', the directory of a Unix socket.
struct Address {
  std::string host;
  std::uint16_t port = 0;
  std::string text() const;  // "host:port", IPv6 in brackets
  friend bool operator==(const Address&, const Address&) = default;
};

// Where in the file a thing stood; kept for errors found later (ports in use, wrong passwords).
struct SourcePosition {
  std::string file;
  int line = 0;    // 1-based
  int column = 0;  // 1-based
  friend bool operator==(const SourcePosition&, const SourcePosition&) = default;
};

enum class ClientTlsMode { disable, allow, prefer, require, verify_ca, verify_full };  // allow and prefer mean the same

struct ClientTls {
  ClientTlsMode mode = ClientTlsMode::disable;
  std::string certificate;  // PEM files
  std::string private_key;
  std::string client_ca;  // for verify_ca (any certificate it signed) and verify_full (its CN is the user's name)
  std::string min_version = "1.2";
};

struct Listen {
  std::optional<Address> postgres;
  std::optional<Address> mysql;
  ClientTls tls;
  std::vector<std::string> proxy_protocol_from;  // CIDR networks whose PROXY header is believed; empty: off
  int backlog = 4096;
  Milliseconds login_timeout{15'000};
  int max_clients_per_address = 0;  // 0: unlimited
  int max_clients = 0;              // in total; 0: as many as file descriptors allow
};

enum class AdminRole { viewer, operator_, admin };
struct AdminToken {
  AdminRole role;
  Secret token;
};
struct Admin {
  std::optional<Address> listen;
  std::vector<AdminToken> tokens;
  std::string certificate;  // both empty: plain HTTP, loopback only
  std::string private_key;
  std::vector<std::string> allowed_hosts;    // Host header values beside the listen address and localhost
  std::vector<std::string> console_admins;   // users of any database who may use the console, with all commands…
  std::vector<std::string> console_viewers;  // …or with SHOW only
};

enum class LogFormat { logfmt, json };
enum class LogLevel { debug, info, warn, error };
struct Log {
  LogLevel level = LogLevel::info;
  LogFormat format = LogFormat::logfmt;
  std::string file;                            // empty: standard error. Reopened on SIGHUP
  std::optional<Milliseconds> slow_statement;  // log statements slower than this
  bool statement_text = false;                 // slow statements with their literals (else normalised)
};

struct StoreSqlite {
  std::string path;
};
struct StoreEtcd {
  std::vector<std::string> endpoints;
};
using Store = std::variant<std::monostate, StoreSqlite, StoreEtcd>;

enum class BackendTls { disable, prefer, require, verify_ca, verify_full };
enum class BackendAuth { password, passthrough };
enum class UnknownUsers { refuse, passthrough };

struct Backend {
  std::string dbname;  // name of the database on the shards; default: the name clients use
  BackendTls tls = BackendTls::prefer;
  std::string ca;  // PEM file; empty: the system's
  std::string client_certificate;
  std::string client_key;
  BackendAuth auth = BackendAuth::passthrough;
  UnknownUsers unknown_users = UnknownUsers::refuse;  // who is not listed; without auth_query only
  std::string user;                                   // for BackendAuth::password: every client shares this server role
  Secret password;
  Milliseconds connect_timeout{5'000};
  Milliseconds resolve_interval{15'000};  // how often host names of shards are looked up again; 0: never
};

struct Replica {
  Address address;
  std::string zone;
  int weight = 1;  // >= 1
};

struct Shard {
  std::string name;
  Address primary;
  std::vector<Replica> replicas;
  std::string dbname;  // empty: backend.dbname
  SourcePosition position;
};

enum class PoolMode { transaction, session, statement };

struct Pool {
  PoolMode mode = PoolMode::transaction;
  int size = 20;                         // server connections per (user, shard, role), all workers together; >= 1
  int min_idle = 0;                      // <= size
  int max_server_connections = 0;        // per shard over all users; 0: unlimited
  Milliseconds checkout_timeout{5'000};  // longest wait for a connection; 0: none
  Milliseconds idle_timeout{600'000};    // 0: never
  Milliseconds max_lifetime{3'600'000};  // 0: never
  Milliseconds health_interval{30'000};  // an idle connection unused for longer is checked before use; 0: never
  Milliseconds reconnect_min{100};       // back-off after a failed connect, doubled up to the maximum
  Milliseconds reconnect_max{15'000};
  std::string reset_query;        // beside Tessera's own reset; empty: none
  int prepared_statements = 500;  // kept per server connection, least recently used out
};

enum class Consistency { strong, session, bounded, eventual };
struct Reads {
  Consistency consistency = Consistency::session;
  Milliseconds max_lag{5'000};
  Milliseconds freshness_wait{50};
};

struct Limits {
  int clients = 10'000;
  std::uint64_t merge_memory = 64ull << 20;
  Milliseconds statement_timeout{0};
  Milliseconds idle_in_transaction_timeout{0};
  Milliseconds client_idle_timeout{0};
  std::uint64_t message_size = 1ull << 30;  // bytes, largest message from a client or a server that is held in memory
  std::uint64_t prepared_memory = 64ull << 20;  // bytes, for the prepared statements of one client
  int plan_cache = 10'000;                      // plan templates per worker
};

enum class HashFunction { postgres, md5, crc32 };

struct HashRule {
  HashFunction function = HashFunction::postgres;
  int buckets = 1024;                // >= 1, <= 65536
  std::vector<std::string> shards;   // buckets are dealt to them in contiguous, equal runs…
  std::map<int, std::string> moved;  // …unless listed here: bucket -> shard
};
struct ConsistentHashRule {
  HashFunction function = HashFunction::postgres;
  int virtual_nodes = 150;  // per unit of weight
  std::vector<std::string> shards;
  std::map<std::string, int> weights;  // shards not listed weigh 1
};
struct RangeRule {
  struct Range {
    std::optional<std::string> below;  // exclusive upper bound in the key's text form; only the last has none
    std::string shard;
    SourcePosition position;
  };
  std::vector<Range> ranges;  // in ascending order of `below` once the key's type is known
};
// A name that is either a rule or a shard.
struct Destination {
  std::string name;
  bool is_rule = false;
};
struct DirectoryRule {
  std::map<std::string, std::string> entries;  // key in text form -> shard
  std::optional<Destination> otherwise;        // none: a key without an entry is refused
};
struct GeographyRule {
  struct Region {
    std::string name;
    std::vector<std::string> countries;  // values of the key column, compared without regard to ASCII case
    Destination destination;
  };
  std::vector<Region> regions;
  std::optional<Destination> otherwise;
};
struct EmbeddedRule {
  int shard_shift = 10;  // the shard number stands in bits [shift, shift+bits) of the 64-bit id
  int shard_bits = 13;
  std::vector<std::string> shards;  // by number; empty: all shards of the database in order
};
struct CompositeRule {
  std::vector<std::string> of;  // rules, first decides unless it leads to the next (geography/directory -> rule)
};

struct Rule {
  std::string name;
  std::variant<HashRule, ConsistentHashRule, RangeRule, DirectoryRule, GeographyRule, EmbeddedRule, CompositeRule> kind;
  SourcePosition position;
};

struct Table {
  std::string schema = "public";
  std::string name;
  // Exactly one of: a rule with its key columns, a reference table, a fixed shard.
  std::string rule;                  // empty: not sharded
  std::vector<std::string> key;      // one column; as many as a composite rule has parts
  std::string key_type;              // optional, for offline `explain` and checked against the catalog; e.g. "bigint"
  std::vector<std::string> columns;  // optional, in order, for offline `explain` of INSERT without a column list
  bool reference = false;
  std::string shard;
  std::string id;                   // "" or "snowflake"
  std::string id_column;            // which column `id` is for; empty: the key
  std::vector<std::string> unique;  // unique columns that are not the key
  // `key_type` taken apart, one for each key column: "text, numeric(10, 2)".
  std::vector<std::string> key_types() const;
  SourcePosition position;
};

constexpr const char* local_clients = "local";  // users[].from: clients of Unix sockets

struct User {
  std::string name;
  // How the client proves who it is: at most one of password and verifier; neither: auth_query or pass-through.
  Secret password;
  Secret verifier;  // SCRAM-SHA-256$… or md5…
  bool trust = false;
  std::vector<std::string> from;  // CIDR networks, or "local" for Unix sockets; empty: anywhere
  int max_clients = 0;            // 0: unlimited
  std::optional<int> pool_size;
  std::optional<PoolMode> pool_mode;
  std::string backend_user;  // role on the shards; default: the same name
  Secret backend_password;   // for shards that want another password than the client's
  bool has_no_proof() const { return password.empty() && verifier.empty() && !trust; }
  bool mistaken = false;  // while loading: a problem of the user's own was reported, so the rest may be missing
  SourcePosition position;
};

struct AuthQuery {
  std::string user;  // role that may run it
  Secret password;
  std::string query;  // one parameter, the name; two columns: name, verifier; empty: pg_authid is asked
  std::string shard;  // where it runs; empty: default_shard or the first
};

enum class CrossShardTransactions { two_phase, single_shard };

struct Database {
  std::string name;    // as clients give it
  bool mysql = false;  // engine
  Backend backend;
  std::vector<Shard> shards;  // at least one, in file order; names unique
  Pool pool;
  Reads reads;
  Limits limits;
  std::string default_shard;  // may be empty
  std::string merge_node;     // may be empty
  bool hints = false;         // are /* tessera: … */ hints and SET tessera.shard allowed
  CrossShardTransactions cross_shard_transactions = CrossShardTransactions::two_phase;
  std::vector<Rule> rules;  // every rule named elsewhere exists; no cycles
  std::vector<Table> tables;
  std::vector<User> users;
  std::optional<AuthQuery> auth_query;
  std::vector<std::string> read_only_functions;
  Milliseconds catalog_interval{60'000};  // how often the shards' catalog is looked at for changes; 0: never
  SourcePosition position;
};

// What clients connect to for the administration console; no database has this name.
inline constexpr std::string_view console_database = "pgbouncer";

struct Config {
  Listen listen;
  Admin admin;
  int workers = 0;       // 0: one per core
  bool io_uring = true;  // send by io_uring where the kernel lets us
  Store store;
  Log log;
  Milliseconds drain_timeout{60'000};  // SIGTERM: longest wait for transactions to end
  std::string pid_file;
  std::vector<Database> databases;
  std::string source;  // path of the file it came from

  const Database* find_database(std::string_view name) const;
};

}  // namespace tessera::config
