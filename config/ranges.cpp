#include <fmt/core.h>

#include "config/bounds.hpp"
#include "config/sections.hpp"

namespace tessera::config {
namespace {

void check_order(const Context& context, const std::vector<const Node*>& bounds) {
  std::vector<std::string_view> texts;
  for (const Node* bound : bounds) texts.push_back(bound->text);
  const BoundOrder order = order_of(texts);
  if (left_to_type(order, texts)) return;
  for (std::size_t i = 1; i < bounds.size(); ++i) {
    const auto compared = compare_bounds(order, texts[i - 1], texts[i]);
    if (compared < 0) continue;
    constexpr std::string_view kinds[] = {"as numbers", "as dates", "as text"};
    context.problem(
        bounds[i]->mark,
        compared == 0
            ? fmt::format("two ranges end at \"{}\"", bounds[i]->shown())
            : fmt::format("ranges overlap: \"{}\" comes after \"{}\"", bounds[i]->shown(), bounds[i - 1]->shown()),
        fmt::format("ranges stand in ascending order; these were compared {}", kinds[static_cast<int>(order)]));
  }
}

}  // namespace

RangeRule read_range_rule(Section& section, const Names& names) {
  RangeRule rule;
  std::vector<const Node*> bounds;
  std::optional<Mark> unbounded;
  section.each_section("ranges", [&](Section one) {
    if (unbounded) {
      one.context().problem(*unbounded, "a range without \"below\" takes all keys, but others follow it",
                            "only the last range may be without \"below\"");
    }
    unbounded.reset();
    RangeRule::Range range;
    range.position = one.context().position(one.mark());
    one.read("below", range.below);
    names.read_shard(one, "shard", range.shard);
    one.finish();
    if (range.below) bounds.push_back(one.find("below"));
    const Node* below = one.node().find("below");
    const bool none = below == nullptr || below->kind == Node::Kind::null;
    if (none && one.node().kind == Node::Kind::mapping) unbounded = one.mark();
    rule.ranges.push_back(std::move(range));
  });
  if (section.has("ranges") && rule.ranges.empty() && section.find("ranges")->kind == Node::Kind::sequence) {
    section.problem("ranges", "there are no ranges", "[{below: \"2024-01-01\", shard: s0}, {shard: s1}]");
  }
  check_order(section.context(), bounds);
  return rule;
}

}  // namespace tessera::config
