// FROM: tables, subqueries, functions and joins, and what they make visible.
#include <algorithm>

#include "parser/postgres/builder.hpp"

namespace tessera::parser::postgres {

namespace {

void append(std::vector<TableIndex>& to, const std::vector<TableIndex>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

// The scope in which the ON condition of a join is written: the join's own tables and the enclosing queries.
Scope join_scope(const Scope& scope, std::size_t first, std::size_t behind) {
  Scope result{scope.outer, scope.with, scope.block, {}, {}};
  for (std::size_t i = first; i < behind; ++i) result.ranges.push_back(scope.ranges[i]);
  return result;
}

}  // namespace

TableIndex Builder::add_table(const PgQuery__RangeVar& node, TableUse use, BlockIndex block) {
  TableRef table;
  table.schema = node.schemaname;
  table.name = node.relname;
  table.alias = node.alias != nullptr ? node.alias->aliasname : node.relname;
  table.aliased = node.alias != nullptr;
  table.renamed = node.alias != nullptr && node.alias->n_colnames > 0;
  table.use = use;
  table.created = created_ != nullptr && &node.base == created_;
  table.block = block;
  table.only = use != TableUse::ddl_target && !node.inh;
  if (node.location >= 0) {
    const TokenIndex first = tokens_.at(static_cast<std::uint32_t>(node.location));
    TokenIndex last = first;
    while (tokens_.is(last + 1, ".")) last += 2;
    table.span = tokens_.span(first, last);
  }
  out_.tables.push_back(std::move(table));
  const auto index = static_cast<TableIndex>(out_.tables.size() - 1);
  if (block < out_.blocks.size()) out_.blocks[block].tables.push_back(index);
  return index;
}

void Builder::from_list(NodeList nodes, Scope& scope) {
  for (const Node* node : nodes) {
    const JoinSide side = from_item(node, scope);
    scope.merged.insert(scope.merged.end(), side.merged.begin(), side.merged.end());
  }
}

JoinSide Builder::from_item(const Node* node, Scope& scope) {
  if (const auto* table = as<PgQuery__RangeVar>(node)) return from_table(*table, scope);
  if (const auto* query = as<PgQuery__RangeSubselect>(node)) return from_subquery(*query, scope);
  if (const auto* join_node = as<PgQuery__JoinExpr>(node)) return join(*join_node, scope);
  if (const auto* sample = as<PgQuery__RangeTableSample>(node)) {
    out_.blocks[scope.block].clauses.table_sample = true;
    const JoinSide side = from_item(sample->relation, scope);
    expressions(list(sample->args, sample->n_args), scope);
    expression(sample->repeatable, scope);
    return side;
  }
  const Message* inside = content(node);
  if (inside == nullptr) return {scope.ranges.size(), {}, {}};
  if (const auto* function_node = as<PgQuery__RangeFunction>(node))
    return from_function(*inside, function_node->alias, scope);
  if (const auto* table_function = as<PgQuery__RangeTableFunc>(node)) {
    return from_function(*inside, table_function->alias, scope);
  }
  return from_function(*inside, nullptr, scope);  // unknown: could show any column
}

JoinSide Builder::from_table(const PgQuery__RangeVar& node, Scope& scope) {
  JoinSide side{scope.ranges.size(), {}, {}};
  const std::string_view schema = node.schemaname;
  const std::string alias = node.alias != nullptr ? node.alias->aliasname : node.relname;
  const auto names =
      node.alias == nullptr ? std::vector<std::string>{} : strings(list(node.alias->colnames, node.alias->n_colnames));
  const WithQuery* with = schema.empty() && scope.with != nullptr ? scope.with->find(node.relname) : nullptr;
  if (with != nullptr) {
    auto output = names.empty() ? with->output : std::make_shared<const Output>(with->output->renamed(names));
    side.tables = output->tables();
    out_.blocks[scope.block].clauses.with_query = true;
    scope.ranges.push_back({alias, {}, no_index, false, std::move(output)});
    return side;
  }
  const TableIndex table = add_table(node, TableUse::read, scope.block);
  side.tables = {table};
  scope.ranges.push_back(
      {alias, node.alias == nullptr ? std::string(schema) : std::string(), table, !names.empty(), nullptr});
  return side;
}

JoinSide Builder::from_subquery(const PgQuery__RangeSubselect& node, Scope& scope) {
  JoinSide side{scope.ranges.size(), {}, {}};
  const auto* query_node = as<SelectNode>(node.subquery);
  Range range;
  range.alias = node.alias != nullptr ? node.alias->aliasname : "";
  range.output = std::make_shared<Output>();
  if (query_node != nullptr) {
    const BlockRole role = node.lateral ? BlockRole::lateral_subquery : BlockRole::from_subquery;
    const Query query = select(*query_node, {role, scope.block, node.lateral ? &scope : scope.outer, scope.with});
    const auto names = node.alias == nullptr ? std::vector<std::string>{}
                                             : strings(list(node.alias->colnames, node.alias->n_colnames));
    range.output = std::make_shared<Output>(query.output->renamed(names));
  } else if (const Message* inside = content(node.subquery)) {
    expression(*inside, scope);
  }
  side.tables = range.output->tables();
  scope.ranges.push_back(std::move(range));
  return side;
}

JoinSide Builder::from_function(const Message& node, const PgQuery__Alias* alias, Scope& scope) {
  out_.blocks[scope.block].clauses.range_function = true;
  for_each_child(node, [this, &scope](const Message& child) { expression(child, scope); });
  const JoinSide side{scope.ranges.size(), {}, {}};
  scope.ranges.push_back({alias != nullptr ? alias->aliasname : "", {}, no_index, true, nullptr});
  return side;
}

JoinSide Builder::join(const PgQuery__JoinExpr& node, Scope& scope) {
  const JoinSide left = from_item(node.larg, scope);
  const JoinSide right = from_item(node.rarg, scope);
  const bool outer = node.jointype != PG_QUERY__JOIN_TYPE__JOIN_INNER;
  Clauses& c = out_.blocks[scope.block].clauses;
  c.outer_join = c.outer_join || outer;
  c.natural_join = c.natural_join || node.is_natural;

  JoinSide both{left.first, left.tables, left.merged};
  append(both.tables, right.tables);
  both.merged.insert(both.merged.end(), right.merged.begin(), right.merged.end());
  Scope visible = join_scope(scope, left.first, scope.ranges.size());
  visible.merged = both.merged;
  expression(node.quals, visible);

  // The rows of the nullable side alone are filtered by an outer join's condition.
  Filter filter{visible, both.tables};
  if (node.jointype == PG_QUERY__JOIN_TYPE__JOIN_LEFT) filter.tables = right.tables;
  if (node.jointype == PG_QUERY__JOIN_TYPE__JOIN_RIGHT) filter.tables = left.tables;
  if (node.jointype == PG_QUERY__JOIN_TYPE__JOIN_FULL) {
    filter.tables.clear();
    filter.full_join = true;
  }
  conjunct(node.quals, filter);
  if (node.jointype != PG_QUERY__JOIN_TYPE__JOIN_INNER) {
    for (TableIndex table : filter.full_join ? both.tables : filter.tables) out_.tables[table].nullable = true;
  }
  if (node.n_using_clause > 0) join_using(node, left, right, both, scope);
  if (node.is_natural) {  // which columns are merged is for the catalog to say
    both.merged.clear();
  }
  if (node.alias != nullptr || node.join_using_alias != nullptr) out_.blocks[scope.block].clauses.join_alias = true;
  if (node.alias != nullptr) {  // hides the names of both sides
    scope.ranges.resize(left.first);
    scope.ranges.push_back({node.alias->aliasname, {}, no_index, true, nullptr});
    both.merged.clear();
  } else if (node.join_using_alias != nullptr) {
    scope.ranges.push_back({node.join_using_alias->aliasname,
                            {},
                            no_index,
                            false,
                            std::make_shared<Output>(Output{{}, no_index, true, false})});
  }
  return both;
}

void Builder::join_using(const PgQuery__JoinExpr& node, const JoinSide& left, const JoinSide& right, JoinSide& both,
                         const Scope& scope) {
  const auto side_scope = [&scope](const JoinSide& side, std::size_t behind) {
    Scope result = join_scope(scope, side.first, behind);
    result.outer = nullptr;  // USING names columns of the two sides only
    result.merged = side.merged;
    return result;
  };
  const Scope left_scope = side_scope(left, right.first);
  const Scope right_scope = side_scope(right, scope.ranges.size());
  Filter filter{scope, both.tables};
  if (node.jointype == PG_QUERY__JOIN_TYPE__JOIN_LEFT) filter.tables = right.tables;
  if (node.jointype == PG_QUERY__JOIN_TYPE__JOIN_RIGHT) filter.tables = left.tables;
  filter.full_join = node.jointype == PG_QUERY__JOIN_TYPE__JOIN_FULL;
  if (filter.full_join) filter.tables.clear();
  for (const std::string& name : strings(list(node.using_clause, node.n_using_clause))) {
    Resolution a = resolve(left_scope, {}, name);
    Resolution b = resolve(right_scope, {}, name);
    equate(a, b, filter);
    if (node.jointype == PG_QUERY__JOIN_TYPE__JOIN_RIGHT) std::swap(a, b);  // the merged column is the right one
    Resolution merged;
    merged.known = a.known && b.known && a.columns[0].table != no_index && b.columns[0].table != no_index;
    merged.equal = a.equal && !filter.full_join;
    merged.columns = a.columns;
    merged.columns.insert(merged.columns.end(), b.columns.begin(), b.columns.end());
    std::erase_if(both.merged, [&name](const Merged& m) { return m.name == name; });
    both.merged.push_back({name, std::move(merged)});
  }
}

}  // namespace tessera::parser::postgres
