#include "router/planner.hpp"

#include <algorithm>
#include <fmt/core.h>

#include "router/planning.hpp"
#include "router/text.hpp"
#include "router/view_expansion.hpp"

namespace tessera::router {
namespace {

using Kind = parser::StatementKind;
using parser::no_index;

constexpr std::size_t most_tables = 256;
constexpr std::string_view one_shard_hint = "name keys of one shard only: use a statement for each shard's keys";

// What the session answers itself, or what concerns its state rather than a table.
bool is_session(const parser::Statement& statement) {
  switch (statement.kind) {
    case Kind::empty:
    case Kind::begin:
    case Kind::commit:
    case Kind::rollback:
    case Kind::savepoint:
    case Kind::release_savepoint:
    case Kind::rollback_to_savepoint:
    case Kind::prepare_transaction:
    case Kind::commit_prepared:
    case Kind::rollback_prepared:
    case Kind::set:
    case Kind::set_transaction:
    case Kind::reset:
    case Kind::show:
    case Kind::discard:
    case Kind::execute:
    case Kind::deallocate:
    case Kind::fetch:
    case Kind::close_cursor:
    case Kind::listen:
    case Kind::unlisten:
    case Kind::notify:
      return true;
    case Kind::explain:
      return statement.explain.tessera;
    default:
      return false;
  }
}

bool is_rows(Kind kind) {
  return kind == Kind::select || kind == Kind::insert || kind == Kind::update || kind == Kind::delete_;
}

}  // namespace

std::optional<Error> hint_refusal(std::string_view hint, std::size_t statements, const SessionView& session) {
  if (!session.hints_allowed || hint.empty() || statements < 2) return {};
  return Error{sqlstate::feature_not_supported,
               "a hint before several statements does not say which of them it is for",
               {},
               "send each statement in a message of its own, or SET tessera.shard",
               0};
}

PlanTemplate plan(const parser::Statement& statement, std::string_view sql, std::span<const parser::Slot> slots,
                  std::string_view hint, const Topology& topology, const Catalog& catalog, const SessionView& session) {
  const PlanRequest request{statement, sql, slots, hint, topology, catalog, session};
  return Planning(request).run();
}

Planning::Planning(const PlanRequest& request) : request_(request), statement_(request.statement) {}

PlanTemplate Planning::run() {
  out_.kind = statement_.kind;
  out_.command = statement_.command;
  out_.effects = statement_.effects;
  out_.read_only = read_only();
  if (is_session(statement_)) {
    out_.placement = Placement::session;
  } else if (request_.topology.shard_count() == 1) {
    // Nothing to decide and nothing to refuse.
    out_.placement = Placement::by_components;
    if (statement_.insert) made_ids();
    if (statement_.copy) made_copy_ids();
  } else if (!statement_.inner.empty()) {
    inner_statement();
  } else if (!apply_hint() && resolve_tables()) {
    if (expands()) {
      plan_expanded();
      return std::move(out_);
    }
    out_.read_only = read_only();  // now that columns and functions can be told apart
    dispatch();
    if (statement_.kind == Kind::select && !out_.ids) asked_ids();
  }
  return std::move(out_);
}

void Planning::dispatch() {
  switch (statement_.kind) {
    case Kind::select:
      return select();
    case Kind::insert:
      return insert();
    case Kind::update:
    case Kind::delete_:
      return update_or_delete();
    case Kind::merge:
      return merge();
    case Kind::copy:
      return copy();
    case Kind::ddl:
      return definition();
    case Kind::truncate:
    case Kind::lock_table:
    case Kind::maintenance:
      return whole_tables();
    default:
      return code();
  }
}

// May run on a replica and be retried. A function that nothing is known of may write.
bool Planning::read_only() const {
  const parser::Effects& effects = statement_.effects;
  if (effects.writes || effects.locks_rows || effects.temporary_objects || effects.session_advisory_lock ||
      effects.changes_settings || effects.opaque_code || effects.outside_transaction) {
    return false;
  }
  if (!statement_.inner.empty()) {
    const auto inner = plan(statement_.inner.front(), request_.sql, request_.slots, {}, request_.topology,
                            request_.catalog, request_.session);
    return inner.read_only;
  }
  if (statement_.kind != Kind::select && (statement_.kind != Kind::copy || statement_.copy->from)) return false;
  return std::ranges::none_of(statement_.blocks, [this](const parser::Block& block) {
    return std::ranges::any_of(calls(block), [this](const parser::FunctionCall& call) {
      const FunctionTrait trait = trait_of(call, request_.catalog);
      return trait.may_write || trait.server_state;
    });
  });
}

// The functions that a block calls, those among its fields included: `orders.count` is one unless the table has such a
// column. A name that no function has is a column.
std::vector<parser::FunctionCall> Planning::calls(const parser::Block& block) const {
  std::vector<parser::FunctionCall> found = block.functions;
  for (const parser::FieldRef& field : block.fields) {
    if (!request_.catalog.functions.contains(field.name)) continue;
    if (field.table < tables_.size()) {
      const ResolvedTable& table = tables_[field.table];
      if (table.kind == ResolvedTable::Kind::catalog) continue;
      if (table.relation != nullptr) {
        const bool column = table.relation->find_column(field.name) != nullptr || !table.relation->complete;
        if (column) continue;
      }
    }
    parser::FunctionCall call;
    call.name = field.name;
    call.span = field.span;
    call.argument_count = 1;
    call.arguments.resize(1);
    found.push_back(std::move(call));
  }
  return found;
}

// EXPLAIN x, PREPARE … AS x, DECLARE … FOR x, COPY (x) TO.
void Planning::inner_statement() {
  if (statement_.kind == Kind::ddl && statement_.inner.front().kind == Kind::execute) {
    // The statement has another name on the servers, and perhaps another shard than the new table.
    return refuse_all(refuse(request_, fmt::format("{} EXECUTE is not supported over several shards", out_.command),
                             statement_.inner.front().span, "write the query itself behind AS"));
  }
  PlanTemplate inner = plan(statement_.inner.front(), request_.sql, request_.slots, request_.hint, request_.topology,
                            request_.catalog, request_.session);
  inner.kind = out_.kind;
  inner.command = out_.command;
  inner.effects = out_.effects;
  inner.read_only = out_.read_only;
  out_ = std::move(inner);
  out_.ids.reset();  // the text stays as it is
  if (statement_.kind == Kind::explain) {
    // EXPLAIN (ANALYZE 1): a literal that decides what happens.
    const auto in_options = [this](const parser::Slot& slot) {
      return slot.begin < statement_.inner.front().span.begin;
    };
    out_.literals_matter = out_.literals_matter || std::ranges::any_of(request_.slots, in_options);
    if (is_rows(statement_.inner.front().kind)) return explained();
  }
  out_.merges = out_.gathers = false;  // the statement around it runs on one server
  const bool reads_all = statement_.kind == Kind::copy && !out_.effects.writes;
  const bool one_shard =
      statement_.kind == Kind::explain || statement_.kind == Kind::declare_cursor || statement_.kind == Kind::copy;
  if (one_shard && out_.placement == Placement::every_shard) {
    return refuse_all(refuse(request_, fmt::format("{} of a write on every shard is not supported yet", out_.command),
                             statement_.span, fmt::format("say which shard: {}", by_hint(request_))));
  }
  const bool decided = out_.placement != Placement::by_components || out_.hinted_shard.has_value();
  if (reads_all && !decided && !out_.many_refusal) {
    out_.many_refusal = copy_option_refusal();
    return;
  }
  if (one_shard && !decided && !out_.many_refusal) {
    out_.many_refusal =
        refuse(request_, fmt::format("{} over rows of several shards is not supported yet", out_.command),
               statement_.span, keys_given() ? std::string(one_shard_hint) : "add a condition on the sharding key");
  }
}

// Each of the shards explains its part, and the plan that puts them together is told around that.
void Planning::explained() {
  const std::string& format = statement_.explain.format;
  if (format != "xml" && format != "yaml") return;
  Error error =
      refuse(request_, fmt::format("EXPLAIN (FORMAT {}) of a statement over several shards is not supported", format),
             statement_.span, "use FORMAT TEXT or FORMAT JSON");
  if (out_.placement == Placement::every_shard) return refuse_all(std::move(error));
  if (out_.gathers || out_.merges || !out_.many_refusal) out_.many_refusal = std::move(error);
  out_.merges = out_.gathers = false;
}

// True: a hint, or the session's setting, decides. Hints that are not allowed are ordinary comments.
bool Planning::apply_hint() {
  if (!request_.session.hints_allowed) return false;
  const auto bad = [this](std::string message, std::string hint) {
    out_.refusal = Error{sqlstate::invalid_parameter_value, std::move(message), {}, std::move(hint), 0};
    return true;
  };
  std::string_view hint = trim_space(request_.hint);
  if (hint.starts_with("tessera:")) hint = trim_space(hint.substr(sizeof("tessera:") - 1));
  std::string_view shard = request_.session.shard_setting;
  if (hint.starts_with("key=")) {
    if (resolve_tables()) key_hint(trim_space(hint.substr(4)));
    return true;
  }
  if (hint.starts_with("shard=")) {
    shard = trim_space(hint.substr(6));
  } else if (!hint.empty()) {
    return bad(fmt::format("the hint \"{}\" is not known", hint), "hints are shard=<name> and key=<value>");
  }
  if (shard.empty()) return false;
  const auto found = request_.topology.find_shard(shard);
  if (!found) return bad(fmt::format("there is no shard \"{}\"", shard), "SHOW tessera.shards lists them");
  out_.placement = Placement::by_components;
  out_.hinted_shard = *found;
  out_.notes.push_back(fmt::format("shard {} by hint", shard));
  return true;
}

// key=42: as if every sharded table of the statement had this key.
void Planning::key_hint(std::string_view key) {
  const auto bad = [this](std::string message, std::string hint) {
    out_.refusal = Error{sqlstate::invalid_parameter_value, std::move(message), {}, std::move(hint), 0};
  };
  const TableRouting* routing = nullptr;
  for (const ResolvedTable& table : tables_) {
    if (table.kind != ResolvedTable::Kind::sharded) continue;
    if (routing != nullptr && routing->rule != table.routing->rule) {
      return bad("the hint key=… is ambiguous: the statement's tables have different rules", "use shard=<name>");
    }
    routing = table.routing;
  }
  if (routing == nullptr || routing->key_columns.size() != 1) {
    return bad("the hint key=… needs a sharded table with a key of one column", "use shard=<name>");
  }
  std::string scratch;
  const auto value = from_text(key, routing->key_types.front(), scratch);
  if (!value) return bad(fmt::format("the hint's key \"{}\" is no {}", key, name_of(routing->key_types.front())), {});
  if (const auto place = request_.topology.rule(routing->rule).locate({&*value, 1}); !place) {
    out_.refusal = place.error();
    return;
  }
  // As a quoted literal, which every type can be read from.
  KeyOperand operand;
  operand.kind = KeyOperand::Kind::text;
  operand.literal = parser::LiteralKind::string;
  operand.text = "'";
  for (const char c : key) operand.text.append(c == '\'' ? 2 : 1, c);
  operand.text += '\'';
  Component component;
  component.rule = routing->rule;
  component.tables = {routing->name};
  component.terms.push_back({.rule = routing->rule, .key_types = routing->key_types, .rows = {{std::move(operand)}}});
  out_.placement = Placement::by_components;
  out_.components.push_back(std::move(component));
  out_.notes.push_back(fmt::format("key {} by hint", key));
}

void Planning::refuse_all(Error error) {
  if (!out_.refusal) out_.refusal = std::move(error);
}

// A query can be planned with the queries of its views in it; everything else that reads them cannot yet.
bool Planning::expands() const {
  return statement_.kind == Kind::select && std::ranges::any_of(tables_, &ResolvedTable::expands);
}

Result<std::optional<Expansion>> Planning::expansion() {
  if (!resolve_tables()) return std::unexpected(*out_.refusal);
  if (!expands()) return std::nullopt;
  auto expansion = Expansion::of(request_, tables_);
  if (!expansion) return std::unexpected(expansion.error());
  return std::move(*expansion);
}

void Planning::plan_expanded() {
  const auto expansion = Expansion::of(request_, tables_);
  if (!expansion) return refuse_all(expansion.error());
  PlanTemplate plan = router::plan(expansion->statement, expansion->sql, expansion->slots, {}, request_.topology,
                                   request_.catalog, request_.session);
  for (std::optional<Error>* refusal : {&plan.refusal, &plan.many_refusal})
    if (*refusal) (*refusal)->position = expansion->position_before((*refusal)->position);
  out_ = std::move(plan);
  out_.merges = false;  // what is sent to the shards is made of the statement itself
}

// A new view, or a new partition, which is where those are that it is made of.
bool Planning::is_placed_by_others(const parser::TableRef& table) const {
  if (!statement_.definition || table.use != parser::TableUse::ddl_target) return false;
  if (statement_.command == "CREATE VIEW") return table.created;
  return statement_.definition->parent != no_index && &table == &statement_.tables.front();
}

// False: refused.
bool Planning::resolve_tables() {
  if (!tables_.empty()) return !out_.refusal;
  if (statement_.tables.size() > most_tables) {
    refuse_all(
        refuse(request_, fmt::format("statements on more than {} tables are not supported", most_tables), {}, {}));
    return false;
  }
  for (const parser::TableRef& table : statement_.tables) {
    tables_.push_back(resolve_table(table, request_));
    // The name of something that is only now created says nothing.
    const bool made_temporary = table.created && statement_.effects.temporary_objects;
    if (made_temporary) tables_.back() = {.kind = ResolvedTable::Kind::temporary, .name = table.name};
    auto& refusal = tables_.back().refusal;
    const bool query = statement_.kind == Kind::select && tables_.back().expands;
    const bool rows = statement_.kind != Kind::ddl && statement_.kind != Kind::maintenance && !query && !table.created;
    if (!refusal && rows) refusal = tables_.back().rows_refusal;
    // Without a default shard the name alone may say nothing.
    if (refusal && (request_.topology.default_shard() || !is_placed_by_others(table))) {
      refusal->position = position_of(request_.sql, table.span.begin);
      refuse_all(*refusal);
    }
  }
  component_of_.assign(tables_.size(), no_index);
  driving_.assign(tables_.size(), false);
  return !out_.refusal;
}

bool Planning::uses(ResolvedTable::Kind kind) const {
  return first_table(kind) != nullptr;
}

const parser::TableRef* Planning::first_table(ResolvedTable::Kind kind) const {
  const auto found = std::ranges::find(tables_, kind, &ResolvedTable::kind);
  return found == tables_.end() ? nullptr : &statement_.tables[static_cast<std::size_t>(found - tables_.begin())];
}

// What must run on one and the same server whoever runs it: the default shard.
void Planning::same_server(std::string_view why, parser::SourceSpan span) {
  const auto shard = request_.topology.default_shard();
  if (!shard) {
    return refuse_all(refuse(request_,
                             fmt::format("{} belongs to one server, and the database has no default_shard", why), span,
                             "set `default_shard`, or name a shard " + by_hint(request_)));
  }
  out_.placement = Placement::by_components;
  out_.notes.push_back(fmt::format("{} runs on the default shard", why));
  const auto same = std::ranges::find(out_.components, std::optional(*shard), &Component::plain_shard);
  if (same == out_.components.end()) {
    Component component;
    component.plain_shard = *shard;
    component.tables = {std::string(why)};
    out_.components.push_back(std::move(component));
  }
}

// Whether some table is on more than one shard.
bool Planning::distributed() const {
  return std::ranges::any_of(request_.topology.tables(),
                             [](const TableRouting& table) { return table.kind != TableRouting::Kind::plain; });
}

// Code that no shard is chosen for. It may read or write tables of which the default shard has a part.
void Planning::hidden_code(std::string_view what, parser::SourceSpan span) {
  if (!distributed()) return same_server(what, span);
  refuse_all(refuse(request_,
                    fmt::format("{} may use sharded or reference tables, and would see those of one shard only", what),
                    span,
                    fmt::format("say which shard: {}, or, for a function, by a table with a condition on its sharding "
                                "key",
                                by_hint(request_))));
}

void Planning::server_state() {
  for (const parser::Block& block : statement_.blocks) {
    for (const parser::FunctionCall& call : calls(block)) {
      const FunctionTrait trait = trait_of(call, request_.catalog);
      // Without a table the statement's own function is all there is: it may read tables that only some shard has.
      const bool alone = trait.user && out_.components.empty();
      if (alone && trait.code) {
        hidden_code(call.name + "()", call.span);
      } else if (trait.server_state || alone) {
        same_server(call.name + "()", call.span);
      } else if (trait.may_write) {
        out_.notes.push_back(fmt::format("{}() runs where the statement does", call.name));
      }
    }
  }
}

// Locks exclude one another only on the same server: rows of reference tables are locked on the default shard.
void Planning::check_locks() {
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    const parser::TableRef& table = statement_.tables[i];
    if (!table.locked || tables_[i].kind != ResolvedTable::Kind::reference) continue;
    const ShardId shard = request_.topology.default_shard().value_or(ShardId(0));
    const bool elsewhere = std::ranges::any_of(
        out_.components, [shard](const Component& component) { return component.plain_shard != shard; });
    if (elsewhere) {
      return refuse_all(
          refuse(request_,
                 fmt::format("rows of the reference table \"{}\" would be locked on this statement's shard "
                             "only, where others do not look for the lock",
                             table.name),
                 table.span, "lock the other tables alone: FOR UPDATE OF …"));
    }
    if (!out_.components.empty()) continue;
    Component component;
    component.plain_shard = shard;
    component.tables = {table.name};
    out_.components.push_back(std::move(component));
    out_.notes.push_back("rows of reference tables are locked on one and the same shard");
  }
}

// Tables are placed: decides between any shard and the components.
void Planning::finish_reads() {
  server_state();
  check_sizes();
  if (out_.refusal) return;
  const parser::TableRef* temporary = first_table(ResolvedTable::Kind::temporary);
  if (temporary != nullptr && !out_.components.empty()) {
    return refuse_all(
        refuse(request_,
               fmt::format("the temporary table \"{}\" is used together with tables that may be on another shard",
                           temporary->name),
               temporary->span, "use temporary tables in statements of their own"));
  }
  check_locks();
  if (out_.refusal) return;
  out_.placement = out_.components.empty() ? Placement::any_shard : Placement::by_components;
  // What is not listed is on the default shard only, and its catalog alone tells of it.
  const bool copies = uses(ResolvedTable::Kind::reference) && !uses(ResolvedTable::Kind::catalog);
  if (out_.components.empty() && !copies) out_.preferred_shard = request_.topology.default_shard();
  if (out_.components.size() > 1 && !out_.many_refusal) {
    const Component& a = out_.components[0];
    const Component& b = out_.components[1];
    const bool both_sharded = a.rule.has_value() && b.rule.has_value();
    out_.many_refusal =
        refuse(request_,
               fmt::format("\"{}\" and \"{}\" {} on different shards", a.tables.front(), b.tables.front(),
                           both_sharded ? "are not joined on their sharding keys and may be" : "may be"),
               statement_.span, key_hint_text());
  }
}

// Has each sharded table a condition on its key?
bool Planning::keys_given() const {
  return std::ranges::none_of(out_.components, [](const Component& component) {
    return component.rule.has_value() && component.terms.empty();
  });
}

// What would make the statement go to one shard.
std::string Planning::key_hint_text() const {
  if (hides_system(request_.session.search_path)) {
    return "conditions say nothing while search_path names other schemas before pg_catalog, whose operators could be "
           "meant: leave pg_catalog out of it, or name it first";
  }
  if (out_.insert_rows) return "insert the rows of each sharding key in a statement of their own";
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    const ResolvedTable& table = tables_[i];
    if (table.kind != ResolvedTable::Kind::sharded) continue;
    if (statement_.tables[i].use == parser::TableUse::insert_target) continue;
    const std::size_t component = component_of_[i];
    if (component < out_.components.size() && !out_.components[component].terms.empty()) continue;
    std::string keys;
    for (const std::string& key : table.routing->key_columns) {
      keys += fmt::format("{}{}.{} = …", keys.empty() ? "" : " AND ", table.name, key);
    }
    return fmt::format("add a condition on the sharding key: {}", keys);
  }
  return std::string(uses(ResolvedTable::Kind::sharded) ? one_shard_hint : "use tables of one shard only");
}

}  // namespace tessera::router
