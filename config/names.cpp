#include "config/names.hpp"

#include <algorithm>
#include <fmt/core.h>

#include "config/suggest.hpp"

namespace tessera::config {
namespace {

void collect(const Node* mapping, std::unordered_set<std::string>& set, std::vector<std::string_view>& list) {
  if (mapping == nullptr || mapping->kind != Node::Kind::mapping) return;
  for (const Node& item : mapping->items) {
    set.insert(item.key);
    list.push_back(item.key);
  }
}

}  // namespace

Names::Names(const Context& context, const Node* shards, const Node* rules) : context_(context) {
  collect(shards, shards_, shard_names_);
  collect(rules, rules_, rule_names_);
  if (rules == nullptr || rules->kind != Node::Kind::mapping) return;
  for (const Node& item : rules->items) {
    if (!shards_.contains(item.key)) continue;
    context_.problem(item.key_mark, fmt::format("\"{}\" is the name of a rule and of a shard", item.key),
                     "a name after `otherwise` could mean either; rename the rule");
  }
}

std::optional<std::string> Names::one_of(const Node& node, std::string_view what,
                                         std::initializer_list<const std::vector<std::string_view>*> lists) const {
  if (node.broken) return std::nullopt;
  if (node.kind != Node::Kind::scalar) {
    context_.problem(node.mark,
                     fmt::format("the name of a {} must be a single value, not {}", what, kind_name(node.kind)));
    return std::nullopt;
  }
  std::vector<std::string_view> allowed;
  if (context_.problems.full()) lists = {};  // nobody will read the suggestion
  for (const auto* list : lists) allowed.insert(allowed.end(), list->begin(), list->end());
  unknown_name(context_, node, fmt::format("there is no {} \"{}\"", what, node.shown()), allowed);
  return std::nullopt;
}

std::optional<std::string> Names::shard(const Node& node) const {
  if (node.kind == Node::Kind::scalar && shards_.contains(node.text)) return node.text;
  return one_of(node, "shard", {&shard_names_});
}

std::optional<std::string> Names::rule(const Node& node) const {
  if (node.kind == Node::Kind::scalar && rules_.contains(node.text)) return node.text;
  return one_of(node, "rule", {&rule_names_});
}

std::optional<Destination> Names::destination(const Node& node) const {
  if (node.kind == Node::Kind::scalar) {
    if (rules_.contains(node.text)) return Destination{node.text, true};
    if (shards_.contains(node.text)) return Destination{node.text, false};
  }
  one_of(node, "rule or shard", {&rule_names_, &shard_names_});
  return std::nullopt;
}

std::vector<std::string> Names::shard_list(Section& section, std::string_view key) const {
  std::vector<std::string> list;
  std::unordered_set<std::string> seen;
  bool any = false;
  section.each_text(key, [&](const Node& item) {
    any = true;
    auto name = shard(item);
    if (!name) return;
    if (!seen.insert(*name).second) {
      context_.problem(item.mark, fmt::format("shard \"{}\" is listed twice", item.shown()));
    } else {
      list.push_back(*std::move(name));
    }
  });
  const Node* node = section.find(key);
  if (!any && node != nullptr && node->kind == Node::Kind::sequence && node->items.empty()) {
    section.problem(key, fmt::format("\"{}\" is an empty list", key), "name at least one shard");
  }
  return list;
}

void Names::read_shard(Section& section, std::string_view key, std::string& out) const {
  const Node* node = section.find(key);
  if (node == nullptr) return;
  if (auto name = shard(*node)) out = *std::move(name);
}

}  // namespace tessera::config
