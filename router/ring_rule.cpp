// Consistent hash rule: every shard owns `virtual_nodes * weight` points on a ring of hash values; a key belongs to the
// first point above its hash, and past the last one to the first. Adding a shard moves only the keys that it takes
// over. A point is the rule's own hash function over the text "<shard>:<number>". Position: the point's rank on the
// ring.
#include <algorithm>
#include <fmt/core.h>

#include "router/hash.hpp"
#include "router/rules.hpp"

namespace tessera::router {
namespace {

struct Point {
  std::uint64_t hash;
  ShardId shard;
  friend auto operator<=>(const Point&, const Point&) = default;
};

class RingRule final : public Rule {
public:
  RingRule(config::HashFunction function, std::size_t column, std::vector<Point> points, std::string described)
      : function_(function), column_(column), described_(std::move(described)) {
    for (const Point& point : points) {
      hashes_.push_back(point.hash);
      owners_.push_back(point.shard);
    }
    shards_ = sorted_unique(owners_);
  }

  Result<Location> locate(std::span<const KeyValue> key) const override {
    const std::uint64_t hash = key_hash(function_, key[column_]);
    const auto above = std::ranges::upper_bound(hashes_, hash);
    const auto rank = above == hashes_.end() ? 0 : static_cast<std::size_t>(above - hashes_.begin());
    return Location{owners_[rank], rank};
  }
  const std::vector<ShardId>& shards() const override { return shards_; }
  std::string describe() const override { return described_; }

  // width_bucket gives the number of thresholds at or below the hash. It compares signed numbers: the ring is cut open
  // where they begin, at 2^63.
  std::string predicate(ShardId shard, std::span<const KeyColumn> columns) const override {
    const KeyColumn& column = columns[column_];
    const auto negative = std::ranges::lower_bound(hashes_, std::uint64_t{1} << 63);
    const auto cut = static_cast<std::size_t>(negative - hashes_.begin());
    std::string thresholds;
    std::string owned;
    for (std::size_t i = 0; i <= hashes_.size(); ++i) {
      const std::size_t rank = (cut + i) % hashes_.size();
      if (i < hashes_.size()) {
        thresholds += fmt::format("{}{}", i == 0 ? "" : ",", static_cast<std::int64_t>(hashes_[rank]));
      }
      if (owners_[rank] == shard) owned += fmt::format("{}{}", owned.empty() ? "" : ",", i);
    }
    if (owned.empty()) return "false";
    return fmt::format("(width_bucket({}, '{{{}}}'::bigint[]) = ANY ('{{{}}}'::int[]))",
                       hash_sql(function_, column.type, column.quoted), thresholds, owned);
  }

private:
  config::HashFunction function_;
  std::size_t column_;
  std::vector<std::uint64_t> hashes_;  // ascending, each once
  std::vector<ShardId> owners_;
  std::vector<ShardId> shards_;
  std::string described_;
};

}  // namespace

Result<RulePointer> build_ring_rule(const config::Rule& rule, const config::ConsistentHashRule& kind,
                                    const RuleContext& context) {
  if (const auto checked = check_hash_type(rule, kind.function, context.type()); !checked) {
    return std::unexpected(checked.error());
  }
  std::vector<Point> points;
  for (const std::string& name : kind.shards) {
    const auto shard = context.shard(name);
    if (!shard) return std::unexpected(shard.error());
    const auto weight = kind.weights.find(name);
    const int count = kind.virtual_nodes * (weight == kind.weights.end() ? 1 : weight->second);
    for (int number = 0; number < count; ++number) {
      const std::string text = fmt::format("{}:{}", name, number);
      points.push_back({key_hash(kind.function, KeyValue{KeyType::text, 0, text}), *shard});
    }
  }
  if (points.empty())
    return config_error(rule.position, fmt::format("rule \"{}\" has no points on its ring", rule.name));
  // Two points of the same hash: the shard that stands first in the database keeps it.
  std::ranges::sort(points);
  const auto doubled = std::ranges::unique(points, {}, &Point::hash);
  points.erase(doubled.begin(), doubled.end());
  std::vector<ShardId> owners;
  for (const Point& point : points) owners.push_back(point.shard);
  std::string described = fmt::format("consistent_hash({}), {} points over {}", name_of(kind.function), points.size(),
                                      shard_list(sorted_unique(owners), context));
  return std::make_shared<RingRule>(kind.function, context.column, std::move(points), std::move(described));
}

}  // namespace tessera::router
