// What an INSERT into, or an UPDATE of, a sharded table leaves to the servers and they cannot do each for itself:
// numbers from sequences, conflicts with rows of other shards, keys that are computed.
#include <algorithm>
#include <fmt/core.h>

#include "router/contains.hpp"
#include "router/planning.hpp"

namespace tessera::router {

using parser::no_index;
using parser::Operand;

namespace {

constexpr std::string_view number_hint =
    "give \"{}\" a value of its own: a uuid, or a number from SELECT nextval('…'), which runs on the default shard";

bool contains_all(const std::vector<std::string>& columns, const std::vector<std::string>& keys) {
  return std::ranges::all_of(keys, [&columns](const std::string& key) { return contains(columns, key); });
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

void Planning::check_insert(const TableRouting& routing) {
  const auto target = std::ranges::find(statement_.tables, parser::TableUse::insert_target, &parser::TableRef::use);
  const ResolvedTable& table = tables_[static_cast<std::size_t>(target - statement_.tables.begin())];
  if (auto refusal = generated_key(table, target->span)) return refuse_all(std::move(*refusal));
  if (auto refusal = made_refusal(table)) return refuse_all(std::move(*refusal));
  if (request_.topology.rule(routing.rule).shards().size() == 1) return;
  if (auto refusal = conflict_refusal(routing, table.relation)) return refuse_all(std::move(*refusal));
  if (table.relation == nullptr) return;
  if (auto refusal = sequence_refusal(table)) return refuse_all(std::move(*refusal));
  if (auto refusal = default_refusal(statement_.insert->conflict_assignments, table)) refuse_all(std::move(*refusal));
}

// A key that follows other columns changes with them, and is not in the statement.
std::optional<Error> Planning::generated_key(const ResolvedTable& table, parser::SourceSpan span) const {
  if (table.relation == nullptr) return std::nullopt;
  for (const std::string& key : table.routing->key_columns) {
    const Column* column = table.relation->find_column(key);
    if (column == nullptr || !column->generated) continue;
    return refuse(
        request_,
        fmt::format("the sharding key \"{}\" of table \"{}\" is generated from other columns, so the shard of "
                    "a row that is written is not known",
                    key, table.name),
        span, "shard the table by a column that is stored as it is given");
  }
  return std::nullopt;
}

// A conflict is seen among the rows of one shard. Rows that are equal in the sharding key are there.
std::optional<Error> Planning::conflict_refusal(const TableRouting& routing, const Relation* relation) const {
  const parser::Insert& insert = *statement_.insert;
  if (!insert.on_conflict) return std::nullopt;
  const std::string keys = joined(routing.key_columns);
  const auto refused = [&](std::string what) {
    const auto& clause = statement_.blocks.front().clauses.on_conflict;
    return refuse(
        request_,
        fmt::format("{} does not contain the sharding key ({}), so a conflicting row could be on another shard", what,
                    keys),
        clause.value_or(statement_.span),
        fmt::format("name the columns of a unique index that contains it: ON CONFLICT ({}, …)", keys));
  };
  if (insert.conflict_columns) {
    if (contains_all(*insert.conflict_columns, routing.key_columns)) return std::nullopt;
    return refused(insert.conflict_columns->empty()
                       ? "what ON CONFLICT names"
                       : fmt::format("ON CONFLICT ({})", joined(*insert.conflict_columns)));
  }
  const std::string& constraint = insert.conflict_constraint;
  const auto* indexes = relation == nullptr ? nullptr : &relation->unique_indexes;
  if (!constraint.empty()) {
    const bool known = indexes != nullptr && std::ranges::any_of(*indexes, [&](const UniqueIndex& index) {
                         return index.name == constraint && contains_all(index.columns, routing.key_columns);
                       });
    return known ? std::nullopt : std::optional(refused(fmt::format("the constraint \"{}\"", constraint)));
  }
  if (indexes == nullptr) return std::nullopt;
  for (const UniqueIndex& index : *indexes) {
    if (contains_all(index.columns, routing.key_columns)) continue;
    return refused(fmt::format("ON CONFLICT means every unique index, and \"{}\"", index.name));
  }
  return std::nullopt;
}

// Whether some row may get the default of this column.
bool Planning::leaves_out(const Relation& relation, std::size_t column) const {
  const parser::Insert& insert = *statement_.insert;
  if (insert.default_values || insert.overriding_user_value) return true;
  std::size_t position = column;
  if (!insert.columns.empty()) {
    const auto place = std::ranges::find(insert.columns, relation.columns[column].name);
    if (place == insert.columns.end()) return true;
    position = static_cast<std::size_t>(place - insert.columns.begin());
  }
  const bool row = std::ranges::any_of(insert.rows, [position](const std::vector<Operand>& values) {
    return position >= values.size() || values[position].kind == Operand::Kind::default_;
  });
  if (row || insert.source == no_index) return row;
  const auto& targets = statement_.blocks[insert.source].targets;
  return position >= targets.size() || std::ranges::any_of(targets, &parser::TargetItem::star);
}

// `id: snowflake`, where no id can be put in.
std::optional<Error> Planning::made_refusal(const ResolvedTable& table) const {
  if (table.relation == nullptr || table.routing == nullptr || table.routing->id_column.empty()) return std::nullopt;
  const auto& columns = table.relation->columns;
  const auto column = std::ranges::find(columns, table.routing->id_column, &Column::name);
  if (column == columns.end() || !leaves_out(*table.relation, static_cast<std::size_t>(column - columns.begin())))
    return std::nullopt;
  return refuse(request_,
                fmt::format("\"{}\" of table \"{}\" is given by Tessera, which this statement does not let it do",
                            column->name, table.name),
                statement_.blocks.front().span,
                fmt::format("insert the rows as VALUES, or name \"{}\" and give its values", column->name));
}

// serial and identity: every shard has a sequence of its own, and all begin at 1.
std::optional<Error> Planning::sequence_refusal(const ResolvedTable& table) const {
  if (auto refusal = made_refusal(table)) return refusal;
  const Relation& relation = *table.relation;
  const auto refused = [&](const std::string& column) {
    return refuse(
        request_,
        fmt::format("\"{}\" of the sharded table \"{}\" would be the next number of a sequence, and each shard "
                    "has a sequence of its own: two rows could get the same number",
                    column, relation.name),
        statement_.blocks.front().span, fmt::format(fmt::runtime(number_hint), column));
  };
  for (std::size_t i = 0; i < relation.columns.size(); ++i) {
    if (relation.columns[i].sequence && leaves_out(relation, i)) return refused(relation.columns[i].name);
  }
  return std::nullopt;
}

// SET id = DEFAULT.
std::optional<Error> Planning::default_refusal(const std::vector<parser::Assignment>& assignments,
                                               const ResolvedTable& table) const {
  if (table.relation == nullptr || request_.topology.rule(table.routing->rule).shards().size() == 1)
    return std::nullopt;
  for (const parser::Assignment& assignment : assignments) {
    const Column* column = table.relation->find_column(assignment.column);
    if (assignment.value.kind != Operand::Kind::default_ || column == nullptr || !column->sequence) continue;
    return refuse(
        request_,
        fmt::format("\"{}\" of the sharded table \"{}\" would be the next number of a sequence, and each shard "
                    "has a sequence of its own",
                    assignment.column, table.name),
        assignment.span, fmt::format(fmt::runtime(number_hint), assignment.column));
  }
  return std::nullopt;
}

}  // namespace tessera::router
