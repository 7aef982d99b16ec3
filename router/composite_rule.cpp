// Composite rule: part n looks at key column n. The first part decides, unless it leads (geography's regions, a
// directory's `otherwise`) to another rule; see build_destination for the column that one looks at. All of that is
// settled when the rules are built, so nothing is left for a class of its own to do.
#include <algorithm>
#include <fmt/core.h>

#include "router/rules.hpp"

namespace tessera::router {

Result<RulePointer> build_composite_rule(const config::Rule& rule, const config::CompositeRule& kind,
                                         const RuleContext& context) {
  if (context.parts != nullptr) {
    return config_error(rule.position, fmt::format("the composite rule \"{}\" stands inside another one", rule.name));
  }
  if (kind.of.empty() || kind.of.size() != context.types.size()) {
    return config_error(rule.position,
                        fmt::format("the composite rule \"{}\" has {} parts, the table's key {} columns", rule.name,
                                    kind.of.size(), context.types.size()),
                        "list one key column for each part");
  }
  const auto first = std::ranges::find(context.database.rules, kind.of.front(), &config::Rule::name);
  if (first == context.database.rules.end()) {
    return config_error(rule.position,
                        fmt::format("\"{}\" in the composite rule \"{}\" is no rule", kind.of.front(), rule.name));
  }
  return build_rule(*first, RuleContext{context.database, context.types, 0, &kind});
}

}  // namespace tessera::router
