#include "proxy/hidden_state.hpp"

#include <algorithm>

#include "router/planning.hpp"
#include "router/session_code.hpp"

namespace tessera::proxy {

namespace {

void add_function(const parser::FunctionCall& call, const router::Catalog& catalog,
                  std::span<const std::string> harmless, HiddenState& state) {
  if (call.name == "currval" || call.name == "lastval") state.asks_sequences = true;
  if (call.name == "nextval" || call.name == "setval") state.advances_sequences = true;
  if (call.name == "setval") state.sets_sequences = true;
  if (std::ranges::find(harmless, call.name) != harmless.end()) return;
  const router::FunctionTrait trait = router::trait_of(call, catalog);
  if (trait.may_write) state.changes = true;
  if (trait.unknown || catalog.is_session_function(call.name)) state.changes = state.changes_session = true;
  if (router::runs_argument(call.name)) state.changes = state.changes_session = true;
}

}  // namespace

HiddenState hidden_state(const parser::Statement& statement, const router::Catalog& catalog,
                         std::span<const std::string> harmless) {
  HiddenState state;
  state.loads_library = statement.command == "LOAD";
  for (const parser::Block& block : statement.blocks)
    for (const parser::FunctionCall& call : block.functions) add_function(call, catalog, harmless, state);
  // t.f calls the user's function f if the table has no such column.
  for (const parser::Block& block : statement.blocks)
    for (const parser::FieldRef& field : block.fields) {
      const auto known = catalog.functions.find(field.name);
      if (known == catalog.functions.end() || known->second.builtin) continue;
      parser::FunctionCall call;
      call.name = field.name;
      add_function(call, catalog, harmless, state);
    }
  for (const parser::TableRef& table : statement.tables) {
    if (catalog.has_volatile_view(table.name)) state.changes = true;
    // An UPDATE of this view is a SET.
    const bool sets = statement.kind == parser::StatementKind::update && table.name == "pg_settings";
    if (sets || catalog.is_session_view(table.name)) state.changes = state.changes_session = true;
  }
  if (statement.code &&
      (statement.code->language != "plpgsql" || router::runs_session_code(statement.code->body, catalog)))
    state.changes_session = true;
  for (const parser::Statement& inner : statement.inner) {
    const HiddenState more = hidden_state(inner, catalog, harmless);
    state.changes |= more.changes;
    state.changes_session |= more.changes_session;
    state.asks_sequences |= more.asks_sequences;
    state.advances_sequences |= more.advances_sequences;
    state.sets_sequences |= more.sets_sequences;
  }
  return state;
}

}  // namespace tessera::proxy
