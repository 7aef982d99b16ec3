#include "router/default_value.hpp"

#include "router/builtin_functions.hpp"
#include "router/moment.hpp"
#include "router/planning.hpp"

namespace tessera::router {

DefaultValue judge_default(const parser::Statement& query, std::string_view expression, const Catalog& catalog) {
  if (query.kind != parser::StatementKind::select || query.blocks.size() != 1 || !query.tables.empty())
    return DefaultValue::unsteady;
  if (literal_of_moment(expression)) return DefaultValue::unsteady;
  return judge_calls(query.blocks.front().functions, catalog);
}

DefaultValue judge_calls(const std::vector<parser::FunctionCall>& calls, const Catalog& catalog) {
  DefaultValue value = DefaultValue::steady;
  for (const parser::FunctionCall& call : calls) {
    const FunctionTrait trait = trait_of(call, catalog);
    const auto known = catalog.functions.find(call.name);
    const bool is_volatile = known != catalog.functions.end() && known->second.volatility == 'v';
    if (trait.server_state || trait.per_server || trait.user || trait.may_write || trait.unknown || call.window)
      return DefaultValue::unsteady;
    if (is_volatile && !is_per_row(call.name)) return DefaultValue::unsteady;
    if (is_volatile) value = DefaultValue::per_row;
  }
  return value;
}

}  // namespace tessera::router
