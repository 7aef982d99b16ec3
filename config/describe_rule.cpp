#include "config/describe_rule.hpp"

#include <string>

#include "config/choices.hpp"

namespace tessera::config {
namespace {

std::string word(HashFunction function) {
  return std::string(name_of(hash_functions, function));
}

// Neighbouring buckets on one shard as a run, "20-29".
Json describe_moved(const std::map<int, std::string>& moved) {
  JsonObject runs;
  for (auto first = moved.begin(); first != moved.end();) {
    auto last = first;
    auto next = std::next(first);
    for (; next != moved.end() && next->first == last->first + 1 && next->second == first->second; ++next) last = next;
    const std::string name = std::to_string(first->first);
    runs.emplace_back(first == last ? name : name + "-" + std::to_string(last->first), first->second);
    first = next;
  }
  return runs;
}

Json describe_kind(const HashRule& rule) {
  Json out{{"type", "hash"}, {"function", word(rule.function)}, {"buckets", rule.buckets}, {"shards", rule.shards}};
  if (!rule.moved.empty()) out["moved"] = describe_moved(rule.moved);
  return out;
}

Json describe_kind(const ConsistentHashRule& rule) {
  Json out{{"type", "consistent_hash"},
           {"function", word(rule.function)},
           {"virtual_nodes", rule.virtual_nodes},
           {"shards", rule.shards}};
  JsonObject weights;
  for (const auto& [shard, weight] : rule.weights) weights.emplace_back(shard, weight);
  if (!weights.empty()) out["weights"] = std::move(weights);
  return out;
}

Json describe_kind(const RangeRule& rule) {
  Json ranges = Json::array();
  for (const RangeRule::Range& one : rule.ranges) {
    Json range = Json::object();
    if (one.below) range["below"] = *one.below;
    range["shard"] = one.shard;
    ranges.push_back(std::move(range));
  }
  return {{"type", "range"}, {"ranges", std::move(ranges)}};
}

Json describe_kind(const DirectoryRule& rule) {
  Json out{{"type", "directory"}};
  // There may be a million of them, and whoever asks for the configuration wants to read it.
  constexpr std::size_t most = 1000;
  if (rule.entries.size() > most) {
    out["entry_count"] = rule.entries.size();
  } else {
    JsonObject entries;
    for (const auto& [key, shard] : rule.entries) entries.emplace_back(key, shard);
    out["entries"] = std::move(entries);
  }
  if (rule.otherwise) out["otherwise"] = rule.otherwise->name;
  return out;
}

Json describe_kind(const GeographyRule& rule) {
  JsonObject regions;
  for (const GeographyRule::Region& one : rule.regions) {
    regions.emplace_back(one.name, Json{{"countries", one.countries},
                                        {one.destination.is_rule ? "rule" : "shard", one.destination.name}});
  }
  Json out{{"type", "geography"}, {"regions", std::move(regions)}};
  if (rule.otherwise) out["otherwise"] = rule.otherwise->name;
  return out;
}

Json describe_kind(const EmbeddedRule& rule) {
  Json out{{"type", "embedded"}, {"shard_shift", rule.shard_shift}, {"shard_bits", rule.shard_bits}};
  if (!rule.shards.empty()) out["shards"] = rule.shards;
  return out;
}

Json describe_kind(const CompositeRule& rule) {
  return {{"type", "composite"}, {"of", rule.of}};
}

}  // namespace

Json describe_rule(const Rule& rule) {
  return std::visit([](const auto& kind) { return describe_kind(kind); }, rule.kind);
}

}  // namespace tessera::config
