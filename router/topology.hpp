// The topology: which shard owns a key. An immutable snapshot built from the configuration (and later from the topology
// store); statements hold one from start to end. Rules map `key value -> position -> shard`; lookups cost the same
// whatever the number of shards, buckets or directory entries.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/ids.hpp"
#include "config/config.hpp"
#include "router/catalog.hpp"
#include "router/key.hpp"

namespace tessera::router {

// Where a value goes: its shard, and the position that decided (bucket, ring point, range number, entry…), for EXPLAIN.
struct Location {
  ShardId shard;
  std::uint64_t position = 0;
};

class Rule {
public:
  virtual ~Rule() = default;
  // `key` has one value per key column of the table (composite rules: as many as they have parts). Errors: 22023 when
  // the rule has no place for it (a directory without `otherwise`), naming rule and key.
  virtual Result<Location> locate(std::span<const KeyValue> key) const = 0;
  // All shards that the rule can lead to, ascending.
  virtual const std::vector<ShardId>& shards() const = 0;
  // Shards that may own keys in [low, high] (either may be absent); shards() when the rule has no order.
  virtual std::vector<ShardId> locate_range(const KeyValue* low, const KeyValue* high) const;
  // Whether locate_range can tell less than shards().
  virtual bool ordered() const { return false; }
  // A SQL predicate over the (quoted) key columns that is true for just the keys which the rule gives to `shard`.
  virtual std::string predicate(ShardId shard, std::span<const KeyColumn> columns) const = 0;
  // One line for EXPLAIN and the admin endpoint: "hash(postgres), 1024 buckets over s0, s1".
  virtual std::string describe() const = 0;
};

struct TableRouting {
  enum class Kind { sharded, reference, plain };
  std::string schema;
  std::string name;
  Kind kind = Kind::plain;
  RuleId rule;                           // sharded
  std::string rule_name;                 // sharded: as configured
  std::vector<std::string> key_columns;  // sharded
  std::vector<KeyType> key_types;  // sharded, as long as key_columns; empty: not known, the table cannot be routed
  ShardId shard;                   // plain
  // sharded: the column whose values Tessera makes (`id: snowflake`), and the shard numbers that may stand in them.
  std::string id_column;
  std::vector<std::uint32_t> id_slots;
};

class Topology {
public:
  // Fails when the rules cannot be built for the key types in `catalog` (a range bound that is no date, …); each
  // problem is an Error with the configuration's file:line:column in `detail`. Tables missing from the catalog
  // are built from the configuration's key_type, or left to be refused when they are used.
  static Result<std::shared_ptr<const Topology>> build(const config::Database& database, const Catalog& catalog,
                                                       std::uint64_t version);
  // …and remembers the configuration, for misfit().
  static Result<std::shared_ptr<const Topology>> build(const std::shared_ptr<const config::Database>& database,
                                                       const Catalog& catalog, std::uint64_t version);
  // Why it fails: the first problem of each table. Empty: it does not.
  static std::vector<Error> problems(const config::Database& database, const Catalog& catalog);

  std::uint64_t version() const;
  std::size_t shard_count() const;
  std::string_view shard_name(ShardId shard) const;
  std::optional<ShardId> find_shard(std::string_view name) const;
  std::optional<ShardId> default_shard() const;
  // nullptr: the table is not listed in the configuration.
  const TableRouting* find_table(std::string_view schema, std::string_view name) const;
  const std::vector<TableRouting>& tables() const;
  // A rule bound to a key type: the same configured rule over a bigint and over a text key are two.
  const Rule& rule(RuleId id) const;
  std::string_view rule_name(RuleId id) const;
  // Why the rules would not fit any more if this (listed) relation were as it is here. None also if that cannot be
  // told.
  std::optional<Error> misfit(const Relation& relation) const;
  // Two tables are co-located when they have the same RuleId (rule and key types).

private:
  struct Contents;
  class Builder;
  explicit Topology(std::shared_ptr<const Contents> contents);
  std::shared_ptr<const Contents> contents_;
};

}  // namespace tessera::router
