// INSERT: every row goes to the shard of its own key.
#include <algorithm>
#include <charconv>
#include <fmt/core.h>
#include <ranges>

#include "parser/lexer.hpp"
#include "router/contains.hpp"
#include "router/key_class.hpp"
#include "router/parameter_types.hpp"
#include "router/planning.hpp"
#include "router/rewrite.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

using parser::no_index;
using parser::Operand;
using Kind = ResolvedTable::Kind;
}  // namespace

// The modifier of a column's type as in ShardTerm::modifiers: "character varying(20)" -> 20, "numeric(10,2)" -> 2,
// "timestamp(3) without time zone" -> 3, -1 for none. A char(n) only gains blanks or fails.
int modifier_of(std::string_view type_name, KeyType type) {
  const std::size_t open = type_name.find('(');
  if (open == std::string_view::npos || type == KeyType::bpchar) return -1;
  const std::size_t close = std::min(type_name.find(')', open), type_name.size());
  std::string_view inside = type_name.substr(open + 1, close - open - 1);
  if (type == KeyType::numeric) {
    const std::size_t comma = inside.find(',');
    inside = comma == std::string_view::npos ? "0" : inside.substr(comma + 1);
  }
  inside = trim_space(inside);
  int value = 0;
  const auto [end, error] = std::from_chars(inside.data(), inside.data() + inside.size(), value);
  // A negative scale rounds to tens: nothing certain is known of any number then.
  return error == std::errc{} && end == inside.data() + inside.size() && value >= 0 ? value : 0;
}

void Planning::insert() {
  if (!check_modifying_ctes()) return;
  const auto target = std::ranges::find(statement_.tables, parser::TableUse::insert_target, &parser::TableRef::use);
  if (target == statement_.tables.end() || !statement_.insert) {
    return refuse_all(refuse(request_, "an INSERT without a table is not understood", statement_.span, {}));
  }
  const auto index = static_cast<parser::TableIndex>(target - statement_.tables.begin());
  const ResolvedTable& table = tables_[index];
  out_.own_sequences = own_sequences(table.relation);
  if (table.kind == Kind::reference) {
    if (!gives_ids(index)) replicate();
    return;
  }
  if (!check_target(*target, "INSERT")) return;
  if (table.kind != Kind::sharded) return query_without_scatter("INSERT … SELECT");

  const TableRouting& routing = *table.routing;
  if (gives_ids(index)) return;
  for (const parser::Assignment& assignment : statement_.insert->conflict_assignments) {
    if (!contains(routing.key_columns, assignment.column)) continue;
    return refuse_all(
        refuse(request_,
               fmt::format("ON CONFLICT DO UPDATE of the sharding key \"{}\" of table \"{}\" is not supported yet",
                           assignment.column, table.name),
               assignment.span, "leave the key out of SET"));
  }
  if (statement_.insert->overriding_user_value) {
    return refuse_all(refuse(request_,
                             fmt::format("OVERRIDING USER VALUE puts numbers of a sequence into the sharded table "
                                         "\"{}\", whatever values the rows have",
                                         table.name),
                             target->span, "leave it out, or say OVERRIDING SYSTEM VALUE"));
  }
  add_components(request_, tables_, index, out_, component_of_, driving_);
  if (statement_.insert->source != no_index) {
    insert_query(routing);
  } else {
    insert_values(routing);
  }
  if (!out_.refusal) check_insert(routing);
  if (out_.refusal) return;
  name_columns(index);
  // With more than one component, finish_reads names the tables.
  if (out_.components.size() == 1) out_.many_refusal = out_.insert_rows ? split_refusal() : scattered_write_refusal();
  out_.moment_matters = !out_.many_refusal && moment_possible();
  finish_reads();
}

void Planning::name_columns(parser::TableIndex table) {
  const parser::Insert& insert = *statement_.insert;
  if (!insert.columns.empty()) return;
  std::size_t count = insert.source == no_index ? 0 : statement_.blocks[insert.source].targets.size();
  for (const auto& row : insert.rows) count = std::max(count, row.size());
  PlanTemplate::ColumnList list;
  for (const Column& column : tables_[table].relation->columns | std::views::take(static_cast<std::ptrdiff_t>(count)))
    list.text += fmt::format("{}{}", list.text.empty() ? " (" : ", ", quoted(column.name));
  list.text += ") ";
  list.tokens = target_tokens(table);
  out_.column_list = std::move(list);
}

// How many tokens of the text there are up to the end of the target's name, or of its alias.
std::uint32_t Planning::target_tokens(parser::TableIndex table) const {
  std::uint32_t tokens = 0;
  parser::Lexer lexer(request_.sql, {});
  parser::Token token = lexer.next();
  for (; token.kind != parser::TokenKind::end && token.begin < statement_.tables[table].span.end; token = lexer.next())
    ++tokens;
  return statement_.tables[table].aliased ? tokens + 2 : tokens;  // AS and the alias
}

// Where the key's columns stand in each row. None: refused.
std::optional<std::vector<std::size_t>> Planning::key_positions(const TableRouting& routing) {
  const auto& listed = statement_.insert->columns;
  const auto target = std::ranges::find(statement_.tables, parser::TableUse::insert_target, &parser::TableRef::use);
  const auto index = static_cast<std::size_t>(target - statement_.tables.begin());
  const Relation* relation = tables_[index].relation;
  std::vector<std::size_t> positions;
  for (const std::string& key : routing.key_columns) {
    std::size_t position = 0;
    bool found = false;
    if (!listed.empty()) {
      const auto place = std::ranges::find(listed, key);
      found = place != listed.end();
      position = static_cast<std::size_t>(place - listed.begin());
    } else if (relation == nullptr || !relation->complete) {
      refuse_all(refuse(request_, fmt::format("the columns of table \"{}\" are not known", target->name), target->span,
                        fmt::format("list the columns: INSERT INTO {} ({}, …)", target->name, key)));
      return std::nullopt;
    } else {
      const auto place = std::ranges::find(relation->columns, key, &Column::name);
      found = place != relation->columns.end();
      position = static_cast<std::size_t>(place - relation->columns.begin());
    }
    if (!found || statement_.insert->default_values) {
      refuse_all(
          refuse(request_,
                 fmt::format("INSERT into table \"{}\" gives no value to the sharding key \"{}\"", target->name, key),
                 target->span, fmt::format("name \"{}\" in the column list and give its value", key)));
      return std::nullopt;
    }
    positions.push_back(position);
  }
  return positions;
}

void Planning::insert_values(const TableRouting& routing) {
  const auto positions = key_positions(routing);
  if (!positions) return;
  const auto target = std::ranges::find(statement_.tables, parser::TableUse::insert_target, &parser::TableRef::use);
  const Relation* relation = tables_[static_cast<std::size_t>(target - statement_.tables.begin())].relation;
  const ParameterTypes parameters(request_, tables_);
  ShardTerm term{.rule = routing.rule, .key_types = routing.key_types};
  for (std::size_t i = 0; i < routing.key_columns.size(); ++i) {
    const Column* column = relation == nullptr ? nullptr : relation->find_column(routing.key_columns[i]);
    term.columns.push_back(routing.key_columns[i]);
    term.modifiers.push_back(column == nullptr ? -1 : modifier_of(column->type_name, column->key_type));
  }
  const auto& insert = *statement_.insert;
  for (std::size_t r = 0; r < insert.rows.size(); ++r) {
    const parser::SourceSpan span = r < insert.row_spans.size() ? insert.row_spans[r] : target->span;
    auto& row = term.rows.emplace_back();
    for (std::size_t i = 0; i < positions->size(); ++i) {
      const std::string& key = routing.key_columns[i];
      const std::size_t position = (*positions)[i];
      const Operand* operand = position < insert.rows[r].size() ? &insert.rows[r][position] : nullptr;
      if (operand == nullptr || operand->kind == Operand::Kind::default_) {
        return refuse_all(
            refuse(request_,
                   fmt::format("the sharding key \"{}\" of table \"{}\" would take its default, which is not known",
                               key, target->name),
                   span, fmt::format("give \"{}\" a value", key)));
      }
      auto value = key_operand(*operand, routing.key_types[i], false, request_, parameters);
      if (!value) {
        return refuse_all(refuse(
            request_,
            fmt::format("the value of the sharding key \"{}\" of table \"{}\" is an expression", key, target->name),
            span, "give the key as a literal or as a parameter"));
      }
      row.push_back(std::move(*value));
    }
  }
  if (term.rows.empty()) {
    return refuse_all(refuse(request_, "an INSERT without rows is not understood", target->span, {}));
  }
  out_.insert_rows = true;
  Component component;
  component.rule = routing.rule;
  component.tables = {target->name};
  component.terms.push_back(std::move(term));
  out_.components.insert(out_.components.begin(), std::move(component));
}

// The key is passed through from a sharded table under the same rule: its rows stay on their shard.
void Planning::insert_query(const TableRouting& routing) {
  const auto positions = key_positions(routing);
  if (!positions) return;
  const auto target = std::ranges::find(statement_.tables, parser::TableUse::insert_target, &parser::TableRef::use);
  const ResolvedTable& into = tables_[static_cast<std::size_t>(target - statement_.tables.begin())];
  const auto refused = [&](std::string_view why) {
    refuse_all(refuse(request_, fmt::format("INSERT … SELECT into the sharded table \"{}\" {}", target->name, why),
                      target->span,
                      "select the sharding key from a table under the same rule, or insert the rows as VALUES"));
  };
  const parser::Block& source = statement_.blocks[statement_.insert->source];
  if (!source.set_operation.empty()) return refused("from a UNION, INTERSECT or EXCEPT is not supported yet");
  std::uint32_t component = no_index;
  for (std::size_t i = 0; i < positions->size(); ++i) {
    const std::size_t position = (*positions)[i];
    const bool star_before = std::ranges::any_of(source.targets, &parser::TargetItem::star);
    if (star_before) return refused("from * is not supported yet: it hides which column becomes the key");
    const parser::TargetItem* item = position < source.targets.size() ? &source.targets[position] : nullptr;
    if (item == nullptr || !item->column || item->column->table == no_index) {
      return refused("needs a plain column of a sharded table as the key");
    }
    const ResolvedTable& from = tables_[item->column->table];
    const bool same = from.kind == Kind::sharded && from.routing->rule == routing.rule &&
                      from.routing->key_columns[i] == item->column->name &&
                      same_constants(from.routing->key_types[i], routing.key_types[i]);
    if (!same) return refused("needs the sharding key of a table under the same rule as the key");
    // Rows that an outer join fills up have no key.
    if (statement_.tables[item->column->table].nullable)
      return refused("takes the key from an outer join's other side");
    const std::uint32_t owner = component_of_[item->column->table];
    if (component != no_index && component != owner) return refused("takes its key from different tables");
    component = owner;
    const Column* stored = into.relation == nullptr ? nullptr : into.relation->find_column(routing.key_columns[i]);
    const Column* read = from.relation == nullptr ? nullptr : from.relation->find_column(item->column->name);
    // An integer of another width is the same number or an error; a text could be cut off.
    const bool changes = !is_integer(routing.key_types[i]) && stored != nullptr && read != nullptr &&
                         stored->type_name != read->type_name;
    if (changes) {
      return refused(fmt::format("turns the key from {} into {}", read->type_name, stored->type_name));
    }
  }
  out_.components[component].tables.push_back(target->name);
}

}  // namespace tessera::router
