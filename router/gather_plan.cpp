// Which statements can be gathered, and how: the fragments, and the rest of the statement.
#include <algorithm>
#include <array>
#include <charconv>
#include <fmt/format.h>
#include <set>

#include "parser/lexer.hpp"
#include "router/contains.hpp"
#include "router/facts.hpp"
#include "router/first_rows.hpp"
#include "router/planning.hpp"
#include "router/prepared_block.hpp"
#include "router/rewrite.hpp"
#include "router/text.hpp"
#include "router/view_expansion.hpp"

namespace tessera::router {
namespace {

using parser::Block;
using parser::BlockIndex;
using parser::Comparison;
using parser::Condition;
using parser::no_index;
using parser::Operand;
using parser::SourceSpan;
using parser::TableIndex;
using parser::TableRef;
using parser::TargetItem;
using parser::Token;
using parser::TokenKind;
using Kind = ResolvedTable::Kind;

// pg_type.oid of regproc, regprocedure, regoper, regoperator, regclass, regtype, regconfig, regdictionary,
// regnamespace, regrole, regcollation, and of their arrays.
constexpr auto catalog_types =
    std::to_array<TypeOid>({24,   2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191,
                            1008, 2207, 2208, 2209, 2210, 2211, 3735, 3770, 4090, 4097, 4192});
// They tell of the transaction, the session's temporary tables, or a type.
constexpr auto telltale_functions = std::to_array<std::string_view>(
    {"pg_typeof", "current_setting", "current_schemas", "pg_my_temp_schema", "pg_is_other_temp_schema"});
constexpr auto system_columns = std::to_array<std::string_view>({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"});

bool has_alias(std::string_view sql, const TargetItem& target) {
  parser::Lexer lexer(sql.substr(std::min<std::size_t>(target.span.end, sql.size())), {});
  const Token token = lexer.next();
  return token.kind == TokenKind::word && token.end - token.begin == 2 &&
         lower(sql.substr(target.span.end + token.begin, 2)) == "as";
}

// What a fragment's query is made of.
class FragmentWriter {
public:
  FragmentWriter(const PlanRequest& request, const std::vector<ResolvedTable>& tables,
                 const std::vector<std::uint32_t>& component_of)
      : request_(request),
        statement_(request.statement),
        tables_(tables),
        component_of_(component_of),
        names_(request.sql),
        facts_(request, tables) {}

  std::string query(TableIndex index) const {
    const TableRef& table = statement_.tables[index];
    std::vector<std::string> conditions = filters(index);
    std::ranges::move(partners(index), std::back_inserter(conditions));
    return fmt::format("SELECT{}{}", columns(index), from(table, conditions));
  }

  // Those that the statement names, or all. A name may mean something else, then a column too many is copied.
  std::string columns(TableIndex index) const {
    std::string list;
    for (const Column& column : tables_[index].relation->columns) {
      if (!needs_all(index) && !names_.has(column.name)) continue;
      list += fmt::format("{} {}", list.empty() ? "" : ",", quoted(column.name));
    }
    return list;  // may be none: SELECT FROM t
  }

private:
  std::string from(const TableRef& table, const std::vector<std::string>& conditions) const {
    return fmt::format(" FROM {}{}{}{}", table.only ? "ONLY " : "", text_of(request_.sql, table.span),
                       conditions.empty() ? "" : " WHERE ", fmt::join(conditions, " AND "));
  }

  // A row counts only together with one that its table is joined with; on the sharding key that one is on the same
  // shard. What restricts the other table decides there who has a partner.
  std::vector<std::string> partners(TableIndex index) const {
    std::vector<std::string> found;
    for (const FactBase::Equality& equality : facts_.equalities()) {
      if (!contains(equality.restricts, index) || equality.left_table == equality.right_table) continue;
      const bool left = equality.left_table == index;
      const TableIndex other = left ? equality.right_table : equality.left_table;
      if (tables_[other].kind != Kind::sharded || component_of_[other] != component_of_[index]) continue;
      const Node own_node = left ? equality.left : equality.right, other_node = left ? equality.right : equality.left;
      if (!is_whole_key(index, own_node) || !is_whole_key(other, other_node)) continue;
      const std::vector<std::string> conditions = filters(other);
      if (conditions.empty()) continue;
      std::string condition =
          fmt::format("{} IN (SELECT {}{})", quoted(facts_.column_of(own_node)), quoted(facts_.column_of(other_node)),
                      from(statement_.tables[other], conditions));
      if (!contains(found, condition)) found.push_back(std::move(condition));
    }
    return found;
  }

  bool is_whole_key(TableIndex index, Node node) const {
    const TableRouting* routing = tables_[index].routing;
    return tables_[index].kind == Kind::sharded && !statement_.tables[index].renamed &&
           routing->key_columns.size() == 1 && routing->key_columns.front() == facts_.column_of(node) &&
           tables_[index].relation->find_column(facts_.column_of(node)) != nullptr;
  }

  bool needs_all(TableIndex index) const {
    const TableRef& table = statement_.tables[index];
    if (table.renamed || names_.unreadable()) return true;
    return std::ranges::any_of(statement_.blocks, [](const Block& block) {
      return block.clauses.natural_join || std::ranges::any_of(block.targets, &parser::TargetItem::star);
    });
  }

  // Conditions that each row must fulfil that can matter.
  std::vector<std::string> filters(TableIndex index) const {
    std::vector<std::string> found;
    if (hides_system(request_.session.search_path)) return found;
    for (const Condition& condition : statement_.conditions) {
      if (condition.column.table != index || !contains(condition.restricts, index) || !condition.merged.empty())
        continue;
      if (tables_[index].relation->find_column(condition.column.name) == nullptr) continue;  // a function of the row
      if (std::string text = filter(condition); !text.empty()) found.push_back(std::move(text));
    }
    return found;
  }

  // Empty: it is not certain that it would mean the same.
  std::string filter(const Condition& condition) const {
    if (condition.operands.empty()) return {};
    std::string operands;
    for (const Operand& operand : condition.operands) {
      const std::string text = operand_text(operand);
      if (text.empty() || !same_kind(operand, condition.operands.front())) return {};
      operands += fmt::format("{}{}", operands.empty() ? "" : ", ", text);
    }
    const std::string column = quoted(condition.column.name);
    if (condition.comparison == Comparison::in && condition.any_array)
      return fmt::format("{} = ANY ({})", column, operands);
    if (condition.comparison == Comparison::in) return fmt::format("{} IN ({})", column, operands);
    if (condition.operands.size() != 1) return {};
    return fmt::format("{} {} {}", column, sign(condition.comparison), operands);
  }

  // The server gives a list one type, but each of several equalities its own: the list must mean the same as they.
  bool same_kind(const Operand& a, const Operand& b) const {
    if (&a == &b) return true;
    if (a.kind != b.kind || a.kind == Operand::Kind::parameter) return false;
    if (a.kind != Operand::Kind::literal) return true;
    return is_string(a) == is_string(b) && is_whole(a) == is_whole(b);
  }
  bool is_string(const Operand& operand) const {
    const std::string_view text = text_of(request_.sql, operand.span);
    return text.contains('\'') || text.starts_with('$');
  }
  bool is_whole(const Operand& operand) const {
    return std::ranges::all_of(text_of(request_.sql, operand.span), is_digit);
  }

  std::string operand_text(const Operand& operand) const {
    if (!operand.cast.empty()) return {};  // the cast may have had a modifier
    switch (operand.kind) {
      case Operand::Kind::literal:
      case Operand::Kind::boolean:
        return fmt::format("{}{}", operand.negative ? "-" : "", text_of(request_.sql, operand.span));
      case Operand::Kind::parameter:
        return fmt::format("${}", operand.parameter);
      case Operand::Kind::null:
      case Operand::Kind::default_:
      case Operand::Kind::array:
      case Operand::Kind::opaque:
        return {};
    }
    return {};
  }

  static std::string_view sign(Comparison comparison) {
    switch (comparison) {
      case Comparison::equal:
      case Comparison::in:
        return "=";
      case Comparison::less:
        return "<";
      case Comparison::less_equal:
        return "<=";
      case Comparison::greater:
        return ">";
      case Comparison::greater_equal:
        return ">=";
    }
    return "=";
  }

  const PlanRequest& request_;
  const parser::Statement& statement_;
  const std::vector<ResolvedTable>& tables_;
  const std::vector<std::uint32_t>& component_of_;
  Names names_;
  FactBase facts_;
};

// On the merge node, for the fragment of this number.
std::string table_for(std::size_t fragment) {
  return fmt::format("pg_temp.tessera_gather_{}", fragment + 1);
}

// For LOCK TABLE; empty: it takes no such thing.
std::string lockable(const Relation& relation) {
  if (relation.kind != Relation::Kind::table && relation.kind != Relation::Kind::partitioned_table) return {};
  return fmt::format("{}.{}", quoted(relation.schema), quoted(relation.name));
}

// What its servers are asked and given besides, for the tables that it reads.
void complete(GatherFragment& fragment, const std::vector<const Relation*>& relations) {
  std::string names;
  for (const Relation* relation : relations) {
    names += names.empty() ? "'" : ", '";
    for (const char c : fmt::format("{}.{}", quoted(relation->schema), quoted(relation->name)))
      names.append(c == '\'' ? 2 : 1, c);
    names += "'::pg_catalog.regclass";
    const std::string lock = lockable(*relation);
    fragment.lock += fmt::format("{}{}", fragment.lock.empty() || lock.empty() ? "" : ", ", lock);
    for (const Column& column : relation->columns)
      fragment.columns += fmt::format("{}{}", fragment.columns.empty() ? "" : "\n", column.name);
  }
  fragment.check = fmt::format(
      "SELECT pg_catalog.string_agg(a.attname::pg_catalog.text, pg_catalog.chr(10) ORDER BY t.number, a.attnum), "
      "pg_catalog.string_agg(pg_catalog.concat(pg_catalog.format_type(a.atttypid, a.atttypmod), ' ', c.collname), "
      "pg_catalog.chr(10) ORDER BY t.number, a.attnum) FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.oid[]) WITH "
      "ORDINALITY t (id, number) JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) t.id LEFT JOIN "
      "pg_catalog.pg_collation c ON c.oid OPERATOR(pg_catalog.=) a.attcollation "
      "WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped",
      names);
  parser::Lexer lexer(fragment.query, {});
  for (Token token = lexer.next(); token.kind != TokenKind::end && token.kind != TokenKind::bad; token = lexer.next()) {
    if (token.kind != TokenKind::parameter) continue;
    int number = 0;
    const char* const begin = fragment.query.data() + token.begin + 1;
    std::from_chars(begin, fragment.query.data() + token.end, number);
    fragment.parameters.push_back(number);
  }
}

}  // namespace

// Why the statement cannot run on rows that were copied; none: it can.
std::optional<Error> Planning::gather_refusal() const {
  const parser::Effects& effects = statement_.effects;
  if (effects.writes || effects.locks_rows || effects.session_advisory_lock || effects.changes_settings ||
      effects.temporary_objects)
    return refuse(request_, "a query that writes, locks or changes settings cannot run on several shards yet",
                  statement_.span, key_hint_text());
  for (const Block& block : statement_.blocks) {
    if (block.kind != parser::StatementKind::select)
      return refuse(request_, "a query that writes cannot run on several shards yet", block.span, key_hint_text());
    if (auto refusal = ungatherable_function(block)) return refusal;
    if (block.clauses.table_sample)
      return refuse(request_, "TABLESAMPLE over rows of several shards is not supported yet",
                    block.clauses.from.value_or(block.span), key_hint_text());
  }
  if (const auto* table = first_table(Kind::catalog))
    return refuse(request_, fmt::format("the system catalog \"{}\" differs from shard to shard", table->name),
                  table->span, key_hint_text());
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    const Relation* relation = tables_[i].relation;
    if (relation == nullptr || relation->kind != Relation::Kind::view || !relation->runs_code) continue;
    return refuse(request_,
                  fmt::format("the view \"{}\", which runs code, together with rows of several shards is not "
                              "supported yet",
                              relation->name),
                  statement_.tables[i].span, key_hint_text());
  }
  for (std::size_t i = 0; i < tables_.size(); ++i)
    if (tables_[i].kind != Kind::reference)
      if (auto refusal = uncopyable(i)) return refusal;
  const Names names(request_.sql);
  if (auto refusal = whole_rows(names)) return refusal;
  for (const std::string_view column : system_columns) {
    if (!names.unreadable() && names.has(std::string(column)))
      return refuse(request_, fmt::format("the system column \"{}\" has another value on each shard", column),
                    statement_.span, key_hint_text());
  }
  return std::nullopt;
}

// None that is known: the server that would have it is asked, and knows best.
bool Planning::is_nowhere(std::size_t index) const {
  return tables_[index].kind == Kind::plain && tables_[index].relation == nullptr && request_.catalog.loaded;
}

// A table whose rows would not be the same elsewhere.
std::optional<Error> Planning::uncopyable(std::size_t index) const {
  const ResolvedTable& table = tables_[index];
  if (table.kind == Kind::temporary || table.kind == Kind::catalog) return std::nullopt;
  if (is_nowhere(index)) return std::nullopt;
  if (table.relation == nullptr || !table.relation->complete)
    return refuse(
        request_, fmt::format("the columns of \"{}\" are not known", table.name), statement_.tables[index].span,
        request_.catalog.loaded ? "create it on the default shard" : "list them in the configuration: columns");
  const auto named = std::ranges::find_if(table.relation->columns,
                                          [](const Column& column) { return contains(catalog_types, column.type); });
  if (named == table.relation->columns.end()) return std::nullopt;
  return refuse(
      request_,
      fmt::format("the column \"{}\" names an object of its shard's catalog by a number, which means another on "
                  "each shard",
                  named->name),
      statement_.tables[index].span, key_hint_text());
}

// A copied row has another type than the table's: functions, casts and operators for that would not be meant.
std::optional<Error> Planning::whole_rows(const Names& names) const {
  const auto refused = [&](SourceSpan span) {
    return refuse(request_, "a row as a whole, over rows of several shards, is not supported yet", span,
                  "name its columns, or select from a subquery that does");
  };
  std::size_t stars = 0;
  for (const Block& block : statement_.blocks) {
    if (block.clauses.join_alias) return refused(block.clauses.from.value_or(block.span));
    for (const TargetItem& target : block.targets)
      stars += target.star && text_of(request_.sql, target.span).contains('.') ? 1u : 0u;
    for (const parser::FieldRef& field : block.fields) {
      const bool known = field.table < tables_.size() && tables_[field.table].relation != nullptr;
      if (!known || !tables_[field.table].relation->complete) continue;
      if (tables_[field.table].relation->find_column(field.name) == nullptr) return refused(field.span);
    }
  }
  if (names.stars() > stars) return refused(statement_.span);
  for (std::size_t i = 0; i < tables_.size(); ++i)
    if (stands_alone(names, i)) return refused(statement_.span);
  return std::nullopt;
}

// The table's name stands once more than where tables and columns of the result are named. A column of its own by that
// name goes before.
bool Planning::stands_alone(const Names& names, std::size_t index) const {
  const TableRef& table = statement_.tables[index];
  const Relation* relation = tables_[index].relation;
  if (relation != nullptr && !table.renamed && relation->find_column(table.alias) != nullptr) return false;
  std::size_t named = 0;
  for (const TableRef& other : statement_.tables) {
    named += other.schema.empty() && other.name == table.alias ? 1u : 0u;
    named += other.aliased && other.alias == table.alias ? 1u : 0u;
  }
  for (const Block& block : statement_.blocks) {
    const auto results = std::ranges::count_if(block.targets, [&](const TargetItem& target) {
      return target.name == table.alias && has_alias(request_.sql, target);
    });
    named += static_cast<std::size_t>(results);
    if (results > 0 && block.clauses.order_by)
      named += items_named(text_of(request_.sql, *block.clauses.order_by), table.alias);
  }
  return names.alone(table.alias) > named;
}

// The row of a view has the view's type, that of its query has none.
std::optional<Error> Planning::view_row_refusal() const {
  const Names names(request_.sql);
  for (std::size_t i = 0; i < tables_.size(); ++i)
    if (tables_[i].expands && stands_alone(names, i))
      return refuse(request_, "a row as a whole, over rows of several shards, is not supported yet",
                    statement_.tables[i].span, "name its columns");
  return std::nullopt;
}

std::optional<Error> Planning::ungatherable_function(const Block& block) const {
  for (const parser::FunctionCall& call : calls(block)) {
    if (contains(telltale_functions, call.name) || call.name.starts_with("txid_") ||
        call.name.starts_with("pg_current_xact") || call.name.starts_with("pg_current_snapshot"))
      return refuse(
          request_,
          fmt::format("{}() over rows of several shards is not supported yet: it would tell of the copies", call.name),
          call.span, key_hint_text());
    const FunctionTrait trait = trait_of(call, request_.catalog);
    const auto known = request_.catalog.functions.find(call.name);
    const bool own_aggregate =
        known != request_.catalog.functions.end() && known->second.aggregate && !known->second.builtin;
    if (!trait.server_state && !trait.unknown && !trait.user && !trait.may_write && !own_aggregate) continue;
    return refuse(request_,
                  fmt::format("the {} {}() over rows of several shards is not supported yet",
                              trait.server_state ? "function" : "user-defined function", call.name),
                  call.span, key_hint_text());
  }
  return std::nullopt;
}

ShardId Planning::merge_node(const PlanTemplate& plan, const std::vector<std::vector<ShardId>>& shards,
                             std::uint32_t spread) const {
  for (std::size_t i = 0; i < tables_.size(); ++i)
    if (is_nowhere(i)) return tables_[i].shard;
  // What is on one shard only need not be copied.
  for (const Component& component : plan.components)
    if (component.plain_shard) return *component.plain_shard;
  std::vector<ShardId> all;
  for (const auto& some : shards)
    for (const ShardId shard : some)
      if (!contains(all, shard)) all.push_back(shard);
  std::ranges::sort(all);
  return all.empty() ? ShardId(0) : all[spread % all.size()];
}

// Why the statement cannot be gathered inside a transaction; none: it can.
std::optional<Error> Planning::transaction_refusal() const {
  for (const Block& block : statement_.blocks) {
    for (const parser::FunctionCall& call : calls(block)) {
      if (!trait_of(call, request_.catalog).per_server) continue;
      return refuse(request_,
                    fmt::format("{}() over rows of several shards, inside a transaction, would have another value than "
                                "the transaction's",
                                call.name),
                    call.span, "give the value as a literal or parameter");
    }
  }
  for (std::size_t i = 0; i < tables_.size(); ++i)
    if (tables_[i].kind == Kind::reference)
      if (auto refusal = uncopyable(i)) return refusal;
  return std::nullopt;
}

Result<GatherPlan> Planning::gather(const PlanTemplate& plan, const Values& values, bool in_transaction,
                                    std::uint32_t spread) const {
  if (in_transaction)
    if (auto refusal = transaction_refusal()) return std::unexpected(*std::move(refusal));
  BindScratch scratch;
  auto shards = component_shards(plan, request_.topology, values, scratch);
  if (!shards) return std::unexpected(shards.error());
  GatherPlan out;
  out.in_transaction = in_transaction;
  std::vector<Replacement> replacements;
  out.merge = merge_node(plan, *shards, spread);
  for (const ResolvedTable& table : tables_) {
    const bool there = table.kind == Kind::sharded || table.kind == Kind::reference || table.shard == out.merge;
    if (table.relation == nullptr || table.kind == Kind::catalog || table.kind == Kind::temporary || !there) continue;
    if (std::string name = lockable(*table.relation); !name.empty()) out.locks.push_back(std::move(name));
  }
  const FragmentWriter writer(request_, tables_, component_of_);
  const auto rows = [&](TableIndex table) { return writer.query(table); };
  std::vector<bool> prepared(tables_.size());
  for (BlockIndex i = 0; i < statement_.blocks.size(); ++i) {
    if (std::ranges::any_of(statement_.blocks[i].tables, [&](TableIndex table) { return prepared[table]; })) continue;
    const std::string name = table_for(out.fragments.size());
    auto block = prepare(i, name, rows);
    if (!block) continue;
    out.fragments.push_back(
        {.table = name, .query = std::move(block->parts.query), .shards = (*shards)[component_of_[block->decides]]});
    std::ranges::move(block->parts.replacements, std::back_inserter(replacements));
    std::vector<const Relation*> relations;
    for (const TableIndex table : block->tables) {
      prepared[table] = true;
      if (!contains(relations, tables_[table].relation)) relations.push_back(tables_[table].relation);
    }
    complete(out.fragments.back(), relations);
  }
  const bool one_table = tables_.size() == 1 && tables_.front().kind == Kind::sharded && !prepared.front();
  const auto only_first =
      one_table ? first_rows(request_, tables_.front(), calls(statement_.blocks.front())) : std::nullopt;
  for (TableIndex i = 0; i < tables_.size(); ++i) {
    GatherFragment fragment;
    if (prepared[i]) continue;
    if (tables_[i].kind == Kind::sharded)
      fragment.shards = (*shards)[component_of_[i]];
    else if (tables_[i].kind == Kind::plain && (in_transaction || tables_[i].shard != out.merge) && !is_nowhere(i))
      fragment.shards = {tables_[i].shard};
    else if (tables_[i].kind == Kind::reference && in_transaction)
      fragment.shards = {out.merge};
    else
      continue;
    fragment.query = only_first ? fmt::format("SELECT{} {}", writer.columns(i), *only_first) : writer.query(i);
    auto same = std::ranges::find_if(out.fragments, [&](const GatherFragment& other) {
      return other.query == fragment.query && other.shards == fragment.shards;
    });
    if (same == out.fragments.end()) {
      fragment.table = table_for(out.fragments.size());
      complete(fragment, {tables_[i].relation});
      same = out.fragments.insert(out.fragments.end(), std::move(fragment));
    }
    replacements.push_back(in_place_of(request_.sql, statement_.tables[i], same->table));
  }
  out.statement = rewritten(request_.sql, statement_.span, std::move(replacements));
  return out;
}

std::vector<ShardId> GatherPlan::shards() const {
  std::vector<ShardId> all = sources();
  const auto place = std::ranges::lower_bound(all, merge);
  if (place == all.end() || *place != merge) all.insert(place, merge);
  return all;
}

std::vector<ShardId> GatherPlan::sources() const {
  std::set<ShardId> all;
  for (const GatherFragment& fragment : fragments) all.insert(fragment.shards.begin(), fragment.shards.end());
  return {all.begin(), all.end()};
}

namespace {

// A client who may not read the view must not read what its query would give.
void require_views(GatherPlan& plan, const std::vector<std::string>& views) {
  for (GatherFragment& fragment : plan.fragments)
    for (const std::string& view : views)
      fragment.check += fmt::format(" AND NOT EXISTS (SELECT * FROM {} LIMIT 0)", view);
}

Result<GatherPlan> gather(const PlanRequest& request, const Values& values, bool in_transaction, std::uint32_t spread) {
  Planning planning(request);
  const auto expansion = planning.expansion();
  if (!expansion) return std::unexpected(expansion.error());
  if (*expansion) {
    if (auto refusal = planning.view_row_refusal()) return std::unexpected(*std::move(refusal));
    const Expansion& expanded = **expansion;
    Values inner = values;
    inner.sql = expanded.sql;
    auto plan = gather({expanded.statement, expanded.sql, {}, {}, request.topology, request.catalog, request.session},
                       inner, in_transaction, spread);
    if (plan)
      require_views(*plan, expanded.views);
    else
      plan.error().position = expanded.position_before(plan.error().position);
    return plan;
  }
  const PlanTemplate plan = planning.run();
  if (plan.refusal) return std::unexpected(*plan.refusal);
  return planning.gather(plan, values, in_transaction, spread);
}

}  // namespace

Result<GatherPlan> gather(const parser::Statement& statement, const Values& values, const Topology& topology,
                          const Catalog& catalog, const SessionView& session, bool in_transaction,
                          std::uint32_t spread) {
  if (statement.kind == parser::StatementKind::explain) {
    const std::string text = without_explain(values.sql, statement);
    Values inner = values;
    inner.sql = text;
    return gather(statement.inner.front(), inner, topology, catalog, session, in_transaction, spread);
  }
  if (!values.same_encoding)
    return fail(sqlstate::feature_not_supported,
                "a query over several shards needs the database's client_encoding, in which the rows travel", "SET it");
  // Without slots: operands stand for themselves.
  return gather({statement, values.sql, {}, {}, topology, catalog, session}, values, in_transaction, spread);
}

}  // namespace tessera::router
