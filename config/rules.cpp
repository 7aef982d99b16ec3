// The kinds of rules, but for ranges and directories, which have files of their own.
#include <fmt/core.h>
#include <map>
#include <set>

#include "config/scalars.hpp"
#include "config/sections.hpp"

namespace tessera::config {
namespace {

// "17", or "20-29": both ends included.
struct Run {
  int first;
  int last;
};
std::optional<Run> parse_run(std::string_view text, int buckets) {
  const auto dash = text.find('-');
  const auto first = parse_integer(text.substr(0, dash));
  const auto last = dash == text.npos ? first : parse_integer(text.substr(dash + 1));
  if (!first || !last || *first < 0 || *first > *last || *last >= buckets) return std::nullopt;
  return Run{static_cast<int>(*first), static_cast<int>(*last)};
}

void read_moved(Section& section, const Names& names, HashRule& rule) {
  section.each_named_text("moved", [&](const Node& item) {
    const Context& context = section.context();
    const auto run = parse_run(item.key, rule.buckets);
    if (!run) {
      context.problem(item.key_mark, fmt::format("\"{}\" is not a bucket of this rule", item.key),
                      fmt::format("a number from 0 to {}, or a run such as 20-29", rule.buckets - 1));
    }
    const auto shard = names.shard(item);
    if (!run || !shard) return;
    for (int bucket = run->first; bucket <= run->last; ++bucket) {
      if (rule.moved.emplace(bucket, *shard).second) continue;
      context.problem(item.key_mark, fmt::format("bucket {} is moved twice", bucket), "each bucket lives on one shard");
      return;
    }
  });
}

HashRule read_hash_rule(Section& section, const Names& names) {
  HashRule rule;
  section.read("function", rule.function);
  section.read("buckets", rule.buckets);
  rule.shards = names.shard_list(section, "shards");
  read_moved(section, names, rule);
  if (static_cast<std::size_t>(rule.buckets) < rule.shards.size()) {
    section.problem("buckets", fmt::format("{} buckets for {} shards", rule.buckets, rule.shards.size()),
                    "at least one for each shard; many more, so that shards can be added later");
  }
  return rule;
}

ConsistentHashRule read_ring_rule(Section& section, const Names& names) {
  ConsistentHashRule rule;
  section.read("function", rule.function);
  section.read("virtual_nodes", rule.virtual_nodes);
  rule.shards = names.shard_list(section, "shards");
  const std::set<std::string> on_ring(rule.shards.begin(), rule.shards.end());
  section.each_named_text("weights", [&](const Node& item) {
    constexpr std::int64_t heaviest = 1000;
    const auto weight = parse_integer(item.text);
    if (!on_ring.contains(item.key)) {
      section.context().problem(item.key_mark, fmt::format("\"{}\" is not one of the rule's shards", item.key));
    }
    if (!weight || *weight < 1 || *weight > heaviest) {
      section.context().problem(item.mark, fmt::format("\"{}\" is not a weight", item.shown()),
                                fmt::format("a whole number from 1 to {}", heaviest));
      return;
    }
    rule.weights[item.key] = static_cast<int>(*weight);
  });
  return rule;
}

// Where rules may lead, collected while they are read.
struct Edges {
  const std::string& from;
  std::vector<RuleEdge>& list;
  void add(const Node& to) { list.push_back({from, to.text, to.mark}); }
};

void read_otherwise(Section& section, const Names& names, std::optional<Destination>& out, Edges& edges) {
  const Node* node = section.find("otherwise");
  if (node == nullptr) return;
  out = names.destination(*node);
  if (out && out->is_rule) edges.add(*node);
}

void read_region_destination(Section& section, const Names& names, Destination& out, Edges& edges) {
  const Node* shard = section.find("shard");
  const Node* rule = section.find("rule");
  if ((shard != nullptr) == (rule != nullptr)) {
    section.context().problem(section.mark(), fmt::format("a region needs {} \"shard\" and \"rule\"",
                                                          shard != nullptr ? "only one of" : "one of"));
    return;
  }
  out.is_rule = rule != nullptr;
  auto name = out.is_rule ? names.rule(*rule) : names.shard(*shard);
  if (!name) return;
  out.name = *std::move(name);
  if (out.is_rule) edges.add(*rule);
}

std::string upper(std::string text) {
  for (char& c : text) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return text;
}

GeographyRule read_geography_rule(Section& section, const Names& names, Edges& edges) {
  GeographyRule rule;
  std::map<std::string, std::string> region_of;
  section.each_named_section("regions", [&](Section one) {
    GeographyRule::Region region;
    region.name = one.node().key;
    one.each_text("countries", [&](const Node& item) {
      const auto [first, fresh] = region_of.emplace(upper(item.text), region.name);
      if (!fresh) {
        one.context().problem(item.mark, fmt::format("\"{}\" is already in region \"{}\"", item.shown(), first->second),
                              "a country belongs to one region, once");
      }
      region.countries.push_back(item.text);
    });
    if (one.has("countries") && one.find("countries")->kind == Node::Kind::sequence &&
        one.find("countries")->items.empty()) {
      one.problem("countries", "a region without countries");
    }
    read_region_destination(one, names, region.destination, edges);
    one.finish();
    rule.regions.push_back(std::move(region));
  });
  read_otherwise(section, names, rule.otherwise, edges);
  return rule;
}

EmbeddedRule read_embedded_rule(Section& section, const Names& names) {
  EmbeddedRule rule;
  section.read("shard_shift", rule.shard_shift);
  section.read("shard_bits", rule.shard_bits);
  rule.shards = names.shard_list(section, "shards");
  constexpr int usable_bits = 63;  // ids are positive
  if (rule.shard_shift + rule.shard_bits > usable_bits) {
    section.context().problem(
        section.mark(), fmt::format("{} bits above bit {} do not fit into an id", rule.shard_bits, rule.shard_shift),
        "shard_shift + shard_bits is at most 63");
  }
  if (rule.shards.size() > std::size_t{1} << rule.shard_bits) {
    section.problem("shards",
                    fmt::format("{} shards cannot be numbered in {} bits", rule.shards.size(), rule.shard_bits));
  }
  return rule;
}

CompositeRule read_composite_rule(Section& section, const Names& names, Edges& edges) {
  CompositeRule rule;
  section.each_text("of", [&](const Node& item) {
    if (names.rule(item)) edges.add(item);
    rule.of.push_back(item.text);  // an unknown one too, so that tables can count the parts
  });
  if (rule.of.size() < 2 && section.has("of")) section.problem("of", "a composite rule needs at least two rules");
  return rule;
}

}  // namespace

void read_rule(Section section, const Names& names, Rule& rule, std::vector<RuleEdge>& edges) {
  std::string type;
  Edges out{rule.name, edges};
  section.read("type", type);
  if (type == "hash") rule.kind = read_hash_rule(section, names);
  if (type == "consistent_hash") rule.kind = read_ring_rule(section, names);
  if (type == "range") rule.kind = read_range_rule(section, names);
  if (type == "directory") {
    DirectoryRule directory = read_directory_rule(section, names);
    read_otherwise(section, names, directory.otherwise, out);
    rule.kind = std::move(directory);
  }
  if (type == "geography") rule.kind = read_geography_rule(section, names, out);
  if (type == "embedded") rule.kind = read_embedded_rule(section, names);
  if (type == "composite") rule.kind = read_composite_rule(section, names, out);
  section.finish();
}

}  // namespace tessera::config
