#include "router/rules.hpp"

#include <algorithm>
#include <fmt/core.h>

#include "router/key_class.hpp"
#include "router/quote.hpp"

namespace tessera::router {
namespace {

// Where a destination is a shard.
class FixedRule final : public Rule {
public:
  FixedRule(ShardId shard, std::string name) : shards_{shard}, name_(std::move(name)) {}

  Result<Location> locate(std::span<const KeyValue>) const override { return Location{shards_.front(), 0}; }
  const std::vector<ShardId>& shards() const override { return shards_; }
  std::string predicate(ShardId shard, std::span<const KeyColumn>) const override {
    return shard == shards_.front() ? "true" : "false";
  }
  std::string describe() const override { return name_; }

private:
  std::vector<ShardId> shards_;
  std::string name_;
};

const config::Rule* find_rule(const config::Database& database, std::string_view name) {
  const auto found = std::ranges::find(database.rules, name, &config::Rule::name);
  return found == database.rules.end() ? nullptr : &*found;
}

// The key column that `rule` decides by when it is reached from the one that looks at `context.column`.
Result<std::size_t> column_of(const config::Rule& rule, const config::Rule& from, const RuleContext& context) {
  if (context.parts == nullptr) return context.column;
  const auto& parts = context.parts->of;
  const auto part = std::ranges::find(parts, rule.name);
  const std::size_t column = part == parts.end() ? context.column + 1 : static_cast<std::size_t>(part - parts.begin());
  if (column <= context.column || column >= context.types.size()) {
    return config_error(
        from.position,
        fmt::format("rule \"{}\" leads to rule \"{}\", for which the composite rule has no further key column",
                    from.name, rule.name),
        "list the rule behind the one that leads to it");
  }
  return column;
}

}  // namespace

std::vector<ShardId> Rule::locate_range(const KeyValue*, const KeyValue*) const {
  return shards();
}

Result<ShardId> RuleContext::shard(std::string_view name) const {
  const auto found = std::ranges::find(database.shards, name, &config::Shard::name);
  if (found == database.shards.end()) {
    return fail(sqlstate::config_file_error, fmt::format("database \"{}\" has no shard \"{}\"", database.name, name));
  }
  return ShardId(static_cast<std::uint32_t>(found - database.shards.begin()));
}

Result<std::vector<ShardId>> RuleContext::shards(const std::vector<std::string>& names) const {
  std::vector<ShardId> found;
  for (const std::string& name : names) {
    const auto id = shard(name);
    if (!id) return std::unexpected(id.error());
    found.push_back(*id);
  }
  return found;
}

std::string RuleContext::shard_name(ShardId id) const {
  return database.shards.at(id.value()).name;
}

std::string place_text(const config::SourcePosition& position) {
  return fmt::format("{}:{}:{}", position.file, position.line, position.column);
}

std::unexpected<Error> config_error(const config::SourcePosition& position, std::string message, std::string hint) {
  return std::unexpected(
      Error{sqlstate::config_file_error, std::move(message), place_text(position), std::move(hint), 0});
}

std::unexpected<Error> no_place(std::string_view rule, const KeyValue& key) {
  constexpr std::size_t most = 100;
  return fail(sqlstate::invalid_parameter_value,
              fmt::format("rule \"{}\" has no place for the key \"{}\"", rule, for_message(to_text(key), most)));
}

Result<RulePointer> build_rule(const config::Rule& rule, const RuleContext& context) {
  const auto build = [&](const auto& kind) -> Result<RulePointer> {
    using Kind = std::decay_t<decltype(kind)>;
    if constexpr (std::is_same_v<Kind, config::HashRule>) return build_hash_rule(rule, kind, context);
    if constexpr (std::is_same_v<Kind, config::ConsistentHashRule>) return build_ring_rule(rule, kind, context);
    if constexpr (std::is_same_v<Kind, config::RangeRule>) return build_range_rule(rule, kind, context);
    if constexpr (std::is_same_v<Kind, config::DirectoryRule>) return build_directory_rule(rule, kind, context);
    if constexpr (std::is_same_v<Kind, config::GeographyRule>) return build_geography_rule(rule, kind, context);
    if constexpr (std::is_same_v<Kind, config::EmbeddedRule>) return build_embedded_rule(rule, kind, context);
    if constexpr (std::is_same_v<Kind, config::CompositeRule>) return build_composite_rule(rule, kind, context);
  };
  auto built = std::visit(build, rule.kind);
  if (!built && built.error().detail.empty()) built.error().detail = place_text(rule.position);
  return built;
}

Result<RulePointer> build_destination(const config::Destination& destination, const config::Rule& rule,
                                      const RuleContext& context) {
  if (!destination.is_rule) {
    const auto shard = context.shard(destination.name);
    if (!shard) return std::unexpected(shard.error());
    return std::make_shared<FixedRule>(*shard, destination.name);
  }
  const config::Rule* next = find_rule(context.database, destination.name);
  if (next == nullptr) {
    return config_error(rule.position,
                        fmt::format("rule \"{}\" leads to \"{}\", which is no rule", rule.name, destination.name));
  }
  const auto column = column_of(*next, rule, context);
  if (!column) return std::unexpected(column.error());
  return build_rule(*next, RuleContext{context.database, context.types, *column, context.parts});
}

Result<void> check_hash_type(const config::Rule& rule, config::HashFunction function, KeyType type) {
  if (function == config::HashFunction::postgres) return {};
  const KeyType family = class_of(type);
  const bool has_text = family == KeyType::int8 || family == KeyType::text || family == KeyType::uuid ||
                        family == KeyType::boolean || family == KeyType::oid;
  if (has_text) return {};
  return config_error(
      rule.position,
      fmt::format("rule \"{}\" hashes by {}, which is not possible for a key of type {}: its text depends on "
                  "settings of the session",
                  rule.name, name_of(function), name_of(type)),
      "use function: postgres");
}

std::string_view name_of(config::HashFunction function) {
  switch (function) {
    case config::HashFunction::postgres:
      return "postgres";
    case config::HashFunction::md5:
      return "md5";
    case config::HashFunction::crc32:
      return "crc32";
  }
  return "?";
}

std::string comparable(const KeyColumn& column) {
  return column.type == KeyType::bpchar ? column.quoted + "::text" : column.quoted;
}

std::string comparable_for_order(const KeyColumn& column) {
  if (class_of(column.type) != KeyType::text) return column.quoted;
  return fmt::format("({} COLLATE \"C\")", comparable(column));
}

std::string constant(const KeyValue& value) {
  return fmt::format("{}::{}", quote_literal(to_text(value)), name_of(class_of(value.type)));
}

std::string constant_array(std::span<const KeyValue> values, KeyType type) {
  std::string elements;
  for (const KeyValue& value : values) {
    elements += elements.empty() ? "" : ",";
    elements += quote_literal(to_text(value));
  }
  return fmt::format("ARRAY[{}]::{}[]", elements, name_of(class_of(type)));
}

std::string any_of(const std::vector<std::string>& terms) {
  if (terms.empty()) return "false";
  if (terms.size() == 1) return terms.front();
  std::string joined;
  for (const std::string& term : terms) joined += (joined.empty() ? "" : " OR ") + term;
  return '(' + joined + ')';
}

std::vector<ShardId> sorted_unique(std::vector<ShardId> shards) {
  std::ranges::sort(shards);
  const auto rest = std::ranges::unique(shards);
  shards.erase(rest.begin(), rest.end());
  return shards;
}

std::string shard_list(std::span<const ShardId> shards, const RuleContext& context) {
  constexpr std::size_t most = 16;
  std::string text;
  for (std::size_t i = 0; i < shards.size() && i < most; ++i) {
    text += (i == 0 ? "" : ", ") + context.shard_name(shards[i]);
  }
  return shards.size() > most ? fmt::format("{}, … ({} shards)", text, shards.size()) : text;
}

}  // namespace tessera::router
