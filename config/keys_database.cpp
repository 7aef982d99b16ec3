#include "config/keys.hpp"

namespace tessera::config {
namespace {

using key::choice;
using key::int_max;
using key::integer;
using key::not_yet;
using key::of;
using key::required;
using key::section;
using key::size;
using key::without_effect;

constexpr Key backend_keys[] = {
    of(Kind::text, "dbname", "Name of the database on the shards; absent: the name that clients use."),
    choice("tls", backend_tls_modes, "prefer", "TLS between Tessera and the shards, as libpq's sslmode."),
    of(Kind::pem, "ca", "PEM file with the authorities that sign the shards' certificates; absent: the system's."),
    of(Kind::pem, "client_certificate", "PEM file with the certificate that Tessera shows to shards."),
    of(Kind::pem, "client_key", "PEM file with its private key."),
    choice("auth", backend_auths, {},
           "passthrough: log in as the client's own role. password: every client shares `user`. Default: password if "
           "`user` is given, else passthrough."),
    choice("unknown_users", unknown_users_choices, "refuse",
           "Users that are not listed; passthrough: the shards decide, by the password."),
    of(Kind::text, "user", "The server role that all clients share."),
    of(Kind::secret, "password", "Its password."),
    of(Kind::duration, "connect_timeout", "Longest wait for a connection to a shard, authentication included.", "5s"),
    of(Kind::duration, "resolve_interval",
       "How often the host names of shards are looked up again; sooner when a server does not answer; 0: never.",
       "15s"),
};
constexpr SectionSpec backend_section{"backend", backend_keys};

constexpr Key replica_keys[] = {
    required(of(Kind::address, "address", "host:port of the replica.")),
    of(Kind::text, "zone", "Where it stands; reads prefer the proxy's own zone."),
    integer("weight", 1, 1'000'000, "1", "Its part of the reads, relative to the others."),
};
constexpr SectionSpec replica_section{"a replica", replica_keys};

constexpr Key shard_keys[] = {
    required(of(Kind::address, "primary", "host:port of the primary, or a Unix socket as /folder:port.")),
    without_effect(
        section(Kind::sections, "replicas", replica_section, "Its read replicas; no effect in this version.")),
    of(Kind::text, "dbname", "Name of the database on this shard; absent: that of the backend section."),
};
constexpr SectionSpec shard_section{"a shard", shard_keys};

constexpr Key pool_keys[] = {
    choice("mode", pool_modes, "transaction", "How long a client keeps a server connection."),
    integer(
        "size", 1, 100'000, "20",
        "Server connections per user, shard and role. Statements over several shards need one besides those that their "
        "session keeps (session pooling, temporary tables, locks), so at least 2 there."),
    integer("min_idle", 0, 100'000, "0", "Connections that are kept open without work; at most `size`."),
    integer("max_server_connections", 0, int_max, "0", "Server connections per shard over all users; 0: unlimited."),
    of(Kind::duration, "checkout_timeout", "Longest wait for a server connection; 0: no limit.", "5s"),
    of(Kind::duration, "idle_timeout", "An unused connection is closed after this; 0: never.", "10m"),
    of(Kind::duration, "max_lifetime", "A connection is replaced after this; 0: never.", "1h"),
    of(Kind::duration, "health_interval", "A connection idle for longer is checked before use; 0: never.", "30s"),
    of(Kind::duration, "reconnect_min", "First pause after a failed connect; it doubles.", "100ms"),
    of(Kind::duration, "reconnect_max", "Longest pause after failed connects.", "15s"),
    of(Kind::text, "reset_query", "Run on a connection before another client gets it, beside Tessera's own reset."),
    integer("prepared_statements", 0, 1'000'000, "500", "Prepared statements kept per server connection."),
};
constexpr SectionSpec pool_section{"pool", pool_keys};

constexpr Key reads_keys[] = {
    choice("consistency", consistencies, "session", "Which replicas may answer a read."),
    of(Kind::duration, "max_lag", "A replica further behind is not read from.", "5s"),
    of(Kind::duration, "freshness_wait", "Longest wait for a replica to catch up before the primary is asked.", "50ms"),
};
constexpr SectionSpec reads_section{"reads", reads_keys};

constexpr Key limits_keys[] = {
    integer("clients", 1, int_max, "10000", "Most clients of this database."),
    without_effect(size("merge_memory", 1 << 16, std::int64_t{1} << 40, "64MB",
                        "Memory for merging rows of one statement; no effect in this version.")),
    of(Kind::duration, "statement_timeout", "Longest statement; 0: no limit.", "0"),
    of(Kind::duration, "idle_in_transaction_timeout", "Longest pause inside a transaction; 0: no limit.", "0"),
    of(Kind::duration, "client_idle_timeout", "A client silent for longer is disconnected; 0: never.", "0"),
    size("message_size", 1 << 13, std::int64_t{1} << 30, "1GB", "Largest protocol message that is held in memory."),
    size("prepared_memory", 1 << 16, std::int64_t{1} << 40, "64MB",
         "Memory for the prepared statements of one client, and as much for its portals: texts, and 1 kB for each."),
    integer("plan_cache", 0, 10'000'000, "10000", "Plans kept per worker."),
};
constexpr SectionSpec limits_section{"limits", limits_keys};

constexpr Key type_key = required(of(Kind::text, "type", "The kind of rule."));
constexpr Key function_key = choice("function", hash_functions, "postgres", "The hash function.");
constexpr Key otherwise_key =
    of(Kind::text, "otherwise", "Rule or shard for all other keys; absent: such a key is refused.");

constexpr Key hash_keys[] = {
    type_key,
    function_key,
    integer("buckets", 1, 65536, "1024", "Number of buckets; it cannot change later."),
    required(of(Kind::texts, "shards", "Shards that the buckets are dealt to, in contiguous, equal runs.")),
    of(Kind::named_texts, "moved", "Buckets that live elsewhere: a bucket or a run of them (20-29) to a shard."),
};
constexpr SectionSpec hash_section{"a hash rule", hash_keys};

constexpr Key ring_keys[] = {
    type_key,
    function_key,
    integer("virtual_nodes", 1, 10'000, "150", "Points on the ring per unit of weight."),
    required(of(Kind::texts, "shards", "Shards on the ring.")),
    of(Kind::named_texts, "weights", "Shard to weight; a shard that is not listed weighs 1."),
};
constexpr SectionSpec ring_section{"a consistent_hash rule", ring_keys};

constexpr Key bound_keys[] = {
    of(Kind::text, "below", "Exclusive upper bound; only the last range has none."),
    required(of(Kind::text, "shard", "Shard of the keys below it.")),
};
constexpr SectionSpec bound_section{"a range", bound_keys};
constexpr Key range_keys[] = {
    type_key,
    required(section(Kind::sections, "ranges", bound_section, "The ranges, in ascending order.")),
};
constexpr SectionSpec range_section{"a range rule", range_keys};

constexpr Key directory_keys[] = {
    type_key,
    of(Kind::named_texts, "entries", "Key to shard."),
    of(Kind::path, "entries_file", "File with further entries, a line each: key,shard."),
    otherwise_key,
};
constexpr SectionSpec directory_section{"a directory rule", directory_keys};

constexpr Key region_keys[] = {
    required(of(Kind::texts, "countries", "Values of the key column, ASCII case counting nothing.")),
    of(Kind::text, "shard", "The region's shard."),
    of(Kind::text, "rule", "Instead of a shard: the rule that decides inside the region."),
};
constexpr SectionSpec region_section{"a region", region_keys};
constexpr Key geography_keys[] = {
    type_key,
    required(section(Kind::named_sections, "regions", region_section, "The regions, by name.")),
    otherwise_key,
};
constexpr SectionSpec geography_section{"a geography rule", geography_keys};

constexpr Key embedded_keys[] = {
    type_key,
    integer("shard_shift", 0, 62, "10", "Lowest bit of the shard number inside the 64-bit id."),
    integer("shard_bits", 1, 32, "13", "Number of bits of the shard number."),
    of(Kind::texts, "shards", "Shards by number, from 0; absent: all shards in order."),
};
constexpr SectionSpec embedded_section{"an embedded rule", embedded_keys};

constexpr Key composite_keys[] = {
    type_key,
    required(of(Kind::texts, "of", "The rules, one for each key column.")),
};
constexpr SectionSpec composite_section{"a composite rule", composite_keys};

constexpr Variant rule_variants[] = {
    {"hash", &hash_section},           {"consistent_hash", &ring_section}, {"range", &range_section},
    {"directory", &directory_section}, {"geography", &geography_section},  {"embedded", &embedded_section},
    {"composite", &composite_section},
};
constexpr SectionSpec rule_section{"a rule", {}, "type", rule_variants};

constexpr Key table_keys[] = {
    of(Kind::text, "rule", "The rule that spreads the rows."),
    of(Kind::texts, "key", "The sharding key: a column, or for a composite rule a list of them."),
    of(Kind::text, "key_type",
       "SQL type of the key (of a composite key a list: text, bigint; of a domain the type beneath it); checked "
       "against the catalog, and used by "
       "offline explain."),
    of(Kind::texts, "columns", "All columns in order, for offline explain."),
    of(Kind::boolean, "reference", "The table is the same on every shard.", "false"),
    of(Kind::text, "shard", "The table lives on this shard only."),
    choice("id", id_kinds, {},
           "INSERTs that leave the key (or `id_column`) out are given an id that is unique and grows with time. Needs "
           "`default_shard`."),
    of(Kind::text, "id_column", "The column, of the type bigint, that `id` is for, if that is not the key."),
    not_yet(
        of(Kind::texts, "unique", "Columns other than the key that are unique over all shards; not in this version."),
        "leave it out: each shard's own unique index holds on that shard only"),
};
constexpr SectionSpec table_section{"a table", table_keys};

constexpr Key user_keys[] = {
    required(of(Kind::text, "name", "The name that clients log in with.")),
    of(Kind::secret, "password", "The password in clear."),
    of(Kind::secret, "scram", "A SCRAM-SHA-256 verifier as in pg_authid."),
    of(Kind::secret, "md5", "An md5 verifier as in pg_authid."),
    of(Kind::boolean, "trust", "No proof is asked for.", "false"),
    of(Kind::texts, "from", "Networks from which this user may connect, or local for Unix sockets; absent: anywhere."),
    integer("max_clients", 0, int_max, "0", "Most clients of this user; 0: unlimited."),
    integer("pool_size", 1, 100'000, {}, "pool.size for this user."),
    choice("pool_mode", pool_modes, {}, "pool.mode for this user."),
    of(Kind::text, "backend_user", "Role on the shards; absent: the same name."),
    of(Kind::secret, "backend_password", "Password on the shards, if it is another one than the client's."),
};
constexpr SectionSpec user_section{"a user", user_keys};

constexpr Key auth_query_keys[] = {
    required(of(Kind::text, "user", "Role that runs the query.")),
    of(Kind::secret, "password", "Its password."),
    of(Kind::text, "query",
       "One parameter, $1: the name. Two columns: name and verifier. Absent: pg_authid is asked, and NOLOGIN and VALID "
       "UNTIL count."),
    of(Kind::text, "shard", "Where it runs; absent: default_shard, or the first shard."),
};
constexpr SectionSpec auth_query_section{"auth_query", auth_query_keys};

constexpr Key database_keys[] = {
    choice("engine", engines, "postgres", "What the shards are; mysql is not in this version."),
    section(Kind::section, "backend", backend_section, "How Tessera logs in to the shards."),
    required(section(Kind::named_sections, "shards", shard_section, "The shards, by name.")),
    section(Kind::section, "pool", pool_section, "Server connections."),
    without_effect(section(Kind::section, "reads", reads_section, "Reads from replicas; no effect in this version.")),
    section(Kind::section, "limits", limits_section, "Limits."),
    of(Kind::text, "default_shard", "Shard of tables that are not listed; absent: they are refused."),
    without_effect(
        of(Kind::text, "merge_node", "Shard where gathered statements are finished; no effect in this version.")),
    of(Kind::boolean, "hints", "Are routing hints in comments and SET tessera.shard believed.", "false"),
    choice("cross_shard_transactions", cross_shard_choices, "two_phase",
           "Transactions over several shards: `single_shard` refuses them; with `two_phase` this version commits on "
           "one shard "
           "after the other."),
    section(Kind::named_sections, "rules", rule_section, "The sharding rules, by name."),
    section(Kind::named_sections, "tables", table_section, "The tables: name, or schema.name."),
    section(Kind::sections, "users", user_section, "Who may log in."),
    section(Kind::section, "auth_query", auth_query_section, "Finds the verifiers of users that are not listed."),
    of(Kind::texts, "read_only_functions",
       "Functions that only read, so that a SELECT with them may go to a replica; they leave nothing in the session "
       "either."),
    of(Kind::duration, "catalog_interval",
       "How soon definitions that were changed on the servers themselves are seen, while statements come; 0: never.",
       "1m"),
};

}  // namespace

constexpr SectionSpec database_section{"a database", database_keys};

}  // namespace tessera::config
