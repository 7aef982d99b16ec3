#include <algorithm>
#include <fmt/core.h>
#include <unordered_map>
#include <utility>

#include "config/names.hpp"

namespace tessera::config {
namespace {

// Depth-first search with its own stack: a file may hold a chain of many thousand rules.
class CircleSearch {
public:
  CircleSearch(const Context& context, const std::vector<RuleEdge>& edges) : context_(context) {
    for (const RuleEdge& edge : edges) leads_to_[edge.from].push_back(&edge);
  }

  void from(const std::string& rule) {
    if (state_[rule] != State::unseen) return;
    enter(rule);
    while (!path_.empty()) {
      Step& step = path_.back();
      const auto& edges = leads_to_[step.rule];
      if (step.next == edges.size()) {
        state_[step.rule] = State::done;
        path_.pop_back();
        continue;
      }
      const RuleEdge& edge = *edges[step.next++];
      const State target = state_[edge.to];
      if (target == State::on_path) report(edge);
      if (target == State::unseen) enter(edge.to);
    }
  }

private:
  enum class State { unseen, on_path, done };
  struct Step {
    std::string rule;
    std::size_t next = 0;
  };

  void enter(const std::string& rule) {
    state_[rule] = State::on_path;
    path_.push_back({rule, 0});
  }
  void report(const RuleEdge& closing) {
    constexpr std::size_t shown = 10;
    auto step = std::find_if(path_.begin(), path_.end(), [&](const Step& s) { return s.rule == closing.to; });
    std::string circle;
    for (std::size_t i = 0; step != path_.end() && i < shown; ++step, ++i) circle += step->rule + " -> ";
    if (step != path_.end()) circle += "… -> ";
    context_.problem(closing.where, fmt::format("the rules lead in a circle: {}{}", circle, closing.to),
                     "let one of them end at a shard");
  }

  const Context& context_;
  std::unordered_map<std::string, std::vector<const RuleEdge*>> leads_to_;
  std::unordered_map<std::string, State> state_;
  std::vector<Step> path_;
};

}  // namespace

void check_rule_graph(const Context& context, const std::vector<Rule>& rules, const std::vector<RuleEdge>& edges) {
  CircleSearch search(context, edges);
  for (const RuleEdge& edge : edges) search.from(edge.from);

  std::unordered_map<std::string, bool> composite;
  for (const Rule& rule : rules) composite[rule.name] = std::holds_alternative<CompositeRule>(rule.kind);
  for (const RuleEdge& edge : edges) {
    // A composite rule takes several key columns, and here there is one.
    if (!composite[edge.to]) continue;
    context.problem(edge.where,
                    fmt::format("\"{}\" is a composite rule and cannot stand inside another rule", edge.to));
  }
}

}  // namespace tessera::config
