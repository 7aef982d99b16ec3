// The names that one database declares, for checking every place that mentions one; and the graph of rules that lead to
// other rules.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "config/config.hpp"
#include "config/reader.hpp"

namespace tessera::config {

class Names {
public:
  // All names under `shards` and `rules`, also of those with mistakes in them: one mistake, one problem.
  Names(const Context& context, const Node* shards, const Node* rules);

  bool is_shard(const std::string& name) const { return shards_.contains(name); }
  // The name in `node` if there is such a shard (or rule); else reported, and none.
  std::optional<std::string> shard(const Node& node) const;
  std::optional<std::string> rule(const Node& node) const;
  std::optional<Destination> destination(const Node& node) const;
  // Every shard of a list, each at most once; a list without any is a problem.
  std::vector<std::string> shard_list(Section& section, std::string_view key) const;
  // A key that may hold a shard's name.
  void read_shard(Section& section, std::string_view key, std::string& out) const;

private:
  std::optional<std::string> one_of(const Node& node, std::string_view what,
                                    std::initializer_list<const std::vector<std::string_view>*> lists) const;

  const Context& context_;
  std::unordered_set<std::string> shards_;
  std::unordered_set<std::string> rules_;
  std::vector<std::string_view> shard_names_;  // in file order, for suggestions
  std::vector<std::string_view> rule_names_;
};

// "Rule `from` may lead to rule `to`", said at `where`.
struct RuleEdge {
  std::string from;
  std::string to;
  Mark where;
};

// Reports each circle of rules once, and every composite rule that stands inside another rule.
void check_rule_graph(const Context& context, const std::vector<Rule>& rules, const std::vector<RuleEdge>& edges);

}  // namespace tessera::config
