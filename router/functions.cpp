// What is known of a function that a statement calls.
#include <algorithm>
#include <array>

#include "router/builtin_functions.hpp"
#include "router/contains.hpp"
#include "router/planning.hpp"

namespace tessera::router {
namespace {

// Words of the grammar that act as functions.
constexpr auto keywords = std::to_array<std::string_view>(
    {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "current_role", "current_user",
     "user", "session_user", "current_catalog", "current_schema", "grouping", "coalesce", "greatest", "least"});

}  // namespace

FunctionTrait trait_of(const parser::FunctionCall& call, const Catalog& catalog) {
  FunctionTrait trait;
  trait.server_state = is_server_state(call.name);
  if (trait.server_state) return trait;
  // age(x) counts from today.
  trait.per_server = is_per_server(call.name) || (call.name == "age" && call.argument_count == 1);
  trait.by_order = is_by_order(call.name);
  if (contains(keywords, call.name) && call.schema.empty()) {
    trait.aggregate = call.name == "grouping";
    return trait;
  }
  const bool system = call.schema == "pg_catalog";
  const auto known = catalog.functions.find(call.name);
  if (known == catalog.functions.end() || (!known->second.builtin && system)) {
    // Not known: the worst is assumed, but for the server's own functions, whose aggregates are all known by name.
    const auto builtin = std::ranges::find(builtin_functions(), std::string_view(call.name), &BuiltinFunction::name);
    if (builtin != builtin_functions().end() && (system || !catalog.loaded)) {
      trait.aggregate = builtin->aggregate;
      return trait;
    }
    trait.unknown = trait.user = trait.may_write = !system;
    // A server that has been asked does not have it, and will say so.
    trait.code = trait.unknown && !catalog.loaded;
    return trait;
  }
  const FunctionFacts& facts = known->second;
  trait.aggregate = facts.aggregate;
  trait.user = !facts.builtin && facts.volatility != 'i';
  trait.may_write = !facts.builtin && facts.volatility == 'v';
  trait.code = trait.user && !facts.native;
  // Aggregates are looked up by unqualified name; a user's own of the same name as a scalar is caught by its flag. The
  // server's own are aggregates even if the catalog did not say so.
  const bool own_aggregate = std::ranges::any_of(builtin_functions(), [&call](const BuiltinFunction& function) {
    return function.aggregate && function.name == call.name;
  });
  trait.by_order = trait.by_order || (facts.aggregate && !facts.builtin && !own_aggregate);
  trait.aggregate = trait.aggregate || (facts.builtin && own_aggregate);
  return trait;
}

}  // namespace tessera::router
