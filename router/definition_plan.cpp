// Definitions (CREATE, ALTER, DROP, GRANT, COMMENT, …). What a sharded or reference table, or a view over such,
// consists of is the same on every shard, and so is what belongs to no table: types, functions, schemas, roles. The
// rest is on one. Refused is what no shard could hold to alone (a constraint that concerns rows of other shards), and
// what would leave the configuration behind (another sharding key, another name).
#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "router/contains.hpp"
#include "router/default_value.hpp"
#include "router/key_class.hpp"
#include "router/moment.hpp"
#include "router/planning.hpp"
#include "router/text.hpp"

namespace tessera::router {

using parser::no_index;
using parser::TableUse;
using Kind = ResolvedTable::Kind;
using Constraint = parser::Definition::Constraint;

// Where something is defined: on one shard, or on all.
struct Planning::Home {
  std::optional<ShardId> shard;
  friend bool operator==(const Home&, const Home&) = default;
};

namespace {

// Of the server as a whole, or of a database that has another name there.
constexpr auto server_wide =
    std::to_array<std::string_view>({"DATABASE", "TABLESPACE", "SYSTEM", "SUBSCRIPTION", "PUBLICATION"});

bool is_server_wide(std::string_view command) {
  const std::size_t space = command.find(' ');
  return space != std::string_view::npos && contains(server_wide, command.substr(space + 1));
}

bool made_of_rows(const parser::Statement& statement) {
  return statement.command == "CREATE TABLE AS" || statement.command == "CREATE MATERIALIZED VIEW";
}

// Of tables that may be new: then the rule's name has to do.
bool is_together(const TableRouting& a, const TableRouting& b) {
  const bool known = !a.key_types.empty() && !b.key_types.empty();
  return known ? a.rule == b.rule : a.rule_name == b.rule_name;
}

// ALTER TABLE … DETACH PARTITION, … NO INHERIT.
bool leaves_parent(std::string_view sql) {
  return in_sequence(sql, "detach", "partition") || in_sequence(sql, "no", "inherit");
}

std::string joined(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

void Planning::definition() {
  const bool temporary = statement_.effects.temporary_objects || uses(Kind::temporary);
  if (made_of_rows(statement_) || temporary)
    if (auto refusal = unreadable()) return refuse_all(std::move(*refusal));
  if (made_of_rows(statement_)) {
    if (!place_targets(TableUse::ddl_target, out_.command)) return;
    query_without_scatter(out_.command);
    // A condition would make it another one.
    if (out_.many_refusal && uses(Kind::sharded)) out_.many_refusal->hint = on_each_shard(request_);
    return;
  }
  if (temporary) return query_without_scatter(out_.command);
  if (statement_.command == "CREATE SCHEMA" && !statement_.tables.empty())
    return refuse_all(refuse(request_, "CREATE SCHEMA with tables in it is not supported over several shards",
                             statement_.span, "create the tables with statements of their own"));
  const std::optional<Home> home = home_of_targets();
  if (out_.refusal) return;
  if (auto refusal = constraint_refusal()) return refuse_all(std::move(*refusal));
  if (auto refusal = key_change_refusal()) return refuse_all(std::move(*refusal));
  if (auto refusal = computed_values()) return refuse_all(std::move(*refusal));
  if (auto refusal = taken_name()) return refuse_all(std::move(*refusal));
  if (home && home->shard) return on_one_shard(*home->shard);
  if (!on_every_shard()) return;
  if (auto refusal = misfit()) refuse_all(std::move(*refusal));
}

// What is planned as a query needs what queries need of their tables: rows that can be read, and a key that is known.
std::optional<Error> Planning::unreadable() const {
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    const parser::TableRef& table = statement_.tables[i];
    const bool read = table.block != no_index || (tables_[i].kind == Kind::sharded && !table.created);
    if (!read || !tables_[i].rows_refusal) continue;
    Error refusal = *tables_[i].rows_refusal;
    refusal.position = position_of(request_.sql, table.span.begin);
    return refusal;
  }
  return std::nullopt;
}

// Of a table that is mentioned; none: of a system catalog.
std::optional<Planning::Home> Planning::home_of(std::size_t index) const {
  const ResolvedTable& table = tables_[index];
  const bool everywhere = table.everywhere || table.kind == Kind::sharded || table.kind == Kind::reference;
  if (everywhere) return Home{};
  if (table.kind == Kind::catalog) return std::nullopt;
  const Relation* relation = table.relation;
  if (relation != nullptr && relation->kind == Relation::Kind::sequence && !relation->depends_on.empty()) {
    // A sequence of a column is where its table is.
    parser::TableRef owner;
    const std::string& name = relation->depends_on.front();
    const std::size_t dot = name.find('.');
    owner.schema = name.substr(0, dot);
    owner.name = name.substr(dot + 1);
    const ResolvedTable resolved = resolve_table(owner, request_);
    if (resolved.kind == Kind::sharded || resolved.kind == Kind::reference) return Home{};
    return Home{resolved.shard};
  }
  return Home{table.shard};
}

// Of what is defined; none: it belongs to no table. All that it refers to must be there too.
std::optional<Planning::Home> Planning::home_of_targets() {
  if (statement_.command == "CREATE VIEW" && !tables_.back().listed) return home_of_view();
  std::optional<Home> home;
  const bool drops = statement_.command.starts_with("DROP") && std::ranges::any_of(tables_, &ResolvedTable::is_known);
  for (const bool target : {true, false}) {
    for (std::size_t i = 0; i < tables_.size(); ++i) {
      if (target != (statement_.tables[i].use == TableUse::ddl_target)) continue;
      // A partition that is not listed by itself goes where its parent is.
      const bool new_part = i == 0 && statement_.definition->parent != no_index && !tables_[0].listed;
      if (new_part || (drops && !tables_[i].is_known())) continue;
      const auto here = home_of(i);
      if (!here || (!target && !here->shard)) continue;  // what is on every shard is where it is needed
      if (!home) home = here;
      if (*home != *here) return is_elsewhere(i), home;
    }
  }
  return home;
}

// A view that is not listed is where all that it reads is; if that is nothing, on the default shard.
std::optional<Planning::Home> Planning::home_of_view() {
  std::optional<Home> home;
  bool everywhere = false, sharded = false;
  for (const ResolvedTable& table : tables_) {
    if (&table == &tables_.back()) continue;
    everywhere = everywhere || table.everywhere || table.kind == Kind::reference || table.kind == Kind::sharded;
    sharded = sharded || table.kind == Kind::sharded || (table.everywhere && table.kind != Kind::reference);
  }
  for (std::size_t i = 0; i + 1 < tables_.size(); ++i) {
    const auto here = home_of(i);
    if (!here || !here->shard) continue;
    if (sharded || (home && *home != *here)) return is_elsewhere(i), home;
    home = here;
  }
  if (home && home->shard != request_.topology.default_shard()) {
    refuse_all(
        refuse(request_,
               fmt::format("the view \"{}\" would be on shard {}, and is not listed: it would not be found there",
                           tables_.back().name, request_.topology.shard_name(*home->shard)),
               statement_.tables.back().span,
               fmt::format("list it under `tables`: {{shard: {}}}", request_.topology.shard_name(*home->shard))));
  }
  if (home || everywhere) return home ? home : Home{};
  if (tables_.back().refusal) refuse_all(*tables_.back().refusal);
  return home_of(tables_.size() - 1);
}

void Planning::is_elsewhere(std::size_t index) {
  const parser::TableRef& table = statement_.tables[index];
  const Home here = *home_of(index);
  refuse_all(refuse(
      request_,
      fmt::format("{} concerns \"{}\", which is on {}, and others that are elsewhere", out_.command, table.name,
                  here.shard ? fmt::format("shard {}", request_.topology.shard_name(*here.shard)) : "every shard"),
      table.span, "list the tables in the same way, or use a statement for each"));
}

void Planning::on_one_shard(ShardId shard) {
  Component component;
  component.plain_shard = shard;
  for (const ResolvedTable& table : tables_) component.tables.push_back(table.name);
  out_.placement = Placement::by_components;
  out_.components.push_back(std::move(component));
}

// False: refused.
bool Planning::on_every_shard() {
  out_.placement = Placement::every_shard;
  out_.replicates = true;
  const bool rewrites = statement_.command == "CREATE RULE";
  if (!rewrites && !is_server_wide(out_.command)) return true;
  refuse_all(refuse(request_,
                    rewrites
                        ? "CREATE RULE on a table of every shard is not supported: what it makes of a statement is "
                          "not known here"
                        : fmt::format("{} is not supported through Tessera: it concerns whole servers", out_.command),
                    statement_.span, on_each_shard(request_)));
  return false;
}

// ---- constraints ----------------------------------------------------------------------------------------------------

std::optional<Error> Planning::constraint_refusal() const {
  if (tables_.empty()) return std::nullopt;
  if (auto refusal = like_refusal()) return refusal;
  for (const Constraint& constraint : statement_.definition->constraints) {
    auto refusal =
        constraint.kind == Constraint::Kind::foreign_key ? foreign_key_refusal(constraint) : unique_refusal(constraint);
    if (refusal) return refusal;
  }
  return std::nullopt;
}

// LIKE … INCLUDING ALL takes over unique indexes, which are not in the statement.
std::optional<Error> Planning::like_refusal() const {
  const bool takes_indexes =
      in_sequence(request_.sql, "including", "all") || in_sequence(request_.sql, "including", "indexes");
  if (!takes_indexes || tables_.front().kind != Kind::sharded) return std::nullopt;
  for (std::size_t i = 1; i < tables_.size(); ++i) {
    if (tables_[i].relation == nullptr || statement_.tables[i].use != TableUse::read) continue;
    for (const UniqueIndex& index : tables_[i].relation->unique_indexes)
      if (auto refusal = unique_refusal({.columns = index.columns, .span = statement_.tables[i].span})) return refusal;
  }
  return std::nullopt;
}

// Each shard sees to it among its own rows.
std::optional<Error> Planning::unique_refusal(const Constraint& constraint) const {
  const ResolvedTable& table = tables_[statement_.definition->parent == no_index ? 0 : statement_.definition->parent];
  if (table.kind != Kind::sharded) return std::nullopt;
  for (const std::string& key : table.routing->key_columns) {
    if (contains(constraint.columns, key)) continue;
    const bool exclusion = constraint.kind == Constraint::Kind::exclusion;
    return refuse(request_,
                  fmt::format("{} of the sharded table \"{}\" does not contain the sharding key ({}){}: rows of "
                              "different shards could violate it",
                              constraint.kind == Constraint::Kind::primary_key ? "the primary key"
                              : exclusion                                      ? "an exclusion constraint"
                                                                               : "a unique constraint or index",
                              table.name, joined(table.routing->key_columns), exclusion ? " with =" : ""),
                  constraint.span,
                  fmt::format("add the sharding key to it; or, if something else makes the values unique, create it on "
                              "each shard, directly or {}",
                              by_hint(request_)));
  }
  return std::nullopt;
}

std::optional<Error> Planning::foreign_key_refusal(const Constraint& constraint) const {
  const ResolvedTable& table = tables_[statement_.definition->parent == no_index ? 0 : statement_.definition->parent];
  if (constraint.references >= tables_.size())
    return refuse(request_, "a foreign key to what is not named is not supported", constraint.span, {});
  const ResolvedTable& other = tables_[constraint.references];
  const auto refused = [&](std::string_view why, std::string hint) {
    return refuse(request_, fmt::format("a foreign key from \"{}\" to \"{}\" {}", table.name, other.name, why),
                  constraint.span, std::move(hint));
  };
  if (other.kind == Kind::reference) return std::nullopt;
  if (table.kind == Kind::plain && other.kind == Kind::plain) return std::nullopt;  // on the same shard
  if (table.kind != Kind::sharded || other.kind != Kind::sharded)
    return refused("refers to rows that the shards do not all have", "make the other one a reference table");
  if (!is_together(*table.routing, *other.routing))
    return refused("refers to rows of other shards: the two are not on the same rule and key type",
                   "shard both by the same rule, or make the other one a reference table");
  std::vector<std::string> referenced = constraint.referenced;
  if (referenced.empty() && other.relation != nullptr) {
    const auto primary = std::ranges::find(other.relation->unique_indexes, true, &UniqueIndex::primary);
    if (primary != other.relation->unique_indexes.end()) referenced = primary->columns;
  }
  for (const Constraint& own : statement_.definition->constraints)
    if (referenced.empty() && own.kind == Constraint::Kind::primary_key && other.name == table.name)
      referenced = own.columns;
  if (referenced.empty())
    return refused("does not name the columns that it refers to, and the primary key is not known yet",
                   "write them: REFERENCES table (columns)");
  for (std::size_t i = 0; i < table.routing->key_columns.size(); ++i) {
    const auto at = std::ranges::find(constraint.columns, table.routing->key_columns[i]) - constraint.columns.begin();
    const auto position = static_cast<std::size_t>(at);
    const bool matches = position < constraint.columns.size() && position < referenced.size() &&
                         i < other.routing->key_columns.size() && referenced[position] == other.routing->key_columns[i];
    if (!matches)
      return refused("does not refer from sharding key to sharding key, so to rows of other shards",
                     fmt::format("add {} to it, and {} on the other side", joined(table.routing->key_columns),
                                 joined(other.routing->key_columns)));
  }
  return std::nullopt;
}

// ---- what the configuration says of the table -----------------------------------------------------------------------

std::optional<Error> Planning::key_change_refusal() const {
  const parser::Definition& definition = *statement_.definition;
  const bool moves = !definition.new_name.empty() || !definition.new_schema.empty();
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    const ResolvedTable& table = tables_[i];
    if (statement_.tables[i].use != TableUse::ddl_target || table.index) continue;
    const bool named = table.relation == nullptr
                           ? table.listed
                           : request_.topology.find_table(table.relation->schema, table.relation->name) != nullptr;
    if (leaves_parent(request_.sql) && table.kind == Kind::sharded && !named)
      return refuse(request_,
                    fmt::format("\"{}\" would not be part of a listed table any more, and its rows are on every shard",
                                table.name),
                    statement_.tables[i].span, "list it in the same way as its parent (and reload) before that");
    if (moves && named)
      return refuse(
          request_,
          fmt::format("\"{}\" is listed in the configuration, and would not be under its new name", table.name),
          statement_.tables[i].span,
          "list it under both names (and reload), and rename it on each shard directly while the database is "
          "paused");
    if (table.kind != Kind::sharded) continue;
    for (const std::string& key : table.routing->key_columns) {
      if (!contains(definition.changed_columns, key)) continue;
      return refuse(request_,
                    fmt::format("\"{}\" is the sharding key of table \"{}\": it decides where rows are, and cannot be "
                                "changed",
                                key, table.name),
                    statement_.tables[i].span, "create another table with the new key, and copy the rows");
    }
  }
  return std::nullopt;
}

// ALTER TABLE computes values for the rows that are there, each shard for its own.
std::optional<Error> Planning::computed_values() const {
  const parser::Definition& definition = *statement_.definition;
  if (definition.values.empty() || tables_.empty()) return std::nullopt;
  const ResolvedTable& table = tables_.front();
  if (table.kind != Kind::reference && table.kind != Kind::sharded) return std::nullopt;
  const bool known = table.kind == Kind::sharded && !table.routing->key_types.empty();
  if (known && request_.topology.rule(table.routing->rule).shards().size() == 1) return std::nullopt;
  const DefaultValue gravest = table.kind == Kind::sharded ? DefaultValue::per_row : DefaultValue::steady;
  const bool moment = literal_of_moment(text_of(request_.sql, statement_.span)).has_value();
  for (const parser::Definition::Value& value : definition.values) {
    const auto refused = [&](std::string_view what, std::string_view hint) {
      return refuse(request_, fmt::format("\"{}\" in the rows of table \"{}\" {}", value.column, table.name, what),
                    statement_.tables.front().span, std::string(hint));
    };
    if (value.sequence)
      return refused("would be the next number of a sequence, and each shard has a sequence of its own",
                     "add the column as an integer, and give the rows their numbers with UPDATE");
    if (!moment && judge_calls(calls(value.expression), request_.catalog) <= gravest) continue;
    const bool added = contains(definition.columns, value.column, &parser::Definition::Column::name);
    return refused(
        "would get values that each shard makes for itself",
        added ? "add the column without a default, then SET DEFAULT, and give the rows their values with UPDATE"
              : "add another column, give the rows their values with UPDATE, and drop this one");
  }
  return std::nullopt;
}

// The name of a listed table that something else would get: nothing could be planned any more.
std::optional<Error> Planning::taken_name() const {
  if (tables_.empty()) return std::nullopt;
  const auto made = std::ranges::find(statement_.tables, true, &parser::TableRef::created);
  const auto refused = [&](const std::string& name, std::string_view kind, const parser::TableRef& table) {
    return refuse(
        request_,
        fmt::format("\"{}\" is listed as a {}, and {} would give its name to something else", name, kind, out_.command),
        table.span, "use another name, or take it out of the configuration (and reload) before that");
  };
  if (made != statement_.tables.end()) {
    const ResolvedTable& table = tables_[static_cast<std::size_t>(made - statement_.tables.begin())];
    if (!table.listed || table.kind == Kind::plain || out_.command == "CREATE TABLE") return std::nullopt;
    return refused(table.name, table.kind == Kind::sharded ? "sharded table" : "reference table", *made);
  }
  const parser::Definition& definition = *statement_.definition;
  const ResolvedTable& table = tables_.front();
  if ((definition.new_name.empty() && definition.new_schema.empty()) || table.relation == nullptr || table.index)
    return std::nullopt;
  const Relation& relation = *table.relation;
  const TableRouting* listed =
      request_.topology.find_table(definition.new_schema.empty() ? relation.schema : definition.new_schema,
                                   definition.new_name.empty() ? relation.name : definition.new_name);
  if (listed == nullptr) return std::nullopt;
  const bool plain = listed->kind == TableRouting::Kind::plain;
  if (plain && table.kind == Kind::plain && table.shard == listed->shard) return std::nullopt;
  return refused(listed->name,
                 plain                                           ? "table of another shard"
                 : listed->kind == TableRouting::Kind::reference ? "reference table"
                                                                 : "sharded table",
                 statement_.tables.front());
}

// A new sharded table whose key the rules have no use for: nothing could be planned any more.
std::optional<Error> Planning::misfit() const {
  const parser::Definition& definition = *statement_.definition;
  if (definition.typed || tables_.empty() || !statement_.tables.front().created ||
      tables_.front().kind != Kind::sharded)
    return std::nullopt;
  if (tables_.front().relation != nullptr) return std::nullopt;  // it exists: IF NOT EXISTS, or the server's error
  const TableRouting& routing = *tables_.front().routing;
  Relation relation;
  relation.schema = routing.schema;
  relation.name = routing.name;
  for (const parser::Definition::Column& defined : definition.columns) {
    Column& column = relation.columns.emplace_back();
    column.name = defined.name;
    column.type_name = defined.type;
    column.key_type = key_type_of(defined.type);
    const bool bytewise = defined.collation == "C" || defined.collation == "POSIX";
    const bool has_collation = class_of(column.key_type) == KeyType::text || column.key_type == KeyType::char_;
    column.deterministic = !has_collation || bytewise || defined.collation.empty();
    column.deterministic_c_order = !has_collation || bytewise;  // the database's own is not known here
  }
  // LIKE, INHERITS, PARTITION OF.
  for (std::size_t i = 1; i < tables_.size(); ++i) {
    if (contains(definition.constraints, i, &Constraint::references)) continue;
    if (tables_[i].relation == nullptr) return std::nullopt;  // it is not there: the server's error
    std::ranges::copy(tables_[i].relation->columns, std::back_inserter(relation.columns));
  }
  auto misfit = request_.topology.misfit(relation);
  if (!misfit) return std::nullopt;
  Error error = refuse(request_, std::move(misfit->message), statement_.tables.front().span,
                       misfit->hint.empty() ? "give the key the type that the rule is made for" : misfit->hint);
  error.detail = std::move(misfit->detail);
  return error;
}

}  // namespace tessera::router
