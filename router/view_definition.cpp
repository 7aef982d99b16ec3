#include "router/view_definition.hpp"

#include <algorithm>

#include "router/planning.hpp"

namespace tessera::router {
namespace {

// Their rows depend on where, or in which order, they are read.
bool has_moody_clause(const parser::Clauses& clauses) {
  return clauses.limit || clauses.offset || clauses.distinct_on || clauses.locking || clauses.table_sample;
}

bool of_system(const parser::TableRef& table) {
  return table.schema == "pg_catalog" || table.schema == "information_schema" || table.name.starts_with("pg_");
}

void judge(const parser::FunctionCall& call, const Catalog& catalog, ViewDefinition& view) {
  const FunctionTrait trait = trait_of(call, catalog);
  const auto known = catalog.functions.find(call.name);
  const bool random = known != catalog.functions.end() && known->second.volatility == 'v';
  if (random || trait.unknown) view.volatile_code = true;
  if (call.window || random || trait.per_server || trait.by_order || trait.server_state || trait.user) {
    view.steady = false;
  }
  if (trait.code || trait.unknown) view.runs_code = true;
}

}  // namespace

ViewDefinition judge_view(const parser::Statement& query, const Catalog& catalog) {
  if (query.kind != parser::StatementKind::select || query.blocks.empty()) return {};
  ViewDefinition view{.steady = true, .runs_code = false, .volatile_code = false};
  if (std::ranges::any_of(query.tables, of_system)) view.steady = false;
  for (const parser::Block& block : query.blocks) {
    if (has_moody_clause(block.clauses)) view.steady = false;
    for (const parser::FunctionCall& call : block.functions) judge(call, catalog, view);
    for (const parser::FieldRef& field : block.fields) {
      const auto known = catalog.functions.find(field.name);
      if (known == catalog.functions.end() || known->second.builtin) continue;
      parser::FunctionCall call;
      call.name = field.name;
      judge(call, catalog, view);
    }
  }
  return view;
}

}  // namespace tessera::router
