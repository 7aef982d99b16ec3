// Hash rule: key -> bucket -> shard. The buckets are dealt to the shards in contiguous runs of equal length; `moved`
// buckets are exceptions. Position: the bucket.
#include <fmt/core.h>

#include "router/hash.hpp"
#include "router/rules.hpp"

namespace tessera::router {
namespace {

class HashRule final : public Rule {
public:
  HashRule(config::HashFunction function, std::size_t column, std::vector<ShardId> owners, std::string described)
      : function_(function),
        column_(column),
        owners_(std::move(owners)),
        shards_(sorted_unique(owners_)),
        described_(std::move(described)) {}

  Result<Location> locate(std::span<const KeyValue> key) const override {
    const std::uint64_t bucket = key_hash(function_, key[column_]) % owners_.size();
    return Location{owners_[bucket], bucket};
  }
  const std::vector<ShardId>& shards() const override { return shards_; }
  std::string describe() const override { return described_; }

  std::string predicate(ShardId shard, std::span<const KeyColumn> columns) const override {
    const KeyColumn& column = columns[column_];
    const std::string bucket = bucket_sql(function_, column.type, column.quoted, static_cast<int>(owners_.size()));
    std::string owned;
    std::size_t count = 0;
    for (std::size_t i = 0; i < owners_.size(); ++i) {
      if (owners_[i] != shard) continue;
      owned += fmt::format("{}{}", count++ == 0 ? "" : ",", i);
    }
    if (count == 0) return "false";
    return fmt::format("({} = ANY ('{{{}}}'::bigint[]))", bucket, owned);
  }

private:
  config::HashFunction function_;
  std::size_t column_;
  std::vector<ShardId> owners_;  // by bucket
  std::vector<ShardId> shards_;
  std::string described_;
};

}  // namespace

Result<RulePointer> build_hash_rule(const config::Rule& rule, const config::HashRule& kind,
                                    const RuleContext& context) {
  if (const auto checked = check_hash_type(rule, kind.function, context.type()); !checked) {
    return std::unexpected(checked.error());
  }
  if (kind.buckets < 1 || kind.shards.empty()) {
    return config_error(rule.position, fmt::format("rule \"{}\" has no buckets or no shards", rule.name));
  }
  const auto shards = context.shards(kind.shards);
  if (!shards) return std::unexpected(shards.error());
  const auto buckets = static_cast<std::size_t>(kind.buckets);
  std::vector<ShardId> owners;
  for (std::size_t bucket = 0; bucket < buckets; ++bucket)
    owners.push_back((*shards)[bucket * shards->size() / buckets]);
  for (const auto& [bucket, name] : kind.moved) {
    const auto shard = context.shard(name);
    if (!shard) return std::unexpected(shard.error());
    if (bucket < 0 || bucket >= kind.buckets) {
      return config_error(rule.position, fmt::format("rule \"{}\" moves bucket {}, but has the buckets 0 to {}",
                                                     rule.name, bucket, kind.buckets - 1));
    }
    owners[static_cast<std::size_t>(bucket)] = *shard;
  }
  std::string described = fmt::format("hash({}), {} buckets over {}", name_of(kind.function), buckets,
                                      shard_list(sorted_unique(owners), context));
  return std::make_shared<HashRule>(kind.function, context.column, std::move(owners), std::move(described));
}

}  // namespace tessera::router
