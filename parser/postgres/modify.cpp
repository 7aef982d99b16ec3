// INSERT, UPDATE, DELETE and MERGE.
#include <algorithm>

#include "parser/postgres/builder.hpp"

namespace tessera::parser::postgres {

TableIndex Builder::add_target(const PgQuery__RangeVar& node, TableUse use, Scope& scope) {
  const TableIndex table = add_table(node, use, scope.block);
  const std::string alias = node.alias != nullptr ? node.alias->aliasname : node.relname;
  scope.ranges.push_back({alias, node.alias == nullptr ? node.schemaname : "", table, false, nullptr});
  return table;
}

void Builder::modification_clauses(BlockIndex index, std::string_view word, int target, const PgQuery__WithClause* with,
                                   bool from, bool where, bool returning) {
  Block& block = out_.blocks[index];
  const TokenIndex keyword = layout_.keyword(target, word);
  const TokenRange range = layout_.modification(keyword, with);
  block.span = layout_.span(range);
  const bool is_insert = word == "insert", is_update = word == "update";
  const Clause source = is_update ? Clause::from : Clause::using_;
  ClauseSpans found = is_insert ? layout_.clauses(range, keyword, {Clause::on_conflict, Clause::returning})
                      : is_update
                          ? layout_.clauses(range, keyword, {Clause::set, source, Clause::where, Clause::returning})
                          : layout_.clauses(range, keyword, {source, Clause::where, Clause::returning});
  block.clauses.from = found.get(source, from, block.span);
  block.clauses.where = found.get(Clause::where, where, block.span);
  block.clauses.returning = found.get(Clause::returning, returning, block.span);
  if (is_insert) block.clauses.on_conflict = found[Clause::on_conflict];
}

// `column = expression`; of a multiple assignment, one column with an opaque value.
Assignment Builder::assignment(const PgQuery__ResTarget& node, SourceSpan within) const {
  Assignment result;
  result.column = node.name;
  if (node.location >= 0) result.span = layout_.item(node.location, within);
  if (node.n_indirection == 0) result.value = operand(node.val);  // x[1] = 2 does not give x a value that is known
  return result;
}

BlockIndex Builder::insert(const PgQuery__InsertStmt& node, const Place& place) {
  const BlockIndex block = add_block(place, StatementKind::insert);
  out_.effects.writes = true;
  WithScope with{place.with, {}};
  Scope scope{nullptr, &with, block, {}, {}};
  modification_clauses(block, "insert", node.relation->location, node.with_clause, false, false,
                       node.n_returning_list > 0);
  with_clause(node.with_clause, block, place.outer, with);
  add_target(*node.relation, TableUse::insert_target, scope);
  Insert result;
  for (const Node* item : list(node.cols, node.n_cols)) {
    if (const auto* column = as<PgQuery__ResTarget>(item)) result.columns.emplace_back(column->name);
  }
  result.overriding_user_value = node.override == PG_QUERY__OVERRIDING_KIND__OVERRIDING_USER_VALUE;
  result.overriding_system_value = node.override == PG_QUERY__OVERRIDING_KIND__OVERRIDING_SYSTEM_VALUE;
  insert_source(node, block, with, result);
  if (node.on_conflict_clause != nullptr) {
    Clauses& c = out_.blocks[block].clauses;
    if (!c.on_conflict) c.on_conflict = out_.blocks[block].span;
    on_conflict(*node.on_conflict_clause, block, scope, result);
  }
  const SourceSpan returning = out_.blocks[block].clauses.returning.value_or(SourceSpan{});
  targets(list(node.returning_list, node.n_returning_list), block, scope, returning);
  if (place.role == BlockRole::top) out_.insert = std::move(result);
  return block;
}

void Builder::insert_source(const PgQuery__InsertStmt& node, BlockIndex block, const WithScope& with, Insert& insert) {
  const auto* source = as<SelectNode>(node.select_stmt);
  insert.default_values = source == nullptr;
  if (source == nullptr) return;
  const bool plain = source->n_values_lists > 0 && source->with_clause == nullptr && source->n_sort_clause == 0 &&
                     source->limit_count == nullptr && source->limit_offset == nullptr && source->n_locking_clause == 0;
  if (!plain) {
    insert.source = select(*source, {BlockRole::insert_source, block, nullptr, &with}).block;
    return;
  }
  const Scope scope{nullptr, &with, block, {}, {}};
  const NodeList columns = list(node.cols, node.n_cols);
  for (const Node* item : list(source->values_lists, source->n_values_lists)) {
    const auto* row = as<PgQuery__List>(item);
    if (row == nullptr) continue;
    const NodeList values = list(row->items, row->n_items);
    expressions(values, scope);
    std::vector<Operand>& operands = insert.rows.emplace_back();
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto* column = i < columns.size() ? as<PgQuery__ResTarget>(columns[i]) : nullptr;
      operands.push_back(column != nullptr && column->n_indirection > 0 ? Operand{} : operand(values[i]));
    }
  }
  for (TokenIndex i = layout_.core(*source) + 1; tokens_.is(i, "(") && tokens_.match(i) < tokens_.size(); ++i) {
    insert.row_spans.push_back(tokens_.span(i, tokens_.match(i)));
    i = tokens_.match(i) + 1;
    if (!tokens_.is(i, ",")) break;
  }
}

void Builder::on_conflict(const PgQuery__OnConflictClause& node, BlockIndex block, const Scope& scope, Insert& insert) {
  insert.on_conflict = true;
  Scope with_excluded = scope;
  with_excluded.ranges.push_back({"excluded", {}, no_index, true, nullptr});
  if (node.infer != nullptr) {
    expression(node.infer->base, with_excluded);
    insert.conflict_constraint = node.infer->conname;
    if (node.infer->n_index_elems > 0) insert.conflict_columns.emplace();
    for (const Node* item : list(node.infer->index_elems, node.infer->n_index_elems)) {
      const auto* element = as<PgQuery__IndexElem>(item);
      if (element != nullptr && *element->name != '\0') insert.conflict_columns->emplace_back(element->name);
    }
  }
  const SourceSpan clause = *out_.blocks[block].clauses.on_conflict;
  const TokenIndex first = tokens_.at(clause.begin), behind = tokens_.at(clause.end);
  SourceSpan within = clause;  // up to the WHERE of DO UPDATE
  for (TokenIndex i = behind; i > first; --i) {
    if (tokens_.depth(i - 1) != tokens_.depth(first)) continue;
    if (tokens_.is(i - 1, "set")) break;
    if (tokens_.is(i - 1, "where") && node.where_clause != nullptr) within.end = tokens_.end(i - 2);
  }
  for (const Node* item : list(node.target_list, node.n_target_list)) {
    const auto* target = as<PgQuery__ResTarget>(item);
    if (target == nullptr) continue;
    expression(target->val, with_excluded);
    insert.conflict_assignments.push_back(assignment(*target, within));
  }
  expression(node.where_clause, with_excluded);
}

BlockIndex Builder::update(const PgQuery__UpdateStmt& node, const Place& place) {
  const BlockIndex block = add_block(place, StatementKind::update);
  out_.effects.writes = true;
  WithScope with{place.with, {}};
  Scope scope{nullptr, &with, block, {}, {}};
  modification_clauses(block, "update", node.relation->location, node.with_clause, node.n_from_clause > 0,
                       node.where_clause != nullptr, node.n_returning_list > 0);
  with_clause(node.with_clause, block, place.outer, with);
  add_target(*node.relation, TableUse::update_target, scope);
  from_list(list(node.from_clause, node.n_from_clause), scope);
  const Clauses& c = out_.blocks[block].clauses;
  SourceSpan within = out_.blocks[block].span;
  for (const auto& clause : {c.from, c.where, c.returning}) {
    if (clause) within.end = std::min(within.end, clause->begin);
  }
  const SourceSpan returning = c.returning.value_or(SourceSpan{});
  for (const Node* item : list(node.target_list, node.n_target_list)) {
    const auto* target = as<PgQuery__ResTarget>(item);
    if (target == nullptr) continue;
    expression(target->val, scope);
    if (place.role == BlockRole::top) out_.assignments.push_back(assignment(*target, within));
  }
  expression(node.where_clause, scope);
  conjunct(node.where_clause, {scope, scope.tables()});
  targets(list(node.returning_list, node.n_returning_list), block, scope, returning);
  return block;
}

BlockIndex Builder::delete_rows(const PgQuery__DeleteStmt& node, const Place& place) {
  const BlockIndex block = add_block(place, StatementKind::delete_);
  out_.effects.writes = true;
  WithScope with{place.with, {}};
  Scope scope{nullptr, &with, block, {}, {}};
  modification_clauses(block, "delete", node.relation->location, node.with_clause, node.n_using_clause > 0,
                       node.where_clause != nullptr, node.n_returning_list > 0);
  with_clause(node.with_clause, block, place.outer, with);
  add_target(*node.relation, TableUse::delete_target, scope);
  from_list(list(node.using_clause, node.n_using_clause), scope);
  expression(node.where_clause, scope);
  conjunct(node.where_clause, {scope, scope.tables()});
  const SourceSpan returning = out_.blocks[block].clauses.returning.value_or(SourceSpan{});
  targets(list(node.returning_list, node.n_returning_list), block, scope, returning);
  return block;
}

// The condition of a MERGE is that of `source LEFT JOIN target` as soon as rows without a partner are inserted.
BlockIndex Builder::merge(const PgQuery__MergeStmt& node, const Place& place) {
  const BlockIndex block = add_block(place, StatementKind::merge);
  out_.effects.writes = true;
  WithScope with{place.with, {}};
  Scope scope{nullptr, &with, block, {}, {}};
  modification_clauses(block, "merge", node.relation->location, node.with_clause, true, false, false);
  with_clause(node.with_clause, block, place.outer, with);
  const TableIndex target = add_target(*node.relation, TableUse::merge_target, scope);
  from_item(node.source_relation, scope);
  expression(node.join_condition, scope);
  if (auto& from = out_.blocks[block].clauses.from) from->end = layout_.before_when(*from, from->begin).end;
  int inserts = 0;
  bool unmatched = false;
  for (const Node* item : list(node.merge_when_clauses, node.n_merge_when_clauses)) {
    if (const auto* when = as<PgQuery__MergeWhenClause>(item)) {
      unmatched = unmatched || !when->matched;
      inserts += when->command_type == PG_QUERY__CMD_TYPE__CMD_INSERT;
    }
  }
  conjunct(node.join_condition, {scope, unmatched ? std::vector<TableIndex>{target} : scope.tables()});
  for (const Node* item : list(node.merge_when_clauses, node.n_merge_when_clauses)) {
    if (const auto* when = as<PgQuery__MergeWhenClause>(item)) merge_action(*when, scope, inserts == 1);
  }
  return block;
}

// With one INSERT among the actions, it is told as `Statement::insert`.
void Builder::merge_action(const PgQuery__MergeWhenClause& node, const Scope& scope, bool only_insert) {
  expression(node.condition, scope);
  const NodeList values = list(node.values, node.n_values);
  expressions(values, scope);
  const bool inserts = node.command_type == PG_QUERY__CMD_TYPE__CMD_INSERT;
  Insert insert;
  for (const Node* item : list(node.target_list, node.n_target_list)) {
    const auto* column = as<PgQuery__ResTarget>(item);
    if (column == nullptr) continue;
    expression(column->val, scope);
    if (inserts) {
      insert.columns.emplace_back(column->name);
    } else {
      const SourceSpan block = out_.blocks[scope.block].span;
      const auto begin = static_cast<std::uint32_t>(std::max(column->location, 0));
      out_.assignments.push_back(assignment(*column, layout_.before_when(block, begin)));
    }
  }
  if (!inserts || !only_insert) return;
  insert.default_values = values.empty();
  if (!values.empty()) {
    std::vector<Operand>& row = insert.rows.emplace_back();
    for (const Node* value : values) row.push_back(operand(value));
  }
  out_.insert = std::move(insert);
}

}  // namespace tessera::parser::postgres
