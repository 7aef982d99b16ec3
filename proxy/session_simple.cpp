// Simple queries: one message, any number of statements, answered up to ReadyForQuery.
#include <algorithm>
#include <fmt/format.h>

#include "proxy/listen_hub.hpp"
#include "proxy/row_builder.hpp"
#include "proxy/session.hpp"
#include "router/rewrite.hpp"
#include "router/text.hpp"

namespace tessera::proxy {

using parser::StatementKind;
using pool::ReplyKind;

namespace {

parser::Fingerprint& scratch_print() {
  thread_local parser::Fingerprint print;
  return print;
}
router::BindScratch& scratch_bind() {
  thread_local router::BindScratch scratch;
  return scratch;
}

}  // namespace

PlanningView& Session::view() {
  const bool hints_allowed = options_.database->settings().hints;  // as the last reload says
  if (!view_stale_ && view_revision_ == settings_.revision() && view_.session.hints_allowed == hints_allowed)
    return view_;
  view_stale_ = false;
  view_revision_ = settings_.revision();
  view_.session.user = options_.user;
  view_.session.hints_allowed = hints_allowed;
  view_.session.temporary_tables.clear();
  for (const auto& [name, until] : settings_.temporary()) view_.session.temporary_tables.push_back(name);
  view_.session.shard_setting = shard_setting();
  view_.session.search_path = search_path();
  view_.lexer.standard_conforming_strings = standard_conforming_strings();
  view_.cacheable = view_.session.temporary_tables.empty();
  // Names with their lengths: they may hold any character, and what one client chooses must not read like another's.
  std::string meaning = fmt::format("{} {} {} {}", view_.lexer.standard_conforming_strings, shard_setting().size(),
                                    shard_setting(), view_.session.temporary_tables.size());
  for (const auto* names : {&view_.session.temporary_tables, &view_.session.search_path})
    for (const std::string& name : *names) meaning += fmt::format("\n{} {}", name.size(), name);
  view_.meaning = options_.database->meaning_of(meaning);
  return view_;
}

// Before a simple query or a function call, which may come in the middle of an extended unit. Nothing: go on.
std::optional<bool> Session::settle_unit() {
  // If something before it in the unit fails, it is skipped, too.
  if (unit_open_ && wait_for_replies() == Got::wait) return false;
  if (!unit_open_ && deferred_.empty()) return {};
  // What was put off goes first, on the shard at hand.
  const Got got = settle();
  if (got != Got::ready) return got == Got::refused;
  // If it has only prepared (asyncpg sends Flush, and then COPY as a simple query), it does not bind the query to this
  // shard.
  if (multi_shard() && unit_open_ && unit_prepares_only_ && !in_transaction_) return leave_side_unit();
  if (unit_open_ && wait_for_replies() == Got::wait) return false;
  return {};
}

// The text with the columns that its INSERTs do not name, and how far what stands behind the first list has moved.
std::string Session::with_columns(std::string_view sql, const router::PlannedText& text, Renamed& moved) {
  std::vector<router::Replacement> lists;
  for (const router::PlannedStatement& planned : text.statements) {
    if (!planned.plan.column_list) continue;
    const auto [list, tokens] = *planned.plan.column_list;
    const auto at = static_cast<std::uint32_t>(router::behind_tokens(sql, tokens, view().lexer));
    lists.push_back({{at, at}, list});
  }
  moved.moves.push_back({router::characters(sql.substr(0, lists.front().span.begin)),
                         -static_cast<std::ptrdiff_t>(router::characters(lists.front().text))});
  return router::rewritten(sql, {0, static_cast<std::uint32_t>(sql.size())}, std::move(lists));
}

bool Session::handle_query(std::string_view whole) {
  std::string_view sql;
  if (!postgres::parse_query(whole.substr(postgres::frame_header_size), sql)) {
    refuse(postgres::invalid_message("Query"));
    return true;
  }
  if (const std::optional<bool> done = settle_unit()) return *done;
  if (refuse_inside_autocommit()) return true;
  if (autocommit_ && lazy_.failed()) {
    // The statement's own transaction has lost a connection while the others joined it.
    const Error lost = failed_transaction_error();
    cancel_autocommit();
    refuse(lost);
    return true;
  }
  if (const Got got = ready_to_plan(); got != Got::ready) return got == Got::refused;
  unnamed_.valid = false;  // a simple query ends the unnamed statement (exec_simple_query)
  parser::Fingerprint& print = scratch_print();
  router::PlannedTextRef keep;
  const router::PlannedText& text = options_.database->plan(sql, view(), routing(), print, &keep);

  if (gives_ids(text)) return query_with_ids(sql, keep);
  const bool hinted = print.hint_end > print.hint_begin && view().session.hints_allowed;
  if (!hinted && needs_script(text, {sql, print.slots, {}, same_encoding()})) {
    if (wait_for_replies() == Got::wait) return false;
    start_script(sql);
    return true;
  }
  if (const Got got = try_out(text, sql); got != Got::ready) return got == Got::refused;
  std::string reply;
  if (lazy_statement(text, sql, reply)) {
    if (lazy_.none()) end_portals();
    append_ready(reply, local_status());
    local_reply(reply);
    options_.database->metrics().local.add();
    request_ended();
    return true;
  }
  if (is_for_all(text)) return run_for_all(keep, std::string(sql), true);
  if (const std::optional<Error> problem = mixed_refusal(text)) {
    refuse(*problem);
    return true;
  }
  if (const std::optional<Error> problem = unreadable(sql)) {
    refuse(*problem);
    return true;
  }
  if (const std::optional<bool> done = handle_sql_prepared(text, sql)) return *done;
  if (in_transaction_ && backend_ != nullptr && !backend_->replies().empty() && text.single() &&
      (is_local(text) || text.statements.front().plan.kind == StatementKind::deallocate)) {
    // Answered here, but not before it is known whether the transaction has failed.
    wait_ = Wait::drain;
    return false;
  }
  if (const Got got = wait_for_listen(text); got != Got::ready) return got == Got::refused;
  if (wait_for_cursor(text) == Got::wait) return false;
  if (answer_locally(text, sql, true)) return true;

  Target target;
  std::vector<SettingChange> changes;
  if (!text.syntax_error && !in_failed_transaction()) {
    const router::Values values{sql, print.slots, {}, same_encoding()};
    Result<Target> found = target_of(text, values);
    Result<std::vector<SettingChange>> changed = changes_of(text, values);
    if (!found || !changed) {
      refuse(!found ? found.error() : changed.error());
      return true;
    }
    target = std::move(*found);
    changes = std::move(*changed);
  } else if (text.syntax_error && multi_shard() && !in_failed_transaction()) {
    // What we cannot read we cannot route.
    refuse(*text.syntax_error);
    return true;
  }
  if (target.scatter)
    return start_scatter({.sql = std::string(sql), .simple = true, .moved = giving_.moved}, target.spread,
                         text.counters.get());
  const Got got = engage_for_statement(target.shard);
  if (got != Got::ready) return got == Got::refused;
  Renamed moved{{}, {}, giving_.moved};
  std::string named;
  const bool names = keep->names_columns && !in_failed_transaction() && same_encoding();
  if (names && postgres::append_query(named, with_columns(sql, *keep, moved)))
    send_query(named, keep, std::move(changes), &moved);
  else
    send_query(whole, keep, std::move(changes), giving_.moved.empty() ? nullptr : &moved);
  return true;
}

namespace {
// Does a statement run on whichever shard is at hand? With temporary tables that must be theirs.
bool needs_some_shard(const router::PlannedText& text) {
  for (const router::PlannedStatement& planned : text.statements)
    if (planned.plan.placement == router::Placement::any_shard) return true;
  return false;
}

std::optional<ShardId> preferred_shard(const router::PlannedText& text) {
  for (const router::PlannedStatement& planned : text.statements)
    if (planned.plan.preferred_shard) return planned.plan.preferred_shard;
  return {};
}

// Where the statement runs whatever its values are: the table is nowhere else, so nobody else can describe it.
std::optional<ShardId> only_shard(const router::PlannedText& text) {
  for (const router::PlannedStatement& planned : text.statements) {
    if (planned.plan.hinted_shard) return planned.plan.hinted_shard;
    for (const router::Component& component : planned.plan.components)
      if (component.plain_shard) return component.plain_shard;
  }
  return {};
}

bool discards_temporary(const router::PlannedText& text) {
  return text.single() && text.statements.front().plan.command == "DISCARD TEMP";
}

bool reads_cursor(const router::PlannedText& text) {
  if (!text.single()) return false;
  const StatementKind kind = text.statements.front().plan.kind;
  return kind == StatementKind::fetch || kind == StatementKind::close_cursor;
}
}  // namespace

// The one shard that can prepare or describe the statement: what it names is nowhere else.
std::optional<ShardId> Session::only_home(const router::PlannedText& text) const {
  const bool temporary = std::ranges::any_of(text.statements, &router::PlannedStatement::uses_temporary);
  if (temporary && (pins_ & pin_temporary) != 0) return temporary_shard_;
  if (const std::optional<ShardId> home = home_of_cursor(text)) return home;
  return only_shard(text);
}

// Where a statement is prepared or described that is not run yet.
std::optional<ShardId> Session::preparing_shard(const router::PlannedText& text) const {
  if (!may_choose_shard()) return {};
  if (const std::optional<ShardId> only = only_home(text)) return only;
  return (pins_ & pin_temporary) != 0 ? temporary_shard_ : preferred_shard(text);
}

// Whether no transaction or unit of messages has settled on a shard.
bool Session::may_choose_shard() const {
  return backend_ == nullptr || (!in_transaction_ && (!unit_open_ || unit_prepares_only_));
}

// One shard for all statements of the text, or a scatter for its only one.
Result<Target> Session::target_of(const router::PlannedText& text, const router::Values& values) {
  Target target;
  const router::Topology& topology = *routing()->topology;
  asks_sequences_ = false;
  if (std::optional<Error> problem = unplannable(text)) return std::unexpected(std::move(*problem));
  for (const router::PlannedStatement& planned : text.statements) {
    if (planned.asks_sequences && !giving_.answers) asks_sequences_ = true;
    if (planned.plan.kind == StatementKind::begin && options_.mode == config::PoolMode::statement)
      return fail(sqlstate::feature_not_supported, "transaction blocks are not allowed in statement pooling mode");
    if (planned.plan.kind == StatementKind::listen && !text.single())
      return fail(sqlstate::feature_not_supported, "LISTEN cannot be sent together with other statements",
                  "send it in a message of its own");
    if (text.single()) {
      Result<Target> cursor = cursor_target(planned, values);
      if (!cursor || cursor->scatter || cursor->shard) return cursor;
    }
    router::Plan plan;
    if (Result<void> bound = router::bind(planned.plan, topology, values, scratch_bind(), plan); !bound)
      return std::unexpected(bound.error());
    if (plan.op == router::Operator::any || plan.op == router::Operator::session) continue;
    if (plan.op != router::Operator::route) {
      Result<Spread> spread = spread_of(planned, std::move(plan), values, text.single());
      if (!spread) return std::unexpected(spread.error());
      target.scatter = true;
      target.spread = std::move(*spread);
      return target;
    }
    if (const std::optional<Error> problem = temporary_refusal(planned, plan.shard)) return std::unexpected(*problem);
    if (target.shard && *target.shard != plan.shard)
      return fail(sqlstate::feature_not_supported,
                  fmt::format("the statements of this message concern shards \"{}\" and \"{}\"",
                              topology.shard_name(*target.shard), topology.shard_name(plan.shard)),
                  "send them one by one");
    target.shard = plan.shard;
  }
  if (!target.shard && (pins_ & pin_temporary) != 0 && (needs_some_shard(text) || discards_temporary(text)))
    target.shard = temporary_shard_;
  if (!target.shard && may_choose_shard()) target.shard = preferred_shard(text);
  if (!in_transaction_ && lazy_.none() && (pins_ & pin_cursor) != 0 && reads_cursor(text)) target.shard = cursor_shard_;
  return target;
}

// Of a statement that concerns several shards. `single`: it came alone.
Result<Spread> Session::spread_of(const router::PlannedStatement& planned, router::Plan plan,
                                  const router::Values& values, bool single) {
  if (plan.mistake && (!single || plan.writes)) return std::unexpected(std::move(*plan.mistake));
  if (!single)
    return fail(sqlstate::feature_not_supported,
                "a statement that concerns several shards cannot be sent together with others",
                "send it in a message of its own");
  if (planned.uses_temporary)
    return fail(sqlstate::feature_not_supported,
                "a statement over several shards cannot use temporary objects of the session");
  Spread spread{.kind = planned.plan.kind,
                .copies = planned.plan.copies,
                .outside_transaction = planned.plan.effects.outside_transaction,
                .command = planned.plan.command};
  if (planned.plan.kind == StatementKind::explain) {
    auto explain = explain_request(values.sql);
    if (!explain) return std::unexpected(explain.error());
    spread.explain = std::move(*explain);
    if (!spread.explain->options.analyze) spread.copies.clear();  // none of them is written
  }
  if (plan.op == router::Operator::merge_sort) {
    auto merge = options_.database->merge(values, view(), *routing());
    if (!merge) return std::unexpected(merge.error());
    if (*merge)
      spread.merge = std::make_shared<const router::MergePlan>(*std::move(*merge));
    else if (planned.plan.gathers)
      plan.op = router::Operator::gather;
    else
      return std::unexpected(*planned.plan.many_refusal);
  }
  const bool may_gather = spread.merge && !spread.merge->certain && planned.plan.gathers && !spread.explain;
  if (plan.op == router::Operator::gather || may_gather) {
    auto gather = options_.database->gather(values, view(), *routing(), in_transaction_ || lazy_.open());
    if (gather)
      spread.gather = std::make_shared<const router::GatherPlan>(std::move(*gather));
    else if (!may_gather)
      return std::unexpected(gather.error());
  } else if (plan.op == router::Operator::split) {
    auto split = options_.database->split(values, view(), *routing());
    if (!split) return std::unexpected(split.error());
    spread.split = std::make_shared<const router::SplitPlan>(std::move(*split));
  } else if (planned.plan.kind == StatementKind::copy) {
    auto copy = copy_plan(values);
    if (!copy) return std::unexpected(copy.error());
    spread.copy = std::move(*copy);
  }
  spread.plan = std::move(plan);
  return spread;
}

namespace {
bool sets_ours(const router::PlannedStatement& planned) {
  if (!planned.statement || !planned.statement->setting) return false;
  const StatementKind kind = planned.statement->kind;
  return (kind == StatementKind::set || kind == StatementKind::reset) &&
         pool::is_ours(planned.statement->setting->name);
}

bool is_two_phase(StatementKind kind) {
  return kind == StatementKind::prepare_transaction || kind == StatementKind::commit_prepared ||
         kind == StatementKind::rollback_prepared;
}
}  // namespace

// What the session has done makes this text mean something that the planner cannot know. One shard needs no planning.
std::optional<Error> Session::unplannable(const router::PlannedText& text) const {
  if (!multi_shard()) return {};
  bool changed = false;
  for (const router::PlannedStatement& planned : text.statements) {
    if (is_two_phase(planned.plan.kind))
      return Error{sqlstate::feature_not_supported,
                   fmt::format("{} is not supported over several shards", planned.plan.command),
                   "each shard has names of its own for prepared transactions",
                   "prepare and finish such a transaction on the shard itself", 0};
    if (planned.opaque_settings)
      return Error{sqlstate::feature_not_supported,
                   "set_config() is understood with literals or parameters only, and in a SELECT of its own",
                   {},
                   "use SET, or SELECT set_config('name', 'value', false)",
                   0};
    if (!text.single() && sets_ours(planned))
      return Error{sqlstate::feature_not_supported, "settings of Tessera cannot be sent together with other statements",
                   "no server knows them", "send SET or RESET in a message of its own", 0};
    if (!planned.setting_calls.empty() && !text.single())
      return Error{sqlstate::feature_not_supported,
                   "set_config() cannot be sent together with other statements",
                   {},
                   "send it in a message of its own",
                   0};
    if (changed && planned.names_tables)
      return Error{sqlstate::feature_not_supported,
                   "a statement that names tables cannot be sent behind one that may change what its names mean",
                   "search_path, role and temporary objects count when a message arrives", "send them one by one", 0};
    changed = changed || planned.changes_planning;
  }
  return {};
}

// Temporary objects live on one connection, on one shard. `shard`: where the statement must run otherwise.
std::optional<Error> Session::temporary_refusal(const router::PlannedStatement& planned,
                                                std::optional<ShardId> shard) const {
  if (!multi_shard() || (pins_ & pin_temporary) == 0 || !shard || *shard == temporary_shard_) return {};
  if (!planned.uses_temporary && !planned.plan.effects.temporary_objects) return {};
  return Error{
      sqlstate::feature_not_supported,
      fmt::format("the session's temporary objects are on shard \"{}\", and this statement concerns shard \"{}\"",
                  options_.database->runtime().primaries[temporary_shard_.value()]->name,
                  options_.database->runtime().primaries[shard->value()]->name),
      {},
      "use temporary objects with keys of one shard",
      0};
}

// What set_config calls will do if they succeed.
Result<std::vector<SettingChange>> Session::changes_of(const router::PlannedText& text,
                                                       const router::Values& values) const {
  if (!text.single() || text.statements.front().setting_calls.empty()) return std::vector<SettingChange>{};
  if (auto changes = resolve(text.statements.front().setting_calls, values)) {
    const bool ours =
        std::ranges::any_of(*changes, [](const SettingChange& change) { return pool::is_ours(change.name); });
    if (ours)
      return fail(sqlstate::feature_not_supported, "set_config() does not reach the settings of Tessera",
                  "use SET in a message of its own");
    return std::move(*changes);
  }
  return fail(sqlstate::feature_not_supported, "the arguments of set_config() cannot be read");
}

void Session::send_query(std::string_view whole, const router::PlannedTextRef& text, std::vector<SettingChange> changes,
                         const Renamed* moved) {
  const std::string_view sql =
      whole.substr(postgres::frame_header_size, whole.size() - postgres::frame_header_size - 1);
  before_sending(*text, sql);
  std::uint32_t tag = 0;
  begin_effects(text, sql, std::move(changes), tag);
  if (moved != nullptr) (tag != 0 ? *undo_log_.find(tag) : undo_log_.add(unit_, tag)).renamed = *moved;
  note_text(sql);
  expect(ReplyKind::query, tag);
  backend_->append_large(whole);
  unnamed_on_backend_ = false;  // a simple query drops the unnamed statement
  copy_awaited_ = may_copy(*text);
  count(*text, backend_->endpoint().shard);
}

void Session::count(const router::PlannedText& text, ShardId shard) {
  DatabaseMetrics& metrics = options_.database->metrics();
  ++statements_;
  if (router::StatementCounters* counters = text.counters.get()) {
    ++counters->calls;
    counters->sent_to(shard);
    // What was sent last, so its answer is expected last.
    if (!backend_->replies().queue().empty()) backend_->replies().queue().back().note = counters;
  }
  if (shard.value() >= metrics.shards.size()) return;
  DatabaseMetrics::Shard& of_shard = metrics.shards[shard.value()];
  if (text.statements.empty()) of_shard.statements[static_cast<std::size_t>(StatementClass::other)].add();
  for (const router::PlannedStatement& planned : text.statements)
    of_shard.statements[static_cast<std::size_t>(class_of(planned.plan.kind))].add();
}

bool Session::handle_function_call(std::string_view whole) {
  if (const std::optional<bool> done = settle_unit()) return *done;
  if (refuse_inside_autocommit()) return true;
  if (const Got got = ready_to_plan(); got != Got::ready) return got == Got::refused;
  std::optional<ShardId> shard = routing()->topology->default_shard();
  if (!shard && multi_shard() && backend_ == nullptr) {
    refuse({sqlstate::feature_not_supported,
            "a function call needs a shard, and the database has no default_shard",
            {},
            "set default_shard in the configuration",
            0});
    return true;
  }
  if (in_transaction_ || !multi_shard()) shard.reset();
  const Got got = engage_for_statement(shard);
  if (got != Got::ready) return got == Got::refused;
  backend_->mark_dirty();
  expect(ReplyKind::function_call);
  backend_->append_large(whole);
  ++statements_;
  return true;
}

StatementClass class_of(StatementKind kind) {
  switch (kind) {
    case StatementKind::select:
      return StatementClass::select;
    case StatementKind::insert:
      return StatementClass::insert;
    case StatementKind::update:
    case StatementKind::merge:
      return StatementClass::update;
    case StatementKind::delete_:
      return StatementClass::delete_;
    case StatementKind::copy:
      return StatementClass::copy;
    case StatementKind::begin:
    case StatementKind::commit:
    case StatementKind::rollback:
    case StatementKind::savepoint:
    case StatementKind::release_savepoint:
    case StatementKind::rollback_to_savepoint:
    case StatementKind::set_transaction:
    case StatementKind::prepare_transaction:
    case StatementKind::commit_prepared:
    case StatementKind::rollback_prepared:
      return StatementClass::transaction;
    case StatementKind::set:
    case StatementKind::reset:
    case StatementKind::show:
    case StatementKind::discard:
    case StatementKind::prepare:
    case StatementKind::execute:
    case StatementKind::deallocate:
    case StatementKind::listen:
    case StatementKind::unlisten:
    case StatementKind::notify:
      return StatementClass::session;
    case StatementKind::ddl:
    case StatementKind::truncate:
      return StatementClass::ddl;
    default:
      return StatementClass::other;
  }
}

}  // namespace tessera::proxy
