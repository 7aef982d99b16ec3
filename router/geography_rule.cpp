// Geography rule: countries (or any other short names in a text key) belong to regions, regions lead to shards or
// rules. Names are compared without regard to ASCII case. Position: the region's number, or their count for
// `otherwise`.
#include <algorithm>
#include <fmt/core.h>
#include <map>

#include "router/key_class.hpp"
#include "router/quote.hpp"
#include "router/rules.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

struct LessIgnoringCase {
  using is_transparent = void;
  bool operator()(std::string_view a, std::string_view b) const {
    return std::ranges::lexicographical_compare(a, b, {}, to_lower, to_lower);
  }
};

using Countries = std::map<std::string, std::size_t, LessIgnoringCase>;  // to the region's number

class GeographyRule final : public Rule {
public:
  GeographyRule(std::string name, std::size_t column, Countries countries, std::vector<RulePointer> regions,
                RulePointer otherwise, std::vector<ShardId> shards, std::string described)
      : name_(std::move(name)),
        column_(column),
        countries_(std::move(countries)),
        regions_(std::move(regions)),
        otherwise_(std::move(otherwise)),
        shards_(std::move(shards)),
        described_(std::move(described)) {}

  Result<Location> locate(std::span<const KeyValue> key) const override {
    const auto found = countries_.find(key[column_].bytes);
    const bool listed = found != countries_.end();
    if (!listed && otherwise_ == nullptr) return no_place(name_, key[column_]);
    const Rule& next = listed ? *regions_[found->second] : *otherwise_;
    const auto location = next.locate(key);
    if (!location) return location;
    return Location{location->shard, listed ? found->second : regions_.size()};
  }
  const std::vector<ShardId>& shards() const override { return shards_; }
  std::string describe() const override { return described_; }

  std::string predicate(ShardId shard, std::span<const KeyColumn> columns) const override {
    std::vector<std::string> terms;
    for (std::size_t i = 0; i < regions_.size(); ++i) {
      const std::string inside = regions_[i]->predicate(shard, columns);
      if (inside != "false") terms.push_back(fmt::format("({} AND {})", listed(columns, &i), inside));
    }
    const std::string rest = otherwise_ == nullptr ? "false" : otherwise_->predicate(shard, columns);
    if (rest != "false") terms.push_back(fmt::format("(NOT {} AND {})", listed(columns, nullptr), rest));
    return any_of(terms);
  }

private:
  // Whether the key is one of the region's countries, or of any region's. Under C, lower() knows ASCII alone.
  std::string listed(std::span<const KeyColumn> columns, const std::size_t* region) const {
    std::string names;
    for (const auto& [country, number] : countries_) {
      if (region != nullptr && number != *region) continue;
      std::string lower = country;
      std::ranges::transform(lower, lower.begin(), to_lower);
      names += (names.empty() ? "" : ",") + quote_literal(lower);
    }
    return fmt::format("(lower({}) = ANY (ARRAY[{}]::text[]))", comparable_for_order(columns[column_]), names);
  }

  std::string name_;
  std::size_t column_;
  Countries countries_;
  std::vector<RulePointer> regions_;
  RulePointer otherwise_;  // may be null
  std::vector<ShardId> shards_;
  std::string described_;
};

}  // namespace

Result<RulePointer> build_geography_rule(const config::Rule& rule, const config::GeographyRule& kind,
                                         const RuleContext& context) {
  if (class_of(context.type()) != KeyType::text) {
    return config_error(rule.position, fmt::format("rule \"{}\" goes by geography and so needs a text key, not {}",
                                                   rule.name, name_of(context.type())));
  }
  Countries countries;
  std::vector<RulePointer> regions;
  std::vector<ShardId> shards;
  std::string described = "geography";
  const auto add = [&](const config::Destination& destination) -> Result<RulePointer> {
    auto built = build_destination(destination, rule, context);
    if (built) shards.insert(shards.end(), (*built)->shards().begin(), (*built)->shards().end());
    return built;
  };
  for (const auto& region : kind.regions) {
    auto built = add(region.destination);
    if (!built) return built;
    described += fmt::format("{} {}: {}", regions.empty() ? "," : ";", region.name, (*built)->describe());
    for (const std::string& country : region.countries) {
      if (!countries.emplace(country, regions.size()).second) {
        return config_error(rule.position, fmt::format("rule \"{}\" lists \"{}\" twice", rule.name, country));
      }
    }
    regions.push_back(std::move(*built));
  }
  RulePointer otherwise;
  if (kind.otherwise) {
    auto built = add(*kind.otherwise);
    if (!built) return built;
    otherwise = std::move(*built);
    described += fmt::format(", otherwise {}", otherwise->describe());
  }
  shards = sorted_unique(std::move(shards));
  if (shards.empty()) return config_error(rule.position, fmt::format("rule \"{}\" leads to no shard", rule.name));
  return std::make_shared<GeographyRule>(rule.name, context.column, std::move(countries), std::move(regions),
                                         std::move(otherwise), std::move(shards), std::move(described));
}

}  // namespace tessera::router
