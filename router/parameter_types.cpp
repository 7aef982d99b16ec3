#include "router/parameter_types.hpp"

#include <algorithm>

#include "router/facts.hpp"
#include "router/key_class.hpp"

namespace tessera::router {
namespace {

using parser::Operand;
using parser::ParameterUse;

KeyType type_of_column(const Relation* relation, const std::string& name) {
  const Column* column = relation == nullptr ? nullptr : relation->find_column(name);
  return column == nullptr ? KeyType::unsupported : column->key_type;
}

}  // namespace

ParameterTypes::ParameterTypes(const PlanRequest& request, const std::vector<ResolvedTable>& tables)
    : uses_(request.statement.parameter_uses) {
  std::vector<int> numbers;
  for (const ParameterUse& use : uses_) numbers.push_back(use.parameter);
  std::ranges::sort(numbers);
  repeated_ = std::ranges::adjacent_find(numbers) != numbers.end();
  if (!repeated_) return;
  collect(request, tables);
  collect_rows(request, tables);
}

// The places in conditions.
void ParameterTypes::collect(const PlanRequest& request, const std::vector<ResolvedTable>& tables) {
  const FactBase base(request, tables);
  for (const auto& constant : base.constants()) {
    const parser::Condition& condition = *constant.condition;
    const KeyType type = base.type_of(constant.column);
    const bool list = condition.comparison == parser::Comparison::in && condition.operands.size() > 1;
    if (list && !list_keeps_values(condition.operands, type, request)) continue;
    for (const Operand& operand : condition.operands) add(operand, type, condition.any_array);
  }
  for (const auto& rows : base.rows()) {
    for (const auto& row : rows.condition->rows) {
      for (std::size_t i = 0; i < std::min(row.size(), rows.columns.size()); ++i) {
        add(row[i], base.type_of(rows.columns[i]), false);
      }
    }
  }
}

// The places in what is written to the statement's target.
void ParameterTypes::collect_rows(const PlanRequest& request, const std::vector<ResolvedTable>& tables) {
  const parser::Statement& statement = request.statement;
  const auto target = std::ranges::find_if(statement.tables, [](const parser::TableRef& table) {
    return table.block == 0 &&
           (table.use == parser::TableUse::insert_target || table.use == parser::TableUse::update_target);
  });
  if (target == statement.tables.end()) return;
  const Relation* relation = tables[static_cast<std::size_t>(target - statement.tables.begin())].relation;
  if (relation == nullptr) return;
  const auto assign = [&](const std::vector<parser::Assignment>& assignments) {
    for (const auto& assignment : assignments)
      add(assignment.value, type_of_column(relation, assignment.column), false);
  };
  assign(statement.assignments);
  if (!statement.insert) return;
  assign(statement.insert->conflict_assignments);
  const auto& listed = statement.insert->columns;
  if (listed.empty() && !relation->complete) return;
  for (const auto& row : statement.insert->rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i >= (listed.empty() ? relation->columns.size() : listed.size())) break;
      add(row[i], listed.empty() ? relation->columns[i].key_type : type_of_column(relation, listed[i]), false);
    }
  }
}

void ParameterTypes::add(const Operand& operand, KeyType type, bool array) {
  if (operand.kind == Operand::Kind::parameter) places_.push_back({operand.span.begin, type, array});
}

bool ParameterTypes::inferred(const Operand& operand, KeyType column, bool array) const {
  if (!repeated_) return true;
  KeyType type = column;
  if (!operand.cast.empty()) {
    std::string_view cast = operand.cast;
    if (array && cast.ends_with("[]")) cast.remove_suffix(2);
    type = key_type_of(cast);
  }
  const auto same = [&](const ParameterUse& use) { return use.parameter == operand.parameter; };
  if (std::ranges::count_if(uses_, same) <= 1) return true;
  return std::ranges::all_of(uses_, [&](const ParameterUse& use) { return !same(use) || asks_for(use, type, array); });
}

// The width of an integer is no matter: as text it is the same number, and in binary another width is seen.
bool ParameterTypes::asks_for(const ParameterUse& use, KeyType type, bool array) const {
  if (!use.cast.empty()) {
    std::string_view cast = use.cast;
    if (cast.ends_with("[]") != array) return false;
    if (array) cast.remove_suffix(2);
    return same_constants(key_type_of(cast), type);
  }
  return std::ranges::any_of(places_, [&](const Place& place) {
    return place.begin == use.begin && place.array == array && same_constants(place.type, type);
  });
}

}  // namespace tessera::router
