// COPY: which tables, options and columns let several shards take part, and what the rows are read by.
#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "parser/lexer.hpp"
#include "router/builtin_functions.hpp"
#include "router/contains.hpp"
#include "router/copy.hpp"
#include "router/key_class.hpp"
#include "router/moment.hpp"
#include "router/planning.hpp"
#include "router/quote.hpp"
#include "router/text.hpp"

namespace tessera::router {

using parser::CopyFormat;
using parser::CopyOption;
using parser::no_index;
using parser::TableUse;
using Kind = ResolvedTable::Kind;

namespace {

constexpr auto known_options =
    std::to_array<std::string_view>({"format", "freeze", "delimiter", "null", "header", "quote", "escape",
                                     "force_quote", "force_not_null", "force_null", "encoding"});

// defGetCopyHeaderChoice.
bool is_on(std::string_view value) {
  return value.empty() || value == "1" || equal_ignoring_case(value, "true") || equal_ignoring_case(value, "on") ||
         equal_ignoring_case(value, "match");
}

// What is not allowed is refused by the servers.
CopyFormat format_of(const parser::Copy& copy) {
  CopyFormat format;
  if (copy.format == "csv") format = {.kind = CopyFormat::Kind::csv, .delimiter = ',', .null = ""};
  if (copy.format == "binary") format.kind = CopyFormat::Kind::binary;
  bool escape_given = false;
  for (const CopyOption& option : copy.options) {
    const auto set = [&option](char& out) {
      if (!option.value.empty()) out = option.value.front();
    };
    if (option.name == "delimiter") set(format.delimiter);
    if (option.name == "quote") set(format.quote);
    if (option.name == "escape") set(format.escape);
    if (option.name == "escape") escape_given = true;
    if (option.name == "null") format.null = option.value;
    if (option.name == "header") format.header = is_on(option.value);
  }
  if (!escape_given) format.escape = format.quote;
  return format;
}

const CopyOption* find(const parser::Copy& copy, std::string_view name) {
  const auto found = std::ranges::find(copy.options, name, &CopyOption::name);
  return found == copy.options.end() ? nullptr : &*found;
}

// In a row of this COPY; none: it is not there.
std::optional<std::size_t> position_in_row(const parser::Copy& copy, const Relation* relation,
                                           std::string_view column) {
  std::size_t position = 0;
  if (!copy.columns.empty()) {
    const auto found = std::ranges::find(copy.columns, column);
    if (found == copy.columns.end()) return {};
    return static_cast<std::size_t>(found - copy.columns.begin());
  }
  if (relation == nullptr) return {};
  for (const Column& other : relation->columns) {
    if (other.name == column) return other.generated ? std::nullopt : std::optional(position);
    if (!other.generated) ++position;
  }
  return {};
}

// Whether a text could mean a moment when it is stored in such a column.
bool may_tell_moment(const Column& column) {
  switch (column.key_type) {
    case KeyType::date:
    case KeyType::timestamp:
    case KeyType::timestamptz:
    case KeyType::time:
    case KeyType::unsupported:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::optional<Error> Planning::copy_option_refusal() const {
  const parser::Copy& copy = *statement_.copy;
  if (!copy.stdio) {
    return refuse(request_, "COPY with a file or program of the server over several shards is not supported",
                  statement_.span, copy.from ? "COPY … FROM STDIN" : "COPY … TO STDOUT");
  }
  for (const CopyOption& option : copy.options) {
    if (contains(known_options, std::string_view(option.name))) continue;
    return refuse(request_,
                  fmt::format("COPY with the option \"{}\" over several shards is not supported", option.name),
                  statement_.span, {});
  }
  return std::nullopt;
}

void Planning::copy() {
  // One that is understood is planned as a statement of its own.
  if (statement_.copy->query) {
    return refuse_all(refuse(request_, "the query of this COPY is not understood", statement_.span, {}));
  }
  const bool from = statement_.copy->from;
  const auto target =
      std::ranges::find(statement_.tables, from ? TableUse::copy_from : TableUse::copy_to, &parser::TableRef::use);
  const ResolvedTable& table = tables_[static_cast<std::size_t>(target - statement_.tables.begin())];
  const bool rows = table.kind == Kind::sharded || (from && table.kind == Kind::reference);
  if (!rows) {
    if (place_targets(TableUse::copy_from, "COPY")) query_without_scatter("COPY");
    return;
  }
  if (auto refusal = copy_option_refusal()) return refuse_all(std::move(*refusal));
  if (!from) {
    add_components(request_, tables_, no_index, out_, component_of_, driving_);
    return finish_reads();
  }
  if (auto refusal = copy_from_refusal(table, *target)) return refuse_all(std::move(*refusal));
  out_.moment_matters = statement_.copy->where;
  if (table.kind == Kind::reference) {
    out_.placement = Placement::every_shard;
    out_.copies.emplace_back(text_of(request_.sql, target->span));
    return;
  }
  out_.placement = Placement::by_components;
  out_.copy_rows = true;
  Component component;
  component.rule = table.routing->rule;
  component.tables = {target->name};
  out_.components.push_back(std::move(component));
}

// What a COPY that names its columns leaves out, and its rows can be given.
std::vector<CopyId> Planning::copy_ids(const ResolvedTable& table) const {
  std::vector<CopyId> ids;
  const parser::Copy& copy = *statement_.copy;
  if (!copy.from || copy.columns.empty() || table.relation == nullptr || request_.topology.shard_count() == 1 ||
      !request_.topology.default_shard())
    return ids;
  const bool alone = table.kind == Kind::sharded && request_.topology.rule(table.routing->rule).shards().size() == 1;
  for (const Column& column : table.relation->columns) {
    const bool made = is_made(column, table.routing);
    const bool given = made || (!alone && column.sequence && !column.sequence_name.empty());
    const int bytes = column.key_type == KeyType::int2   ? 2
                      : column.key_type == KeyType::int4 ? 4
                      : column.key_type == KeyType::int8 ? 8
                                                         : 0;
    if (!given || bytes == 0 || contains(copy.columns, column.name)) continue;
    GivenIds::Column id{.name = column.name, .sequence = made ? "" : column.sequence_name, .count = 1};
    if (made) id.source = GivenIds::Source::made;
    if (made) id.slots = table.routing->id_slots;
    ids.push_back({std::move(id), bytes});
  }
  return ids;
}

// As its rows are when they have them.
parser::Copy Planning::copy_with_ids(const ResolvedTable& table) const {
  parser::Copy copy = *statement_.copy;
  for (const CopyId& id : copy_ids(table)) copy.columns.push_back(id.column.name);
  return copy;
}

// `id: snowflake`.
std::optional<Error> Planning::made_copy_refusal(const ResolvedTable& table, const parser::TableRef& target) const {
  if (table.kind != Kind::sharded || table.relation == nullptr || table.routing->id_column.empty() ||
      position_in_row(copy_with_ids(table), table.relation, table.routing->id_column))
    return std::nullopt;
  return refuse(request_,
                fmt::format("\"{}\" of table \"{}\" is given by Tessera, which a COPY does not let it do",
                            table.routing->id_column, target.name),
                target.span,
                fmt::format("name \"{}\" in the column list, and give its values", table.routing->id_column));
}

// In a database of one shard.
void Planning::made_copy_ids() {
  const auto target = std::ranges::find(statement_.tables, TableUse::copy_from, &parser::TableRef::use);
  if (target == statement_.tables.end()) return;
  if (std::ranges::all_of(request_.topology.tables(), &std::string::empty, &TableRouting::id_column)) return;
  if (!resolve_tables()) return out_.refusal.reset();
  const ResolvedTable& table = tables_[static_cast<std::size_t>(target - statement_.tables.begin())];
  if (auto refusal = made_copy_refusal(table, *target)) refuse_all(std::move(*refusal));
}

std::optional<Error> Planning::copy_from_refusal(const ResolvedTable& table, const parser::TableRef& target) const {
  const parser::Copy copy = copy_with_ids(table);
  const bool sharded = table.kind == Kind::sharded;
  const Relation* relation = table.relation;
  if (sharded) {
    if (auto refusal = generated_key(table, target.span)) return refusal;
  }
  if (!sharded && relation != nullptr && relation->kind != Relation::Kind::table &&
      relation->kind != Relation::Kind::partitioned_table)
    return refuse(request_,
                  fmt::format("COPY into \"{}\", which is not an ordinary table, is not supported", target.name),
                  target.span, "copy into the tables behind it");
  if ((copy.columns.empty() || request_.catalog.loaded) && (relation == nullptr || !relation->complete)) {
    return refuse(
        request_, fmt::format("the columns of table \"{}\" are not known", target.name), target.span,
        request_.catalog.loaded ? "create it on the default shard" : "list them in the configuration: columns");
  }
  if (sharded) {
    for (const std::string& key : table.routing->key_columns) {
      if (position_in_row(copy, relation, key)) continue;
      return refuse(request_,
                    fmt::format("COPY into table \"{}\" gives no value to the sharding key \"{}\"", target.name, key),
                    target.span, fmt::format("name \"{}\" in the column list, and give its values", key));
    }
  }
  if (auto refusal = made_copy_refusal(table, target)) return refusal;
  const bool alone = sharded && request_.topology.rule(table.routing->rule).shards().size() == 1;
  if (relation != nullptr && !alone) {
    const DefaultValue gravest = sharded ? DefaultValue::per_row : DefaultValue::steady;
    for (const Column& column : relation->columns) {
      const DefaultValue value = column.sequence ? DefaultValue::unsteady : column.default_value;
      if (value <= gravest || column.generated || position_in_row(copy, relation, column.name)) continue;
      return refuse(request_,
                    fmt::format("\"{}\" of table \"{}\" would take its default, which each shard would make for itself",
                                column.name, target.name),
                    target.span, fmt::format("name \"{}\" in the column list, and give its values", column.name));
    }
  }
  if (!copy.where) return std::nullopt;
  if (statement_.tables.size() > 1)
    return refuse(request_, "a subquery in the WHERE of a COPY to several shards is not supported", statement_.span,
                  {});
  for (const parser::Block& block : statement_.blocks) {
    for (const parser::FunctionCall& call : calls(block)) {
      const FunctionTrait trait = trait_of(call, request_.catalog);
      const auto known = request_.catalog.functions.find(call.name);
      const bool steady = known == request_.catalog.functions.end() || known->second.volatility != 'v';
      const bool fits = !trait.per_server && !trait.server_state && !trait.unknown && !trait.user && !trait.may_write &&
                        call.name != "current_setting" && (steady || (sharded && is_per_row(call.name)));
      if (fits) continue;
      return refuse(
          request_,
          fmt::format("{}() in the WHERE of a COPY to several shards could have another value on each", call.name),
          call.span, "copy the rows that are wanted, without WHERE");
    }
  }
  return place_refusal();
}

// SELECT … FROM, of what COPY … TO takes.
std::string Planning::table_query() const {
  std::string columns;
  for (const std::string& column : statement_.copy->columns)
    columns += (columns.empty() ? "" : ", ") + quote_identifier(column);
  return fmt::format("SELECT {} FROM ONLY {}", columns.empty() ? "*" : columns,
                     text_of(request_.sql, statement_.tables.front().span));
}

namespace {
// Of the column list.
std::uint32_t list_end(std::string_view sql, parser::SourceSpan table) {
  parser::Lexer lexer(sql, {});
  for (parser::Token token = lexer.next(); token.kind != parser::TokenKind::end; token = lexer.next())
    if (token.begin >= table.end && text_of(sql, {token.begin, token.end}) == ")") return token.begin;
  return static_cast<std::uint32_t>(sql.size());
}
}  // namespace

Result<CopyPlan> Planning::copy_rows() const {
  const parser::Copy copy = statement_.copy->from ? copy_with_ids(tables_.front()) : *statement_.copy;
  CopyPlan plan{.from = copy.from, .table = {}, .format = format_of(copy)};
  if (const CopyOption* encoding = find(copy, "encoding")) plan.encoding = encoding->value;
  if (!copy.from) {
    plan.probe = copy.query ? std::string(text_of(request_.sql, statement_.inner.front().span)) : table_query();
    return plan;
  }
  plan.sql = text_of(request_.sql, statement_.span);
  const ResolvedTable& table = tables_.front();
  plan.table = statement_.tables.front().name;
  plan.ids = copy_ids(table);
  if (!plan.ids.empty()) {
    std::string columns;
    for (const CopyId& id : plan.ids) columns += ", " + quote_identifier(id.column.name);
    const std::uint32_t end = list_end(request_.sql, statement_.tables.front().span);
    plan.sql = rewritten(request_.sql, statement_.span, {{{end, end}, columns}});
    plan.rewritten = true;
  }
  if (copy.columns.empty() && table.relation != nullptr && table.relation->complete) {
    std::string columns;
    for (const Column& column : table.relation->columns)
      if (!column.generated) columns += (columns.empty() ? "" : ", ") + quote_identifier(column.name);
    const parser::SourceSpan name = statement_.tables.front().span;
    plan.rewritten = !columns.empty();
    if (plan.rewritten)
      plan.sql = rewritten(request_.sql, statement_.span, {{{name.end, name.end}, " (" + columns + ")"}});
  }
  const auto add = [&](const std::string& column) {
    const auto position = position_in_row(copy, table.relation, column);
    if (!position) return false;
    const auto named = [&](std::string_view option) {
      const CopyOption* const found = find(copy, option);
      return found != nullptr && contains(found->columns, column);
    };
    plan.columns.push_back({*position, named("force_null"), named("force_not_null")});
    return true;
  };
  if (table.kind == Kind::sharded) {
    plan.rule = table.routing->rule;
    for (std::size_t i = 0; i < table.routing->key_columns.size(); ++i) {
      const std::string& name = table.routing->key_columns[i];
      const Column* column = table.relation == nullptr ? nullptr : table.relation->find_column(name);
      if (!add(name)) return fail(sqlstate::internal_error, "a COPY without the sharding key was to be split");
      plan.key.push_back({name, table.routing->key_types[i],
                          column == nullptr ? -1 : modifier_of(column->type_name, column->key_type)});
    }
  }
  if (table.relation == nullptr || plan.format.kind == CopyFormat::Kind::binary) return plan;
  for (const Column& column : table.relation->columns)
    if (may_tell_moment(column) && add(column.name)) plan.moments.push_back(column.name);
  return plan;
}

Result<CopyPlan> copy_plan(const parser::Statement& statement, const Values& values, const Topology& topology,
                           const Catalog& catalog, const SessionView& session) {
  const PlanRequest request{statement, values.sql, values.slots, {}, topology, catalog, session};
  Planning planning(request);
  const PlanTemplate plan = planning.run();
  if (plan.refusal) return std::unexpected(*plan.refusal);
  Result<CopyPlan> out = planning.copy_rows();
  if (out) out->same_encoding = values.same_encoding;
  return out;
}

std::string with_copy_ids(const CopyPlan& plan, const parser::CopyRow& row, const std::vector<std::int64_t>& ids) {
  using RowKind = parser::CopyRow::Kind;
  const CopyFormat& format = plan.format;
  if (format.kind == CopyFormat::Kind::binary) {
    if (row.kind != RowKind::row || row.bytes.size() < 2) return {};
    const auto put = [](std::string& out, std::uint64_t number, int bytes) {
      for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out += static_cast<char>(number >> shift);
    };
    const auto count =
        static_cast<unsigned>(static_cast<unsigned char>(row.bytes[0])) << 8 | static_cast<unsigned char>(row.bytes[1]);
    std::string out;
    put(out, count + plan.ids.size(), 2);
    out += row.bytes.substr(2);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const int shift = 64 - 8 * plan.ids[i].bytes;
      const bool fits = ids[i] << shift >> shift == ids[i];
      const int bytes = fits ? plan.ids[i].bytes : 8;  // which the server refuses
      put(out, static_cast<std::uint64_t>(bytes), 4);
      put(out, static_cast<std::uint64_t>(ids[i]), bytes);
    }
    return out;
  }
  const bool header = row.kind == RowKind::everywhere && format.header && row.line == 1;
  if (row.kind != RowKind::row && !header) return {};
  const bool quotes = format.kind == CopyFormat::Kind::csv;
  std::string out(row.content);
  for (std::size_t i = 0; i < plan.ids.size(); ++i) {
    const std::string value = header ? plan.ids[i].column.name : fmt::format("{}", ids[i]);
    out += format.delimiter;
    if (!quotes) {
      if (value == format.null) out += ' ';  // which integers may begin with
      out += value;
      continue;
    }
    out += format.quote;
    for (const char c : value) {
      if (c == format.quote || c == format.escape) out += format.escape;
      out += c;
    }
    out += format.quote;
  }
  return out.append(row.bytes.substr(row.content.size()));
}

// ---- rows -----------------------------------------------------------------------------------------------------------

CopyRouter::CopyRouter(const CopyPlan& plan, std::shared_ptr<const Topology> topology)
    : plan_(plan),
      topology_(std::move(topology)),
      fields_(plan.format, plan.columns),
      texts_(plan.key.size()),
      key_(plan.key.size()) {}

Result<std::optional<ShardId>> CopyRouter::shard_of(const parser::CopyRow& row) {
  if (!fields_.read(row)) return fail(SqlState("22P04"), "a row of this COPY cannot be read");
  const std::vector<parser::CopyValue>& values = fields_.values();
  for (std::size_t i = plan_.key.size(); i < values.size(); ++i) {
    if (values[i].null || !tells_moment(values[i].bytes)) continue;
    return fail(sqlstate::feature_not_supported,
                fmt::format("\"{}\" in column \"{}\", in a COPY to several shards, could mean another moment on each",
                            values[i].bytes, plan_.moments[i - plan_.key.size()]),
                "give the date or time itself");
  }
  if (!plan_.rule) return std::optional<ShardId>();
  const bool binary = plan_.format.kind == CopyFormat::Kind::binary;
  for (std::size_t i = 0; i < plan_.key.size(); ++i) {
    const CopyKey& column = plan_.key[i];
    const parser::CopyValue& value = values[i];
    if (value.null) {
      return fail(SqlState("23502"),
                  fmt::format("null value in the sharding key \"{}\" of table \"{}\"", column.column, plan_.table),
                  "give the key a value");
    }
    const bool known = (plan_.same_encoding || !is_foreign(value.bytes, binary, column.type)) &&
                       from_parameter(value.bytes, binary, 0, column.type, KeyType::unsupported, texts_[i], key_[i]) ==
                           Conversion::value &&
                       !changed_by_storing(key_[i], column.modifier);
    if (known) continue;
    return fail(sqlstate::feature_not_supported,
                fmt::format("it is not certain which {} the sharding key of table \"{}\" would become",
                            name_of(column.type), plan_.table),
                "give the key in the standard form of its type, without a need for rounding");
  }
  const auto location = topology_->rule(*plan_.rule).locate(key_);
  if (!location) return std::unexpected(location.error());
  return std::optional(location->shard);
}

// ---- as text --------------------------------------------------------------------------------------------------------

std::string describe(const CopyPlan& plan, const Topology& topology) {
  static constexpr std::array<std::string_view, 3> kinds = {"text", "csv", "binary"};
  const CopyFormat& format = plan.format;
  std::string text = fmt::format("copy {} {}", plan.from ? "from" : "to", kinds[static_cast<std::size_t>(format.kind)]);
  if (format.kind != CopyFormat::Kind::binary)
    text += fmt::format(", delimiter `{}`, null `{}`",
                        format.delimiter == '\t' ? "\\t" : std::string(1, format.delimiter), format.null);
  if (format.kind == CopyFormat::Kind::csv)
    text += fmt::format(", quote `{}`, escape `{}`", format.quote, format.escape);
  if (format.header) text += ", header";
  if (!plan.encoding.empty()) text += fmt::format(", encoding {}", plan.encoding);
  text += '\n';
  if (plan.rewritten) text += fmt::format("  as: {}\n", plan.sql);
  if (!plan.from) return text;
  for (const CopyId& id : plan.ids) text += fmt::format("  each row gets an id in \"{}\"\n", id.column.name);
  text += plan.rule ? fmt::format("  each row by rule {}\n", topology.rule_name(*plan.rule)) : "  each row to all\n";
  for (std::size_t i = 0; i < plan.columns.size(); ++i) {
    const parser::CopyColumn& column = plan.columns[i];
    const bool key = i < plan.key.size();
    text += fmt::format(
        "  {} {}, column {}{}{}\n", key ? "key" : "no moment in",
        key ? fmt::format("{} {}", plan.key[i].column, name_of(plan.key[i].type)) : plan.moments[i - plan.key.size()],
        column.position + 1, column.force_null ? ", force null" : "", column.force_not_null ? ", force not null" : "");
  }
  return text;
}

}  // namespace tessera::router
