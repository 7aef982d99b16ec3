#include "router/facts.hpp"

#include <algorithm>
#include <numeric>

#include "router/contains.hpp"
#include "router/key_class.hpp"

namespace tessera::router {

using parser::no_index;
using parser::TableIndex;

FactBase::FactBase(const PlanRequest& request, const std::vector<ResolvedTable>& tables) : tables_(tables) {
  const parser::Statement& statement = request.statement;
  for (TableIndex i = 0; i < tables.size(); ++i) {
    if (tables[i].kind != ResolvedTable::Kind::sharded) continue;
    for (const std::string& key : tables[i].routing->key_columns) node(i, key);
  }
  // What = and < mean is not certain then.
  if (hides_system(request.session.search_path)) return;
  for (const auto& equality : statement.equalities) add_equality(equality);
  for (const auto& condition : statement.conditions) {
    const TableIndex table = table_of(condition.column, condition.restricts);
    if (table == no_index || !compares_itself(condition)) continue;
    constants_.push_back({node(table, condition.column.name), &condition, {table}});
  }
  for (const auto& condition : statement.row_conditions) {
    Rows rows{{}, &condition, {}};
    for (const auto& column : condition.columns) {
      const TableIndex table = table_of(column, condition.restricts);
      if (table == no_index) break;
      rows.columns.push_back(node(table, column.name));
      rows.restricts.push_back(table);
    }
    if (rows.columns.size() == condition.columns.size()) rows_.push_back(std::move(rows));
  }
}

Node FactBase::node(TableIndex table, const std::string& column) {
  const auto found = std::ranges::find(nodes_, std::pair(table, column));
  const auto index = static_cast<Node>(found - nodes_.begin());
  if (found == nodes_.end()) nodes_.emplace_back(table, column);
  return index;
}

// An unqualified name that could belong to several tables: the catalog tells, if just one of them has such a column
// (were there another that it does not know of, the server would call the name ambiguous). With more than one, the name
// is ambiguous or merged by USING; the parser gives the latter as conditions on each.
TableIndex FactBase::table_of(const parser::ColumnRef& column, const std::vector<TableIndex>& restricts) const {
  if (column.table != no_index) return contains(restricts, column.table) ? column.table : no_index;
  TableIndex found = no_index;
  for (const TableIndex table : restricts) {
    const Relation* relation = tables_[table].relation;
    if (relation == nullptr || relation->find_column(column.name) == nullptr) continue;
    if (found != no_index) return no_index;
    found = table;
  }
  return found;
}

// What USING has merged from columns of different types has another type than at least one of them.
bool FactBase::compares_itself(const parser::Condition& condition) const {
  const auto type = [this](const parser::ColumnRef& column) { return type_of(column.table, column.name); };
  return std::ranges::all_of(condition.merged, [&](const parser::ColumnRef& column) {
    return same_constants(type(condition.merged.front()), type(column));
  });
}

KeyType FactBase::type_of(TableIndex table, const std::string& column) const {
  if (const TableRouting* routing = tables_[table].routing) {
    const auto key = std::ranges::find(routing->key_columns, column);
    const auto at = static_cast<std::size_t>(key - routing->key_columns.begin());
    if (at < routing->key_types.size()) return routing->key_types[at];
  }
  const Relation* relation = tables_[table].relation;
  const Column* known = relation == nullptr ? nullptr : relation->find_column(column);
  return known != nullptr && known->deterministic ? known->key_type : KeyType::unsupported;
}

void FactBase::add_equality(const parser::ColumnEquality& equality) {
  const auto either = [&](const parser::ColumnRef& column) {
    if (column.table != no_index) return column.table;
    return table_of(column, equality.restricts);
  };
  const TableIndex left = either(equality.left);
  const TableIndex right = either(equality.right);
  if (left == no_index || right == no_index) return;
  if (!same_constants(type_of(left, equality.left.name), type_of(right, equality.right.name))) return;
  std::vector<TableIndex> restricts;
  for (const TableIndex table : {left, right}) {
    if (contains(equality.restricts, table)) restricts.push_back(table);
  }
  equalities_.push_back(
      {node(left, equality.left.name), node(right, equality.right.name), left, right, std::move(restricts)});
}

Facts::Facts(const FactBase& base, TableIndex table) : reached_(base.table_count()), parents_(base.node_count()) {
  std::iota(parents_.begin(), parents_.end(), Node{0});
  reached_[table] = true;
  for (bool grown = true; grown;) {
    grown = false;
    for (const auto& equality : base.equalities()) {
      if (!hold(equality.restricts) || (reached_[equality.left_table] && reached_[equality.right_table])) continue;
      reached_[equality.left_table] = reached_[equality.right_table] = true;
      grown = true;
    }
  }
  for (const auto& equality : base.equalities()) {
    if (hold(equality.restricts)) parents_[root(equality.left)] = root(equality.right);
  }
}

bool Facts::hold(const std::vector<TableIndex>& restricts) const {
  return std::ranges::any_of(restricts, [this](TableIndex table) { return reached_[table]; });
}

Node Facts::root(Node node) const {
  while (parents_[node] != node) node = parents_[node];
  return node;
}

}  // namespace tessera::router
