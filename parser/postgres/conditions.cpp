// Conditions that decide a shard. Only what every row must fulfil is told: conjuncts, and alternatives that all speak
// of the same column. Anything that is not understood gives no condition.
#include <algorithm>

#include "parser/postgres/builder.hpp"

namespace tessera::parser::postgres {

namespace {

bool contains(const std::vector<TableIndex>& tables, TableIndex table) {
  return std::ranges::find(tables, table) != tables.end();
}

// The tables among `tables` for whose rows a filter on this column is one.
std::vector<TableIndex> restricted(const ColumnRef& column, const std::vector<TableIndex>& candidates,
                                   const std::vector<TableIndex>& tables) {
  std::vector<TableIndex> result;
  if (column.table != no_index) {
    if (contains(tables, column.table)) result.push_back(column.table);
    return result;
  }
  for (TableIndex table : candidates) {
    if (contains(tables, table) && !contains(result, table)) result.push_back(table);
  }
  return result;
}

bool has_opaque(const std::vector<Operand>& operands) {
  return std::ranges::any_of(
      operands, [](const Operand& o) { return o.kind == Operand::Kind::opaque || o.kind == Operand::Kind::default_; });
}

// With transform_null_equals, x = NULL means x IS NULL.
bool is_null(const std::vector<Operand>& operands) {
  return operands.size() == 1 && operands[0].kind == Operand::Kind::null;
}

std::optional<Comparison> comparison_of(std::string_view name, bool swapped) {
  if (name == "=") return Comparison::equal;
  if (name == "<") return swapped ? Comparison::greater : Comparison::less;
  if (name == "<=") return swapped ? Comparison::greater_equal : Comparison::less_equal;
  if (name == ">") return swapped ? Comparison::less : Comparison::greater;
  if (name == ">=") return swapped ? Comparison::less_equal : Comparison::greater_equal;
  return std::nullopt;
}

const PgQuery__List* as_list(const Node* node) {
  return as<PgQuery__List>(node);
}

NodeList row_items(const PgQuery__RowExpr& row) {
  return list(row.args, row.n_args);
}

}  // namespace

// In one arm of an OR: the column has one of these values.
struct Builder::Fact {
  Resolution column;
  std::vector<Operand> operands;
  bool single = false;  // by = and not by IN
};

void Builder::conjunct(const Node* node, const Filter& filter) {
  if (const auto* boolean = as<PgQuery__BoolExpr>(node)) {
    if (boolean->boolop == PG_QUERY__BOOL_EXPR_TYPE__AND_EXPR) {
      for (const Node* part : list(boolean->args, boolean->n_args)) conjunct(part, filter);
    } else if (boolean->boolop == PG_QUERY__BOOL_EXPR_TYPE__OR_EXPR) {
      alternatives(*boolean, filter);
    }
  } else if (const auto* expression_node = as<PgQuery__AExpr>(node)) {
    comparison(*expression_node, filter);
  } else if (const auto* link = as<PgQuery__SubLink>(node)) {
    in_subquery(*link, filter);
  }
}

void Builder::comparison(const PgQuery__AExpr& node, const Filter& filter) {
  const std::string name = builtin_name(list(node.name, node.n_name));
  switch (node.kind) {
    case PG_QUERY__A__EXPR__KIND__AEXPR_IN:
      return in_list(node, filter);
    case PG_QUERY__A__EXPR__KIND__AEXPR_OP_ANY:
      return any_array(node, filter);
    case PG_QUERY__A__EXPR__KIND__AEXPR_BETWEEN: {
      const auto* column = as<PgQuery__ColumnRef>(node.lexpr);
      const auto* bounds = as_list(node.rexpr);
      if (column == nullptr || bounds == nullptr || bounds->n_items != 2) return;
      const Resolution found = resolve(filter.scope, *column);
      compare(found, Comparison::greater_equal, {operand(bounds->items[0])}, filter);
      return compare(found, Comparison::less_equal, {operand(bounds->items[1])}, filter);
    }
    case PG_QUERY__A__EXPR__KIND__AEXPR_OP:
      break;
    default:
      return;
  }
  if (name == "=") return equality(node.lexpr, node.rexpr, filter);
  const auto* left = as<PgQuery__ColumnRef>(node.lexpr);
  const auto* right = as<PgQuery__ColumnRef>(node.rexpr);
  if ((left == nullptr) == (right == nullptr)) return;
  const auto how = comparison_of(name, right != nullptr);
  if (!how) return;
  compare(resolve(filter.scope, left != nullptr ? *left : *right), *how,
          {operand(left != nullptr ? node.rexpr : node.lexpr)}, filter);
}

void Builder::equality(const Node* left, const Node* right, const Filter& filter) {
  const auto* left_row = as<PgQuery__RowExpr>(left);
  const auto* right_row = as<PgQuery__RowExpr>(right);
  if (left_row != nullptr && right_row != nullptr) return row_equality(*left_row, *right_row, filter);
  const auto* left_column = as<PgQuery__ColumnRef>(left);
  const auto* right_column = as<PgQuery__ColumnRef>(right);
  if (left_column != nullptr && right_column != nullptr) {
    equate(resolve(filter.scope, *left_column), resolve(filter.scope, *right_column), filter);
  } else if (left_column != nullptr || right_column != nullptr) {
    std::vector<Operand> value = {operand(left_column != nullptr ? right : left)};
    if (is_null(value)) return;
    compare(resolve(filter.scope, left_column != nullptr ? *left_column : *right_column), Comparison::equal,
            std::move(value), filter);
  }
}

void Builder::row_equality(const PgQuery__RowExpr& left, const PgQuery__RowExpr& right, const Filter& filter) {
  if (left.n_args != right.n_args) return;
  for (std::size_t i = 0; i < left.n_args; ++i) equality(left.args[i], right.args[i], filter);
}

bool Builder::column_and_values(const Node* left, NodeList right, const Scope& scope, Resolution& column,
                                std::vector<Operand>& operands) const {
  const auto* name = as<PgQuery__ColumnRef>(left);
  if (name == nullptr) return false;
  column = resolve(scope, *name);
  for (const Node* value : right) operands.push_back(operand(value));
  return column.known && !has_opaque(operands);
}

void Builder::in_list(const PgQuery__AExpr& node, const Filter& filter) {
  const auto* values = as_list(node.rexpr);
  if (builtin_name(list(node.name, node.n_name)) != "=" || values == nullptr) return;  // "<>" is NOT IN
  const NodeList items = list(values->items, values->n_items);
  if (const auto* row = as<PgQuery__RowExpr>(node.lexpr)) return row_in_list(*row, items, filter);
  Resolution column;
  std::vector<Operand> operands;
  if (column_and_values(node.lexpr, items, filter.scope, column, operands)) {
    compare(column, Comparison::in, std::move(operands), filter);
  }
}

void Builder::row_in_list(const PgQuery__RowExpr& row, NodeList rows, const Filter& filter) {
  std::vector<std::vector<Fact>> arms;
  for (const Node* item : rows) {
    const auto* values = as<PgQuery__RowExpr>(item);
    if (values == nullptr || values->n_args != row.n_args) return;
    std::vector<Fact>& arm = arms.emplace_back();
    for (std::size_t i = 0; i < row.n_args; ++i) {
      Fact fact;
      fact.single = true;
      if (column_and_values(row.args[i], row_items(*values).subspan(i, 1), filter.scope, fact.column, fact.operands)) {
        arm.push_back(std::move(fact));
      }
    }
  }
  row_alternatives(arms, filter);
}

// x = ANY (array). With ALL, or another operator, nothing is told.
void Builder::any_array(const PgQuery__AExpr& node, const Filter& filter) {
  const auto* column = as<PgQuery__ColumnRef>(node.lexpr);
  if (builtin_name(list(node.name, node.n_name)) != "=" || column == nullptr) return;
  const Resolution found = resolve(filter.scope, *column);
  const std::size_t before = out_.conditions.size();
  compare(found, Comparison::in, {operand(node.rexpr)}, filter);
  for (std::size_t i = before; i < out_.conditions.size(); ++i) out_.conditions[i].any_array = true;
}

// x IN (SELECT y …): rows of the inner query with another y do not count.
void Builder::in_subquery(const PgQuery__SubLink& node, const Filter& filter) {
  const std::string name = builtin_name(list(node.oper_name, node.n_oper_name));
  const auto* column = as<PgQuery__ColumnRef>(node.testexpr);
  const auto inner = sub_queries_.find(&node);
  if (node.sub_link_type != PG_QUERY__SUB_LINK_TYPE__ANY_SUBLINK || column == nullptr || inner == sub_queries_.end())
    return;
  if (node.n_oper_name > 0 && name != "=") return;
  const Output& output = *inner->second.output;
  if (!output.transparent || output.star != no_index || output.columns.size() != 1) return;
  const Scope at_block{nullptr, nullptr, inner->second.block, {}, {}};
  const Resolution left = resolve(filter.scope, *column);
  if (!left.known || left.columns[0].table == no_index)
    return;  // in the inner block its name could mean another column
  equate(left, output.columns[0].source, {at_block, output.tables()});
}

void Builder::arm_facts(const Node* node, const Filter& filter, std::vector<Fact>& facts) const {
  if (const auto* boolean = as<PgQuery__BoolExpr>(node)) {
    if (boolean->boolop != PG_QUERY__BOOL_EXPR_TYPE__AND_EXPR) return;
    for (const Node* part : list(boolean->args, boolean->n_args)) arm_facts(part, filter, facts);
    return;
  }
  const auto* comparison_node = as<PgQuery__AExpr>(node);
  if (comparison_node == nullptr || builtin_name(list(comparison_node->name, comparison_node->n_name)) != "=") return;
  Fact fact;
  if (comparison_node->kind == PG_QUERY__A__EXPR__KIND__AEXPR_IN) {
    const auto* values = as_list(comparison_node->rexpr);
    if (values == nullptr) return;
    const NodeList items = list(values->items, values->n_items);
    if (column_and_values(comparison_node->lexpr, items, filter.scope, fact.column, fact.operands))
      facts.push_back(std::move(fact));
  } else if (comparison_node->kind == PG_QUERY__A__EXPR__KIND__AEXPR_OP) {
    fact.single = true;
    const bool swapped = as<PgQuery__ColumnRef>(comparison_node->lexpr) == nullptr;
    Node* const column = swapped ? comparison_node->rexpr : comparison_node->lexpr;
    Node* const value = swapped ? comparison_node->lexpr : comparison_node->rexpr;
    if (column_and_values(column, {&value, 1}, filter.scope, fact.column, fact.operands) && !is_null(fact.operands))
      facts.push_back(std::move(fact));
  }
}

void Builder::alternatives(const PgQuery__BoolExpr& node, const Filter& filter) {
  std::vector<std::vector<Fact>> arms;
  for (const Node* arm : list(node.args, node.n_args)) arm_facts(arm, filter, arms.emplace_back());
  row_alternatives(arms, filter);
}

// What all arms say of the same columns: one `in` for each column, and the rows if there are several columns.
void Builder::row_alternatives(const std::vector<std::vector<Fact>>& arms, const Filter& filter) {
  if (arms.empty()) return;
  RowCondition rows;
  rows.block = filter.scope.block;
  rows.rows.resize(arms.size());
  bool rows_known = true;
  for (const Fact& first : arms[0]) {
    rows_known = rows_known && first.column.columns.size() == 1;  // a merged one is compared by itself, see below
    std::vector<const Fact*> same;
    for (const auto& arm : arms) {
      const auto found =
          std::ranges::find_if(arm, [&](const Fact& f) { return f.column.columns == first.column.columns; });
      if (found != arm.end()) same.push_back(&*found);
    }
    if (same.size() != arms.size()) continue;
    std::vector<Operand> all;
    for (const Fact* fact : same) all.insert(all.end(), fact->operands.begin(), fact->operands.end());
    compare(first.column, Comparison::in, std::move(all), filter);
    const auto tables = restricted(first.column.columns[0], first.column.candidates, filter.tables);
    if (tables.empty()) continue;
    rows_known = rows_known && std::ranges::all_of(same, [](const Fact* fact) { return fact->single; });
    for (std::size_t i = 0; i < same.size(); ++i) rows.rows[i].push_back(same[i]->operands[0]);
    rows.columns.push_back(first.column.columns[0]);
    for (TableIndex table : tables) {
      if (!contains(rows.restricts, table)) rows.restricts.push_back(table);
    }
  }
  if (rows_known && rows.columns.size() > 1 && !rows.restricts.empty()) out_.row_conditions.push_back(std::move(rows));
}

void Builder::compare(const Resolution& column, Comparison how, std::vector<Operand> operands, const Filter& filter) {
  if (!column.known || has_opaque(operands)) return;
  for (const ColumnRef& one : column.columns) {
    Condition condition;
    condition.block = filter.scope.block;
    condition.restricts = restricted(one, column.candidates, filter.tables);
    if (condition.restricts.empty()) continue;
    condition.column = one;
    condition.comparison = how;
    condition.operands = operands;
    if (column.columns.size() > 1) condition.merged = column.columns;
    out_.conditions.push_back(std::move(condition));
  }
}

void Builder::equate(const Resolution& left, const Resolution& right, const Filter& filter) {
  if (!left.known || !right.known || !left.equal || !right.equal || left.columns[0] == right.columns[0]) return;
  ColumnEquality equality;
  equality.block = filter.scope.block;
  equality.left = left.columns[0];
  equality.right = right.columns[0];
  equality.restricts = restricted(equality.left, left.candidates, filter.tables);
  for (TableIndex table : restricted(equality.right, right.candidates, filter.tables)) {
    if (!contains(equality.restricts, table)) equality.restricts.push_back(table);
  }
  if (!equality.restricts.empty() || filter.full_join) out_.equalities.push_back(std::move(equality));
}

}  // namespace tessera::parser::postgres
