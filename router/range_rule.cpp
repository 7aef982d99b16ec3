// Range rule: ascending exclusive upper bounds; the last range may have none. Position: the range's number.
#include <algorithm>
#include <fmt/core.h>

#include "router/key_class.hpp"
#include "router/rules.hpp"

namespace tessera::router {
namespace {

// A key value that owns its bytes. The view is made on demand, since a moved short string takes its bytes along.
struct Bound {
  KeyType type;
  std::int64_t integer;
  std::string bytes;
  KeyValue value() const { return {type, integer, bytes}; }
};

class RangeRule final : public Rule {
public:
  RangeRule(std::string name, std::size_t column, std::vector<Bound> bounds, std::vector<ShardId> owners,
            std::string described)
      : name_(std::move(name)),
        column_(column),
        bounds_(std::move(bounds)),
        owners_(std::move(owners)),
        shards_(sorted_unique(owners_)),
        described_(std::move(described)) {}

  Result<Location> locate(std::span<const KeyValue> key) const override {
    const std::size_t number = range_of(key[column_]);
    if (number >= owners_.size()) return no_place(name_, key[column_]);
    return Location{owners_[number], number};
  }
  const std::vector<ShardId>& shards() const override { return shards_; }
  bool ordered() const override { return true; }
  std::string describe() const override { return described_; }

  std::vector<ShardId> locate_range(const KeyValue* low, const KeyValue* high) const override {
    const std::size_t last = owners_.size() - 1;
    const std::size_t from = low == nullptr ? 0 : range_of(*low);
    const std::size_t to = high == nullptr ? last : std::min(range_of(*high), last);
    std::vector<ShardId> found;
    for (std::size_t i = from; i <= to && i < owners_.size(); ++i) found.push_back(owners_[i]);
    return sorted_unique(std::move(found));
  }

  std::string predicate(ShardId shard, std::span<const KeyColumn> columns) const override {
    const std::string column = comparable_for_order(columns[column_]);
    std::vector<std::string> terms;
    for (std::size_t i = 0; i < owners_.size(); ++i) {
      if (owners_[i] != shard) continue;
      const bool below = i < bounds_.size();
      std::string term = i > 0 ? fmt::format("{} >= {}", column, constant(bounds_[i - 1].value())) : "";
      if (below) term += fmt::format("{}{} < {}", i > 0 ? " AND " : "", column, constant(bounds_[i].value()));
      if (term.empty()) term = fmt::format("{} IS NOT NULL", column);
      terms.push_back('(' + term + ')');
    }
    return any_of(terms);
  }

private:
  // Number of the first range whose bound is above the key.
  std::size_t range_of(const KeyValue& key) const {
    const auto above = std::ranges::upper_bound(bounds_, 0, std::ranges::less{},
                                                [&key](const Bound& bound) { return compare(bound.value(), key); });
    return static_cast<std::size_t>(above - bounds_.begin());
  }

  std::string name_;
  std::size_t column_;
  std::vector<Bound> bounds_;    // ascending
  std::vector<ShardId> owners_;  // as many, or one more
  std::vector<ShardId> shards_;
  std::string described_;
};

}  // namespace

Result<RulePointer> build_range_rule(const config::Rule& rule, const config::RangeRule& kind,
                                     const RuleContext& context) {
  const KeyType type = class_of(context.type());
  std::vector<Bound> bounds;
  std::vector<ShardId> owners;
  for (std::size_t i = 0; i < kind.ranges.size(); ++i) {
    const auto& range = kind.ranges[i];
    const auto shard = context.shard(range.shard);
    if (!shard) return std::unexpected(shard.error());
    owners.push_back(*shard);
    if (!range.below) {
      if (i + 1 < kind.ranges.size()) {
        return config_error(range.position,
                            fmt::format("in rule \"{}\" only the last range may have no bound", rule.name));
      }
      continue;
    }
    std::string scratch;
    const auto bound = from_text(*range.below, type, scratch);
    if (!bound) {
      return config_error(range.position,
                          fmt::format("\"{}\" is no {} that a range of rule \"{}\" could end at", *range.below,
                                      name_of(context.type()), rule.name),
                          type == KeyType::date || type == KeyType::timestamp ? "dates are written as 2024-12-31" : "");
    }
    bounds.push_back({type, bound->integer, std::string(bound->bytes)});
    if (bounds.size() > 1 && compare(bounds[bounds.size() - 2].value(), bounds.back().value()) >= 0) {
      return config_error(range.position,
                          fmt::format("the ranges of rule \"{}\" are not in ascending order: \"{}\" is not above "
                                      "the bound before it",
                                      rule.name, *range.below));
    }
  }
  if (owners.empty()) return config_error(rule.position, fmt::format("rule \"{}\" has no ranges", rule.name));
  std::string described =
      fmt::format("range, {} ranges over {}", owners.size(), shard_list(sorted_unique(owners), context));
  return std::make_shared<RangeRule>(rule.name, context.column, std::move(bounds), std::move(owners),
                                     std::move(described));
}

}  // namespace tessera::router
