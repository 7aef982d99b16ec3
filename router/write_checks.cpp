// What must hold so that a write on several shards does on them, each with its own rows, what one server would do.
#include <algorithm>
#include <array>
#include <fmt/core.h>

#include "parser/lexer.hpp"
#include "router/builtin_functions.hpp"
#include "router/contains.hpp"
#include "router/planning.hpp"
#include "router/text.hpp"

namespace tessera::router {

using parser::Block;
using parser::BlockIndex;
using parser::no_index;
using parser::Operand;
using parser::StatementKind;
using parser::Token;
using parser::TokenKind;

namespace {

constexpr auto system_columns = std::to_array<std::string_view>({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"});
// Types and functions that give an object's number in the catalog of its server.
constexpr auto object_names = std::to_array<std::string_view>(
    {"regclass", "regproc", "regprocedure", "regoper", "regoperator", "regtype", "regrole", "regnamespace",
     "regcollation", "to_regclass", "to_regproc", "to_regprocedure", "to_regoper", "to_regoperator", "to_regtype",
     "to_regrole", "to_regnamespace", "to_regcollation"});
constexpr SqlState syntax_error{"42601"};
constexpr std::string_view by_columns = "name rows by their own columns";

// Of these types a text means what it says.
bool takes_texts_as_they_are(KeyType type) {
  switch (type) {
    case KeyType::date:
    case KeyType::timestamp:
    case KeyType::timestamptz:
    case KeyType::time:
    case KeyType::unsupported:
      return false;
    default:
      return true;
  }
}

// Whether the name of a type, or what could be one, stands beside a text in the statement.
bool names_types(std::string_view sql) {
  parser::Lexer lexer(sql, {});
  bool named = false;
  for (Token token = lexer.next(); token.kind != TokenKind::end; token = lexer.next()) {
    const std::string_view text = text_of(sql, {token.begin, token.end});
    const bool literal = is_literal(token.kind) && !is_number(token.kind);
    if (token.kind == TokenKind::bad || text == "::" || (named && literal)) return true;
    if (token.kind == TokenKind::word && equal_ignoring_case(text, "cast")) return true;
    named = token.kind == TokenKind::word || token.kind == TokenKind::quoted_identifier;
  }
  return false;
}

}  // namespace

// UPDATE, DELETE and INSERT … SELECT, sent to several shards as they are.
std::optional<Error> Planning::scattered_write_refusal() const {
  const BlockIndex source = statement_.insert ? statement_.insert->source : 0;
  const Block& rows = statement_.blocks[source];
  if (auto refusal = clause_refusal(rows)) return refusal;
  // In FROM a function is evaluated once for all rows.
  const auto random = std::ranges::find_if(rows.functions, [](const auto& call) { return is_per_row(call.name); });
  if (rows.clauses.range_function && random != rows.functions.end())
    return refuse(request_,
                  fmt::format("{}() together with a function in FROM over rows of several shards is not supported yet",
                              random->name),
                  random->span, key_hint_text());
  if (auto refusal = shared_write_refusal(source)) return refusal;
  // A row that is changed, or that gives one to be inserted, is on one of the shards.
  const bool driven =
      source == 0 ? bool(driving_[target()]) : std::ranges::any_of(rows.tables, [this](std::uint32_t table) {
        return driving_[table] && !statement_.tables[table].nullable;
      });
  if (driven) return std::nullopt;
  return refuse(request_,
                fmt::format("the rows of {} come from an outer join's other side, or from a subquery, so several "
                            "shards could give the same row",
                            out_.command),
                rows.span, key_hint_text());
}

// INSERT … VALUES, each row sent to its own shard.
std::optional<Error> Planning::split_refusal() const {
  const parser::Insert& insert = *statement_.insert;
  for (std::size_t i = 1; i < insert.rows.size(); ++i) {
    if (insert.rows[i].size() == insert.rows.front().size()) continue;
    Error error = refuse(request_, "VALUES lists must all be the same length",
                         i < insert.row_spans.size() ? insert.row_spans[i] : statement_.span, {});
    error.code = syntax_error;
    return error;
  }
  if (insert.row_spans.size() != insert.rows.size())
    return refuse(request_, "the rows of this INSERT cannot be told apart", statement_.span, key_hint_text());
  for (const parser::FunctionCall& call : calls(statement_.blocks.front())) {
    // One server allows them in a single row only, and so would a shard that gets one.
    const auto known = request_.catalog.functions.find(call.name);
    if (known == request_.catalog.functions.end() || !known->second.set) continue;
    return refuse(request_,
                  fmt::format("the set-returning function {}() in rows for several shards is not supported", call.name),
                  call.span, key_hint_text());
  }
  return shared_write_refusal(0);
}

// `source`: the block whose rows are written, or decide on those of the statement's table.
std::optional<Error> Planning::shared_write_refusal(BlockIndex source) const {
  const parser::Effects& effects = statement_.effects;
  if (effects.locks_rows || effects.session_advisory_lock || effects.changes_settings || effects.temporary_objects)
    return refuse(request_, "a write that locks rows or changes settings besides cannot run on several shards yet",
                  statement_.span, key_hint_text());
  for (BlockIndex i = 0; i < statement_.blocks.size(); ++i) {
    const Block& block = statement_.blocks[i];
    if (auto refusal = i == 0 || i == source ? function_refusal(block, true) : block_refusal(i)) return refusal;
    for (const parser::FunctionCall& call : calls(block)) {
      const auto known = request_.catalog.functions.find(call.name);
      const bool steady = known == request_.catalog.functions.end() || known->second.volatility != 'v';
      if (steady || !known->second.builtin || is_per_row(call.name)) continue;
      return refuse(
          request_,
          fmt::format("the volatile function {}() in a write on several shards is not supported yet", call.name),
          call.span, key_hint_text());
    }
  }
  if (auto refusal = table_refusal()) return refusal;
  if (auto refusal = place_refusal()) return refusal;
  return default_value_refusal(DefaultValue::per_row);
}

// Words that mean a place on one server.
std::optional<Error> Planning::place_refusal() const {
  const Names names(request_.sql);
  if (names.unreadable())
    return refuse(request_, "a name in U&\"…\", or one that is too long, in a write on several shards is not supported",
                  statement_.span, "write the name as it is");
  for (const std::string_view column : system_columns) {
    if (names.has(std::string(column)))
      return refuse(request_, fmt::format("the system column \"{}\" has another value on each shard", column),
                    statement_.span, std::string(by_columns));
  }
  for (const std::string_view name : object_names) {
    if (names.has(std::string(name)))
      return refuse(request_, fmt::format("{} makes a number of a name, which is another on each shard", name),
                    statement_.span, "use the name itself");
  }
  if (!in_sequence(request_.sql, "current", "of")) return std::nullopt;
  return refuse(request_, "WHERE CURRENT OF names a row of one shard", statement_.span, std::string(by_columns));
}

// Columns that the statement leaves to their defaults, which every shard evaluates for its own rows.
std::optional<Error> Planning::default_value_refusal(DefaultValue gravest) const {
  if (statement_.kind == StatementKind::delete_) return std::nullopt;
  const parser::TableIndex index = target();
  const Relation* relation = tables_[index].relation;
  const parser::TableRef& table = statement_.tables[index];
  const auto refused = [&](std::string_view column) {
    return refuse(request_,
                  fmt::format("\"{}\" of table \"{}\" would take its default, which {}", column, table.name,
                              request_.catalog.loaded ? "each shard would make for itself" : "is not known"),
                  table.span, fmt::format("give \"{}\" a value", column));
  };
  const auto unfit = [gravest](const Column& column) {
    return (column.sequence ? DefaultValue::unsteady : column.default_value) > gravest;
  };
  const bool known = relation != nullptr && relation->complete;
  if (statement_.insert && !known) {
    return refuse(
        request_, fmt::format("the columns of table \"{}\", and so their defaults, are not known", table.name),
        table.span,
        request_.catalog.loaded ? "create it on the default shard" : "list them in the configuration: columns");
  }
  if (statement_.insert) {
    for (std::size_t i = 0; i < relation->columns.size(); ++i) {
      if (unfit(relation->columns[i]) && leaves_out(*relation, i)) return refused(relation->columns[i].name);
    }
  }
  const auto& assignments = statement_.insert ? statement_.insert->conflict_assignments : statement_.assignments;
  for (const parser::Assignment& assignment : assignments) {
    if (assignment.value.kind != Operand::Kind::default_) continue;
    const Column* column = relation == nullptr ? nullptr : relation->find_column(assignment.column);
    if (column == nullptr || unfit(*column)) return refused(assignment.column);
  }
  if (!hides_default(Names(request_.sql))) return std::nullopt;
  return refuse(request_, "DEFAULT within a list in a write on several shards is not supported", statement_.span,
                "give each column its value by itself: SET column = DEFAULT");
}

// Whether DEFAULT stands where the statement does not tell whose it is: SET (a, b) = (DEFAULT, 1).
bool Planning::hides_default(const Names& names) const {
  std::size_t told = 0;
  const auto count = [&told](const Operand& value) { told += value.kind == Operand::Kind::default_ ? 1u : 0u; };
  for (const parser::Assignment& assignment : statement_.assignments) count(assignment.value);
  if (statement_.insert) {
    told += statement_.insert->default_values ? 1u : 0u;
    for (const parser::Assignment& assignment : statement_.insert->conflict_assignments) count(assignment.value);
    for (const auto& row : statement_.insert->rows) std::ranges::for_each(row, count);
  }
  return names.alone("default") > told;
}

// Whether a text in the statement could be read as a date or time: there is a column of such a type, or a type's name
// or a function beside the text.
bool Planning::moment_possible() const {
  for (const ResolvedTable& table : tables_) {
    if (table.relation == nullptr || !table.relation->complete) return true;
    for (const Column& column : table.relation->columns)
      if (!takes_texts_as_they_are(column.key_type)) return true;
  }
  const bool called =
      std::ranges::any_of(statement_.blocks, [](const Block& block) { return !block.functions.empty(); });
  return called || names_types(request_.sql);
}

}  // namespace tessera::router
