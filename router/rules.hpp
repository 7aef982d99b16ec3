// How configured rules become `Rule` objects. A rule is built for the types of one table's key columns; rules that lead
// to others (directory, geography) own those as further rules, and a destination that is a shard is a rule that always
// gives it, so that nobody needs to tell the two apart. Internal to router; used when a topology is built.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "config/config.hpp"
#include "router/topology.hpp"

namespace tessera::router {

using RulePointer = std::shared_ptr<const Rule>;

// What is known where a rule is built.
struct RuleContext {
  const config::Database& database;
  std::span<const KeyType> types;                // of the key columns
  std::size_t column = 0;                        // the one that this rule looks at
  const config::CompositeRule* parts = nullptr;  // inside a composite rule

  KeyType type() const { return types[column]; }
  Result<ShardId> shard(std::string_view name) const;
  Result<std::vector<ShardId>> shards(const std::vector<std::string>& names) const;
  std::string shard_name(ShardId shard) const;
};

// An error about something in the configuration; its place goes into `detail`.
std::unexpected<Error> config_error(const config::SourcePosition& position, std::string message, std::string hint = {});
std::string place_text(const config::SourcePosition& position);
// 22023: `rule` has no place for `key`.
std::unexpected<Error> no_place(std::string_view rule, const KeyValue& key);

Result<RulePointer> build_rule(const config::Rule& rule, const RuleContext& context);
// A destination of `rule`: a shard, or another rule. That other rule looks at the same key column; inside a composite
// rule, at the column whose part it is, or at the next one when it is none of the parts.
Result<RulePointer> build_destination(const config::Destination& destination, const config::Rule& rule,
                                      const RuleContext& context);

Result<RulePointer> build_hash_rule(const config::Rule& rule, const config::HashRule& kind, const RuleContext& context);
Result<RulePointer> build_ring_rule(const config::Rule& rule, const config::ConsistentHashRule& kind,
                                    const RuleContext& context);
Result<RulePointer> build_range_rule(const config::Rule& rule, const config::RangeRule& kind,
                                     const RuleContext& context);
Result<RulePointer> build_directory_rule(const config::Rule& rule, const config::DirectoryRule& kind,
                                         const RuleContext& context);
Result<RulePointer> build_geography_rule(const config::Rule& rule, const config::GeographyRule& kind,
                                         const RuleContext& context);
Result<RulePointer> build_embedded_rule(const config::Rule& rule, const config::EmbeddedRule& kind,
                                        const RuleContext& context);
Result<RulePointer> build_composite_rule(const config::Rule& rule, const config::CompositeRule& kind,
                                         const RuleContext& context);

// md5 and crc32 hash the key's text, which only some types have one of. An error names rule and type.
Result<void> check_hash_type(const config::Rule& rule, config::HashFunction function, KeyType type);
std::string_view name_of(config::HashFunction function);

// --- Pieces of predicates ---

// The key column in a form that compares as the rule does: char(n) without its padding, text bytewise.
std::string comparable(const KeyColumn& column);
std::string comparable_for_order(const KeyColumn& column);
// A constant of the column's type: 'x'::text.
std::string constant(const KeyValue& value);
// '{…}'::text[] of the values.
std::string constant_array(std::span<const KeyValue> values, KeyType type);
// Terms joined by OR in parentheses; `false` for none.
std::string any_of(const std::vector<std::string>& terms);
// Sorted, each once.
std::vector<ShardId> sorted_unique(std::vector<ShardId> shards);
std::string shard_list(std::span<const ShardId> shards, const RuleContext& context);

}  // namespace tessera::router
