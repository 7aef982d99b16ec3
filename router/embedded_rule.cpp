// Embedded rule: the shard's number stands in some bits of the id itself. Position: that number.
#include <fmt/core.h>

#include "router/key_class.hpp"
#include "router/rules.hpp"

namespace tessera::router {
namespace {

class EmbeddedRule final : public Rule {
public:
  EmbeddedRule(std::string name, std::size_t column, int shift, int bits, std::vector<ShardId> owners,
               std::string described)
      : name_(std::move(name)),
        column_(column),
        shift_(shift),
        mask_(bits >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1),
        owners_(std::move(owners)),
        shards_(sorted_unique(owners_)),
        described_(std::move(described)) {}

  Result<Location> locate(std::span<const KeyValue> key) const override {
    const std::uint64_t number = static_cast<std::uint64_t>(key[column_].integer) >> shift_ & mask_;
    if (number >= owners_.size()) return no_place(name_, key[column_]);
    return Location{owners_[number], number};
  }
  const std::vector<ShardId>& shards() const override { return shards_; }
  std::string describe() const override { return described_; }

  std::string predicate(ShardId shard, std::span<const KeyColumn> columns) const override {
    std::string numbers;
    for (std::size_t i = 0; i < owners_.size(); ++i) {
      if (owners_[i] == shard) numbers += fmt::format("{}{}", numbers.empty() ? "" : ",", i);
    }
    if (numbers.empty()) return "false";
    // The shift keeps the sign; the mask takes what it shifts in off again.
    return fmt::format("((({}::bigint >> {}) & {}) = ANY ('{{{}}}'::bigint[]))", columns[column_].quoted, shift_, mask_,
                       numbers);
  }

private:
  std::string name_;
  std::size_t column_;
  int shift_;
  std::uint64_t mask_;
  std::vector<ShardId> owners_;  // by number
  std::vector<ShardId> shards_;
  std::string described_;
};

}  // namespace

Result<RulePointer> build_embedded_rule(const config::Rule& rule, const config::EmbeddedRule& kind,
                                        const RuleContext& context) {
  if (!is_integer(context.type())) {
    return config_error(rule.position,
                        fmt::format("rule \"{}\" reads the shard out of an integer's bits, the key is {}", rule.name,
                                    name_of(context.type())));
  }
  if (kind.shard_shift < 0 || kind.shard_bits < 1 || kind.shard_bits > 62 || kind.shard_shift + kind.shard_bits > 64) {
    return config_error(rule.position, fmt::format("the bits of rule \"{}\" do not lie within 64", rule.name));
  }
  std::vector<ShardId> owners;
  if (kind.shards.empty()) {
    for (std::uint32_t i = 0; i < context.database.shards.size(); ++i) owners.emplace_back(i);
  } else {
    auto named = context.shards(kind.shards);
    if (!named) return std::unexpected(named.error());
    owners = std::move(*named);
  }
  if (owners.size() - 1 > (std::uint64_t{1} << kind.shard_bits) - 1) {
    return config_error(rule.position, fmt::format("the {} bits of rule \"{}\" cannot number {} shards",
                                                   kind.shard_bits, rule.name, owners.size()));
  }
  std::string described = fmt::format("embedded, bits {} to {}, over {}", kind.shard_shift,
                                      kind.shard_shift + kind.shard_bits - 1, shard_list(owners, context));
  return std::make_shared<EmbeddedRule>(rule.name, context.column, kind.shard_shift, kind.shard_bits, std::move(owners),
                                        std::move(described));
}

}  // namespace tessera::router
