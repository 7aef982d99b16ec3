// SELECT, VALUES, set operations and WITH.
#include <algorithm>

#include "parser/postgres/builder.hpp"

namespace tessera::parser::postgres {

namespace {

const char* operator_name(const SelectNode& node) {
  switch (node.op) {
    case PG_QUERY__SET_OPERATION__SETOP_UNION:
      return node.all ? "union all" : "union";
    case PG_QUERY__SET_OPERATION__SETOP_INTERSECT:
      return node.all ? "intersect all" : "intersect";
    case PG_QUERY__SET_OPERATION__SETOP_EXCEPT:
      return node.all ? "except all" : "except";
    default:
      return "";
  }
}

// The grammar writes plain DISTINCT as a list with one empty node.
bool is_distinct_on(const SelectNode& node) {
  return node.n_distinct_clause > 0 && content(node.distinct_clause[0]) != nullptr;
}

bool has_grouping_sets(NodeList group) {
  return std::ranges::any_of(group, [](const Node* node) { return as<PgQuery__GroupingSet>(node) != nullptr; });
}

bool is_star(const Node* node) {
  const auto* column = as<PgQuery__ColumnRef>(node);
  return column != nullptr && column->n_fields > 0 &&
         as<PgQuery__AStar>(column->fields[column->n_fields - 1]) != nullptr;
}

// The ranges that a `*` or `t.*` stands for.
std::vector<const Range*> star_ranges(const Node* node, const Scope& scope) {
  const auto* column = as<PgQuery__ColumnRef>(node);
  std::vector<const Range*> result;
  const bool qualified = column->n_fields == 2;
  const auto* name = qualified ? as<PgQuery__String>(column->fields[0]) : nullptr;
  for (const Range& range : scope.ranges) {
    if (!qualified || (name != nullptr && range.alias == name->sval)) result.push_back(&range);
  }
  return result;
}

}  // namespace

BlockIndex Builder::add_block(const Place& place, StatementKind kind) {
  Block block;
  block.role = place.role;
  block.parent = place.parent;
  block.kind = kind;
  out_.blocks.push_back(std::move(block));
  return static_cast<BlockIndex>(out_.blocks.size() - 1);
}

Builder::Query Builder::select(const SelectNode& node, const Place& place) {
  const Query query{add_block(place, StatementKind::select), nullptr};
  out_.blocks[query.block].span = layout_.span(layout_.query(node));
  WithScope with{place.with, {}};
  with_clause(node.with_clause, query.block, place.outer, with);
  if (node.larg != nullptr && node.rarg != nullptr) return set_operation(node, query, place, with);
  Scope scope{place.outer, &with, query.block, {}, {}};
  if (node.n_values_lists > 0) return values(node, query, scope);
  select_core(node, query.block, scope);
  return {query.block, std::make_shared<Output>(output(node, query.block, scope))};
}

void Builder::with_clause(const PgQuery__WithClause* node, BlockIndex block, const Scope* outer, WithScope& with) {
  if (node == nullptr) return;
  const NodeList ctes = list(node->ctes, node->n_ctes);
  if (node->recursive) {  // each sees all of them, itself included; what it gives is not followed
    for (const Node* item : ctes) {
      if (const auto* cte = as<PgQuery__CommonTableExpr>(item)) {
        with.queries.push_back({cte->ctename, std::make_shared<Output>()});
      }
    }
  }
  for (const Node* item : ctes) {
    const auto* cte = as<PgQuery__CommonTableExpr>(item);
    if (cte == nullptr) continue;
    const Query query = with_query(*cte, block, outer, with);
    out_.blocks[query.block].cte_name = cte->ctename;
    out_.blocks[query.block].recursive = node->recursive != 0;
    if (!node->recursive) with.queries.push_back({cte->ctename, query.output});
  }
}

Builder::Query Builder::with_query(const PgQuery__CommonTableExpr& cte, BlockIndex block, const Scope* outer,
                                   const WithScope& with) {
  const Place place{BlockRole::cte, block, outer, &with};
  const auto unknown = std::make_shared<Output>();
  if (const auto* insert_node = as<PgQuery__InsertStmt>(cte.ctequery)) return {insert(*insert_node, place), unknown};
  if (const auto* update_node = as<PgQuery__UpdateStmt>(cte.ctequery)) return {update(*update_node, place), unknown};
  if (const auto* delete_node = as<PgQuery__DeleteStmt>(cte.ctequery))
    return {delete_rows(*delete_node, place), unknown};
  const auto* select_node = as<SelectNode>(cte.ctequery);
  if (select_node == nullptr) return {add_block(place, StatementKind::other), unknown};
  const Query query = select(*select_node, place);
  Output result = query.output->renamed(strings(list(cte.aliascolnames, cte.n_aliascolnames)));
  // A filter on one use of the query is no filter on what the other uses see.
  const auto uses = name_uses_.find(cte.ctename);
  if (uses != name_uses_.end() && uses->second > 1) result.transparent = false;
  return {query.block, std::make_shared<Output>(std::move(result))};
}

Builder::Query Builder::set_operation(const SelectNode& node, Query query, const Place& place, const WithScope& with) {
  out_.blocks[query.block].set_operation = operator_name(node);
  const Place operand_place{BlockRole::set_operand, query.block, place.outer, &with};
  const Query left = select(*node.larg, operand_place);
  select(*node.rarg, operand_place);
  clauses(node, query.block);
  Scope scope{place.outer, &with, query.block, {}, {}};
  scope.ranges.push_back({{}, {}, no_index, true, nullptr});  // ORDER BY names the operands' output columns
  tail(node, query.block, scope);
  Output result = *left.output;
  result.transparent = false;
  return {query.block, std::make_shared<Output>(std::move(result))};
}

Builder::Query Builder::values(const SelectNode& node, Query query, Scope& scope) {
  out_.blocks[query.block].values = true;
  Output result;
  result.complete = true;
  for (const Node* item : list(node.values_lists, node.n_values_lists)) {
    const auto* row = as<PgQuery__List>(item);
    if (row == nullptr) continue;
    expressions(list(row->items, row->n_items), scope);
    while (result.columns.size() < row->n_items) {
      result.columns.push_back({"column" + std::to_string(result.columns.size() + 1), {}});
    }
  }
  clauses(node, query.block);
  scope.ranges.push_back({{}, {}, no_index, true, nullptr});
  tail(node, query.block, scope);
  return {query.block, std::make_shared<Output>(std::move(result))};
}

void Builder::select_core(const SelectNode& node, BlockIndex block, Scope& scope) {
  clauses(node, block);
  if (node.into_clause != nullptr && node.into_clause->rel != nullptr) {
    created_ = &node.into_clause->rel->base;
    add_table(*node.into_clause->rel, TableUse::ddl_target, no_index);
    out_.effects.writes = true;
    const std::string_view persistence = node.into_clause->rel->relpersistence;
    if (persistence == "t" || names_temporary_schema()) out_.effects.temporary_objects = true;
    out_.effects.until_commit = node.into_clause->on_commit == PG_QUERY__ON_COMMIT_ACTION__ONCOMMIT_DROP;
  }
  from_list(list(node.from_clause, node.n_from_clause), scope);
  expression(node.where_clause, scope);
  conjunct(node.where_clause, {scope, scope.tables()});
  targets(list(node.target_list, node.n_target_list), block, scope, out_.blocks[block].span);
  expressions(list(node.distinct_clause, node.n_distinct_clause), scope);
  expressions(list(node.group_clause, node.n_group_clause), scope);
  expression(node.having_clause, scope);
  expressions(list(node.window_clause, node.n_window_clause), scope);
  tail(node, block, scope);
}

// What may stand behind a select as well as behind a set operation.
void Builder::tail(const SelectNode& node, BlockIndex block, const Scope& scope) {
  expressions(list(node.sort_clause, node.n_sort_clause), scope);
  expression(node.limit_count, scope);
  expression(node.limit_offset, scope);
  if (node.n_locking_clause > 0) lock_rows(node, block, scope);
}

// FOR UPDATE locks the rows of all tables in FROM, those in subqueries too; FOR UPDATE OF t those of t alone.
void Builder::lock_rows(const SelectNode& node, BlockIndex block, const Scope& scope) {
  out_.effects.locks_rows = true;
  for (const Node* item : list(node.locking_clause, node.n_locking_clause)) {
    const auto* clause = as<PgQuery__LockingClause>(item);
    if (clause == nullptr || clause->n_locked_rels == 0) return lock_block(block);
    for (const Node* named : list(clause->locked_rels, clause->n_locked_rels)) {
      const auto* name = as<PgQuery__RangeVar>(named);
      const auto range = std::ranges::find_if(
          scope.ranges, [name](const Range& r) { return name != nullptr && r.alias == name->relname; });
      // A subquery, or a join's alias: which tables it stands for is not asked.
      if (range == scope.ranges.end() || range->table == no_index) return lock_block(block);
      out_.tables[range->table].locked = true;
    }
  }
}

void Builder::lock_block(BlockIndex block) {
  for (TableIndex table : out_.blocks[block].tables) out_.tables[table].locked = true;
  for (BlockIndex i = 0; i < out_.blocks.size(); ++i) {
    const Block& inner = out_.blocks[i];
    const bool in_from = inner.role == BlockRole::from_subquery || inner.role == BlockRole::lateral_subquery;
    if (inner.parent == block && in_from) lock_block(i);
  }
}

void Builder::clauses(const SelectNode& node, BlockIndex index) {
  Block& block = out_.blocks[index];
  Clauses& c = block.clauses;
  const TokenRange range = layout_.tail(node);
  ClauseSpans found =
      layout_.clauses(range, range.first,
                      {Clause::into, Clause::from, Clause::where, Clause::group_by, Clause::having, Clause::window,
                       Clause::order_by, Clause::limit, Clause::offset, Clause::locking});
  const auto get = [&](Clause clause, bool present) { return found.get(clause, present, block.span); };
  c.into = get(Clause::into, node.into_clause != nullptr);
  c.from = get(Clause::from, node.n_from_clause > 0);
  c.where = get(Clause::where, node.where_clause != nullptr);
  c.group_by = get(Clause::group_by, node.n_group_clause > 0);
  c.having = get(Clause::having, node.having_clause != nullptr);
  c.window = get(Clause::window, node.n_window_clause > 0);
  c.order_by = get(Clause::order_by, node.n_sort_clause > 0);
  c.limit = get(Clause::limit, node.limit_count != nullptr);
  c.offset = get(Clause::offset, node.limit_offset != nullptr);
  c.locking = get(Clause::locking, node.n_locking_clause > 0);
  c.grouping_sets = has_grouping_sets(list(node.group_clause, node.n_group_clause));
  c.with_ties = node.limit_option == PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_WITH_TIES;
  if (node.n_from_clause > 0 && !found[Clause::from]) {  // TABLE t
    for (const auto& next : {c.order_by, c.limit, c.offset, c.locking}) {
      if (next && next->begin > c.from->begin) c.from->end = std::min(c.from->end, next->begin);
    }
  }
  if (node.n_distinct_clause == 0) return;
  const TokenIndex distinct = range.first + 1;
  const bool on = is_distinct_on(node);
  const bool there = tokens_.is(distinct, "distinct");
  const TokenIndex last = on && tokens_.is(distinct + 2, "(") ? tokens_.match(distinct + 2) : distinct;
  (on ? c.distinct_on : c.distinct) = there ? tokens_.span(distinct, last) : block.span;
}

// A select list or RETURNING. `within` is what it may reach to; it ends before the first clause of the block in there.
void Builder::targets(NodeList nodes, BlockIndex block, const Scope& scope, SourceSpan within) {
  const Clauses c = out_.blocks[block].clauses;
  for (const auto& clause :
       {c.into, c.from, c.where, c.group_by, c.having, c.window, c.order_by, c.limit, c.offset, c.locking}) {
    if (clause && clause->begin > within.begin) within.end = std::min(within.end, clause->begin);
  }
  for (const Node* node : nodes) {
    const auto* target = as<PgQuery__ResTarget>(node);
    if (target == nullptr) continue;
    expression(target->val, scope);
    const std::string_view alias = target->name;
    TargetItem item;
    item.span = target->location < 0 ? within : layout_.item(target->location, within);
    item.name = alias.empty() ? column_name(target->val) : std::string(alias);
    item.star = is_star(target->val);
    if (!alias.empty() && target->location >= 0) {  // cut the label, and AS, off
      TokenIndex last = tokens_.at(item.span.end) - 1;
      if (tokens_.kind(last) == TokenKind::string && tokens_.is(last - 1, "uescape")) last -= 2;
      --last;
      if (tokens_.is(last, "as")) --last;
      if (tokens_.end(last) > item.span.begin) item.span.end = tokens_.end(last);
    }
    if (item.star) {
      item.name = "*";
    } else if (const auto* column = as<PgQuery__ColumnRef>(target->val)) {
      const Resolution found = resolve(scope, *column);
      if (found.known && found.equal) item.column = found.columns[0];
    }
    out_.blocks[block].targets.push_back(std::move(item));
  }
}

// Whether a filter on an output column is a filter on the rows below.
bool Builder::transparent(const SelectNode& node, BlockIndex block) const {
  if (node.n_group_clause > 0 || node.having_clause != nullptr || node.limit_count != nullptr) return false;
  if (node.limit_offset != nullptr || is_distinct_on(node) || node.n_locking_clause > 0) return false;
  if (node.into_clause != nullptr) return false;
  const auto& functions = out_.blocks[block].functions;
  return std::ranges::none_of(functions, [](const FunctionCall& f) { return f.window || has_side_effects(f); });
}

Output Builder::output(const SelectNode& node, BlockIndex block, const Scope& scope) const {
  Output result;
  result.transparent = transparent(node, block);
  result.complete = true;
  for (const Node* item : list(node.target_list, node.n_target_list)) {
    const auto* target = as<PgQuery__ResTarget>(item);
    if (target == nullptr) continue;
    if (!is_star(target->val)) {
      const std::string_view alias = target->name;
      OutputColumn column{alias.empty() ? column_name(target->val) : std::string(alias), {}};
      if (const auto* name = as<PgQuery__ColumnRef>(target->val)) column.source = resolve(scope, *name);
      if (column.source.outer) column.source = {};  // a filter on it is none on this query's rows
      result.columns.push_back(std::move(column));
      continue;
    }
    const auto ranges = star_ranges(target->val, scope);
    const Range* only = ranges.size() == 1 ? ranges[0] : nullptr;
    if (only != nullptr && !only->any_column && only->table != no_index && result.star == no_index) {
      result.star = only->table;
    } else if (only != nullptr && only->output && only->output->transparent && result.star == no_index) {
      result.star = only->output->star;
      result.complete = result.complete && only->output->complete;
      result.columns.insert(result.columns.end(), only->output->columns.begin(), only->output->columns.end());
    } else {
      result.star = no_index;
      result.complete = false;
      result.transparent = false;
    }
  }
  return result;
}

}  // namespace tessera::parser::postgres
