// The extended protocol. Messages between two Syncs form a unit: one implicit transaction, so one shard. Parse,
// Describe and Close of statements say nothing about the shard and are put off until Bind names the key, or until the
// unit ends without one. Statements have the client's names here and names made from their text on the servers, where
// all clients share them.
#include <algorithm>
#include <fmt/format.h>

#include "proxy/extended_messages.hpp"
#include "proxy/session.hpp"

namespace tessera::proxy {

using parser::StatementKind;
using pool::Delivery;
using pool::ReplyKind;
namespace frontend = postgres::frontend;

namespace {

parser::Fingerprint& scratch_print() {
  thread_local parser::Fingerprint print;
  return print;
}

}  // namespace

bool Session::discard_until_sync() const {
  return skip_local_ || (backend_ != nullptr && backend_->replies().skipping());
}

// The unit at hand has its connection.
bool Session::engaged() const {
  return backend_ != nullptr && (unit_open_ || in_transaction_);
}

PreparedStatement* Session::find_prepared(std::string_view name) {
  if (name.empty()) return unnamed_.valid ? &unnamed_ : nullptr;
  return prepared_.find(name);
}

// Would `more` bytes for another statement be above what one client may have?
std::optional<Error> Session::too_much_prepared(std::size_t more) const {
  const std::uint64_t most = options_.database->settings().limits.prepared_memory;
  const std::size_t taken = prepared_.bytes() + sql_prepared_.bytes();
  if (taken + more <= most) return {};
  return Error{sqlstate::configuration_limit_exceeded, "the session has too many prepared statements",
               fmt::format("{} of them take {} bytes, this one would take {}, and all of them may take {}",
                           prepared_.size() + sql_prepared_.size(), taken, more, most),
               "close those that are not used any more (DEALLOCATE), or raise limits.prepared_memory", 0};
}

// Names may mean other tables by now, and tables may be sharded otherwise: the server looks again, too
// (RevalidateCachedQuery).
const router::PlannedText& Session::current_plan(PreparedStatement& statement) {
  const PlanningView& now = view();
  const std::uint64_t version = routing()->version;
  if (statement.routing_version == version && statement.meaning == now.meaning) return *statement.plan;
  parser::Fingerprint& print = scratch_print();
  options_.database->plan(statement.sql_text(), now, routing(), print, &statement.plan);
  statement.slots = print.slots;
  statement.routing_version = version;
  statement.meaning = now.meaning;
  return *statement.plan;
}

// Statements whose effect on planning is not known yet must answer first. Inside a unit the server is asked to by
// Flush.
Session::Got Session::wait_for_effects() {
  if (!undo_log_.delays_planning() || backend_ == nullptr) return Got::ready;
  if (unit_open_) postgres::append_flush(backend_->out());
  wait_ = Wait::effects;
  return Got::wait;
}

// Everything that was sent is answered first.
Session::Got Session::wait_for_replies() {
  if (backend_ == nullptr || backend_->replies().empty()) return Got::ready;
  if (unit_open_) postgres::append_flush(backend_->out());
  wait_ = Wait::drain;
  return Got::wait;
}

// What the name means depends on whether messages of an earlier unit were skipped, and that is still on its way.
// (Within a unit, whatever skips those skips this one.)
Session::Got Session::wait_for_definition(std::string_view name) {
  return undo_log_.redefines(name, unit_) ? wait_for_replies() : Got::ready;
}

// ---- messages that wait for a shard ---------------------------------------------------------------------------------

void Session::defer(char type, std::string_view whole, std::uint32_t tag) {
  DeferredMessage& deferred = deferred_.emplace_back();
  deferred.type = type;
  deferred.begin = deferred_bytes_.size();
  deferred_bytes_.append(whole);
  deferred.end = deferred_bytes_.size();
  deferred.tag = tag;
}

void Session::defer_local(std::string reply, std::uint32_t tag) {
  DeferredMessage& deferred = deferred_.emplace_back();
  deferred.local = true;
  deferred.tag = tag;
  deferred.reply = std::move(reply);
}

void Session::clear_deferred() {
  deferred_.clear();
  deferred_bytes_.clear();
  if (deferred_bytes_.capacity() > 1024) std::string().swap(deferred_bytes_);
}

// Where what was put off can be answered, as long as no key says more.
std::optional<ShardId> Session::deferred_shard() const {
  for (const DeferredMessage& deferred : deferred_)
    if (deferred.shard) return deferred.shard;
  return {};
}

// Makes a connection current and sends it what was put off.
Session::Got Session::settle() {
  Got got = engage(deferred_shard());
  if (got == Got::ready) got = open_aside();
  if (got == Got::ready) emit_deferred();
  return got;
}

void Session::emit_deferred() {
  for (DeferredMessage& deferred : deferred_) {
    const std::string_view raw =
        std::string_view(deferred_bytes_).substr(deferred.begin, deferred.end - deferred.begin);
    if (deferred.local) {
      local_reply(deferred.reply, deferred.tag);
      unit_open_ = true;
    } else if (deferred.type == frontend::parse) {
      emit_parse(deferred.statement, raw, deferred.tag);
    } else {
      emit_describe(deferred.statement, raw);
    }
  }
  clear_deferred();
}

// The unit ends, or fails, without a server: answers what can be answered here.
void Session::emit_local_deferred() {
  for (const DeferredMessage& deferred : deferred_) {
    if (deferred.local)
      local_reply(deferred.reply, deferred.tag);
    else if (deferred.type == frontend::parse)
      local_reply(made<postgres::append_parse_complete>(), deferred.tag);
    else
      break;  // a description needs a server; the error that follows takes its place
  }
  clear_deferred();
}

// The BindComplete of a scatter that begins, and the answers behind it.
std::string Session::take_bound() {
  const auto first = std::ranges::find(deferred_, true, &DeferredMessage::bound);
  // A statement that is prepared in between is not worth holding back.
  if (!std::all_of(first, deferred_.end(), [](const DeferredMessage& deferred) { return deferred.local; })) return {};
  std::string replies;
  for (auto deferred = first; deferred != deferred_.end(); ++deferred) replies += deferred->reply;
  deferred_.erase(first, deferred_.end());
  return replies;
}

// ---- Parse ----------------------------------------------------------------------------------------------------------

bool Session::handle_parse(std::string_view whole) {
  if (const Got got = ready_to_plan(); got != Got::ready) return got == Got::refused;
  thread_local postgres::ParseView parse;
  if (!postgres::parse_parse(body_of(whole), parse)) {
    refuse(postgres::invalid_message("Parse"));
    return true;
  }
  if (wait_for_definition(parse.statement) == Got::wait) return false;
  parser::Fingerprint& print = scratch_print();
  router::PlannedTextRef plan;
  options_.database->plan(parse.query, view(), routing(), print, &plan);
  if (lazy_.failed() && !ends_transaction(*plan)) return refuse_parse(parse.statement, failed_transaction_error());
  if (!parse.statement.empty() && prepared_.contains(parse.statement)) {
    // The definition before this one may be among what is still unanswered, and may have failed.
    if (wait_for_replies() == Got::wait) return false;
    return refuse_duplicate(whole, parse.statement);
  }
  if (plan->syntax_error && multi_shard() && !in_failed_transaction())
    return refuse_parse(parse.statement, *plan->syntax_error);
  // Not at Bind: by then the settings may be others, while the servers have read it under these.
  if (multi_shard() && may_be_misread(parse.query) && !in_failed_transaction())
    return refuse_parse(parse.statement, unreadable(parse.query).value());
  if (gives_ids(*plan)) return parse_with_ids(parse, plan);
  if (const Got got = go_home(*plan); got != Got::ready) return got == Got::refused;
  std::uint32_t tag = 0;
  PreparedStatement named;
  PreparedStatement* statement = &unnamed_;
  const bool literals = has_string_literals(print);
  if (!parse.statement.empty()) {
    statement = &named;
    named.text =
        options_.database->intern(parse.query, parse.parameter_types, parse_settings(literals), name_settings());
  } else {
    if (unit_open_ || !deferred_.empty()) {
      // Something before it may fail, and then the one before it stays.
      Undo& undo = undo_log_.add(unit_, tag);
      keep_unnamed(undo);
      if (giving_.parameters) undo.renamed = Renamed{{}, {}, giving_.parameters->moves};
    } else {
      tag = unnamed_defined_ = (unnamed_defined_ + 1) | UndoLog::unnamed_tag;
      unnamed_is_certain_ = false;
    }
    statement->sql.assign(parse.query);
    statement->types.assign(parse.parameter_types.begin(), parse.parameter_types.end());
  }
  statement->plan = std::move(plan);
  statement->given = giving_.parameters;
  statement->slots = print.slots;
  statement->literals = literals;
  statement->routing_version = routing()->version;
  statement->meaning = view().meaning;
  statement->valid = true;
  if (statement == &named) {
    if (const std::optional<Error> problem =
            too_much_prepared(PreparedTable<PreparedStatement>::cost(parse.statement, named))) {
      refuse(*problem);
      return true;
    }
    Undo& undo = undo_log_.add(unit_, tag);
    undo.named = true;
    undo.name = parse.statement;
    if (giving_.parameters) undo.renamed = Renamed{{}, {}, giving_.parameters->moves};
    statement = &prepared_.put(undo.name, std::move(named));
  }
  if (is_ours(*statement->plan)) {
    // A server would refuse it.
    undo_log_.forget(tag);
    return answer_in_unit(made<postgres::append_parse_complete>());
  }
  if (engaged()) {
    emit_parse(*statement, whole, tag);
    return true;
  }
  defer(frontend::parse, whole, tag);
  deferred_.back().shard = preparing_shard(*statement->plan);
  if (statement->text) deferred_.back().statement = *statement;
  return true;
}

// A Parse that fails has dropped the unnamed statement.
bool Session::refuse_parse(std::string_view name, const Error& error) {
  std::uint32_t tag = 0;
  if (name.empty() && unnamed_.valid) {
    keep_unnamed(undo_log_.add(unit_, tag));
    unnamed_.valid = false;
  }
  refuse(error, tag);
  return true;
}

// Should the message at hand not take place, the unnamed statement is what it is now.
void Session::keep_unnamed(Undo& undo) {
  undo.named = true;
  undo.was_on_backend = unnamed_on_backend_;
  undo.sent_before = unnamed_sent_;
  undo.previous = unnamed_;
  undo_log_.charge(undo, unnamed_.sql.size() + unnamed_.slots.size() * sizeof(parser::Slot));
}

// The server itself says that the name is taken: the name is taken there for the occasion.
bool Session::refuse_duplicate(std::string_view whole, std::string_view name) {
  const Got got = settle();
  if (got != Got::ready) return got == Got::refused;
  append_close(std::string(name));  // it may have been taken like this before
  if (!postgres::append_parse(backend_->out(), name, "")) {
    refuse(postgres::invalid_message("Parse"));
    return true;
  }
  expect(ReplyKind::parse, 0, Delivery::ignore);
  backend_->append(whole);
  expect(ReplyKind::parse);
  backend_->mark_dirty();
  unit_open_ = true;
  return true;
}

void Session::emit_parse(const PreparedStatement& statement, std::string_view raw, std::uint32_t tag) {
  unit_open_ = true;
  if (!statement.text) {
    backend_->append_large(raw);
    expect(ReplyKind::parse, tag);
    unnamed_on_backend_ = true;
    unnamed_sent_ = tag;
    return;
  }
  if (const pool::PreparedTextRef text = text_here(statement); text != statement.text)
    return emit_parse({.text = text, .given = statement.given, .literals = statement.literals}, raw, tag);
  const std::string& name = statement.text->server_name;
  if (is_prepared(name)) {
    // Known here. In a transaction whose state is still on its way the server must see it all the same: it might have
    // failed.
    if (!in_transaction_ ||
        (backend_->replies().empty() && backend_->transaction_status() != postgres::TransactionStatus::failed)) {
      backend_->replies().expect(
          {.kind = ReplyKind::local, .tag = tag, .local = made<postgres::append_parse_complete>()});
      if (backend_->replies().outstanding() == 1) backend_->deliver_local();
      return;
    }
    append_close(name);
  }
  send_parse(statement, tag, Delivery::forward);
}

// The connection holds it for sure, as far as this unit will look. What an earlier unit sends for it may yet fail, or
// be skipped.
bool Session::is_prepared(const std::string& server_name) {
  return backend_->prepared().contains(server_name) && !undo_log_.prepares_before(server_name, unit_);
}

void Session::append_close(const std::string& server_name, std::uint32_t tag) {
  if (!postgres::append_close(backend_->out(), 'S', server_name)) return;
  expect(ReplyKind::close, tag, Delivery::ignore);
}

void Session::send_parse(const PreparedStatement& statement, std::uint32_t tag, Delivery delivery) {
  const std::string& name = statement.text->server_name;
  if (backend_->prepared().needs_close(name) || undo_log_.prepares_before(name, unit_)) append_close(name);
  if (const std::optional<std::string> evicted = backend_->prepared().insert(name)) {
    std::uint32_t close = 0;
    undo_log_.add(unit_, close).server_name = *evicted;
    append_close(*evicted, close);
  }
  Undo* entry = undo_log_.find(tag);
  if (entry == nullptr) entry = &undo_log_.add(unit_, tag);
  entry->server_name = name;
  if (!postgres::append_parse(backend_->out(), name, statement.text->sql, statement.text->types))
    return fatal({sqlstate::program_limit_exceeded, "the statement is too long", {}, {}, 0});
  expect(ReplyKind::parse, tag, delivery);
  unit_open_ = true;
}

// The connection knows the statement from now on.
void Session::ensure_prepared(const PreparedStatement& statement) {
  if (statement.text) {
    if (!is_prepared(statement.text->server_name)) send_parse(statement, 0, Delivery::ignore);
    return;
  }
  if (unnamed_is_here()) return;
  if (!postgres::append_parse(backend_->out(), "", statement.sql, statement.types)) return;
  undo_log_.add(unit_, unnamed_sent_);
  expect(ReplyKind::parse, unnamed_sent_, Delivery::ignore);
  unnamed_on_backend_ = true;
  unit_open_ = true;
}

// As is_prepared: what an earlier unit sends for it may yet be skipped.
bool Session::unnamed_is_here() {
  if (!unnamed_on_backend_) return false;
  const Undo* const sent = undo_log_.find(unnamed_sent_);
  return sent == nullptr || sent->unit == unit_;
}

// ---- Bind -----------------------------------------------------------------------------------------------------------

bool Session::handle_bind(std::string_view whole) {
  if (const Got got = ready_to_plan(); got != Got::ready) return got == Got::refused;
  thread_local postgres::BindView bind;
  if (!postgres::parse_bind(body_of(whole), bind)) {
    refuse(postgres::invalid_message("Bind"));
    return true;
  }
  if (wait_for_definition(bind.statement) == Got::wait || awaits_portals_end(bind.portal)) return false;
  PreparedStatement* statement = find_prepared(bind.statement);
  if (statement == nullptr) return forward_unknown(whole, bind.statement);
  if (statement->given && !giving_.bind.data()) return bind_with_ids(whole, bind, *statement);
  const router::PlannedText& text = current_plan(*statement);
  if (const std::optional<Error> problem = extended_refusal(text, statement->sql_text())) {
    refuse(*problem);
    return true;
  }
  if (is_local(text)) {
    if (const std::optional<Error> problem = portal_refusal(bind.portal, false, statement->sql_text().size())) {
      refuse(*problem);
      return true;
    }
    set_portal(bind.portal, {.plan = statement->plan, .sql = std::string(statement->sql_text()), .local = true});
    return answer_in_unit(made<postgres::append_bind_complete>());
  }
  if (lazy_.failed()) {
    refuse(failed_transaction_error());
    return true;
  }
  if (wait_for_cursor(text) == Got::wait) return false;
  Target target;
  std::vector<SettingChange> changes;
  if (!text.syntax_error && !in_failed_transaction()) {
    const router::Values values{statement->sql_text(), statement->slots,
                                parameters_of(bind, statement->parameter_types()), same_encoding()};
    Result<Target> found = target_of(text, values);
    Result<std::vector<SettingChange>> changed = changes_of(text, values);
    if (!found || !changed) {
      refuse(!found ? found.error() : changed.error());
      return true;
    }
    target = std::move(*found);
    changes = std::move(*changed);
  }
  const std::size_t kept =  // of the portal's, here
      (target.scatter || text.session_effects ? statement->sql_text().size() : 0) + (target.scatter ? whole.size() : 0);
  if (const std::optional<Error> problem = portal_refusal(bind.portal, !target.scatter, kept)) {
    refuse(*problem);
    return true;
  }
  if (target.scatter) return bind_scatter(*statement, bind, whole, target);
  if (unit_open_ && unit_prepares_only_ && target.shard && backend_ != nullptr && !in_transaction_ &&
      backend_->endpoint().shard != *target.shard)
    return leave_side_unit();
  // Before what was put off: BEGIN, a simple query, would drop the unnamed statement.
  const Got got = engage_for_statement(target.shard ? target.shard : deferred_shard());
  if (got != Got::ready) return got == Got::refused;
  emit_deferred();
  if (const std::optional<Error> problem = parsed_otherwise(*statement)) {
    refuse(*problem);
    return true;
  }
  before_sending(text, statement->sql_text());
  note_text(statement->sql_text());
  statement->text = text_here(*statement);
  if (statement->text) arm_retry(*statement, giving_.bind.data() != nullptr ? giving_.bind : whole);
  ensure_prepared(*statement);
  if (ending_) return true;
  if (statement->text)
    append_renamed(backend_->out(), whole, bind.portal.size() + 1, bind.statement, statement->text->server_name);
  else
    backend_->append_large(whole);
  expect_named(ReplyKind::bind, statement->text ? bind.statement : std::string_view());
  unit_open_ = true;
  unit_prepares_only_ = false;
  Portal portal{.counters = text.counters.get(), .may_copy = may_copy(text)};
  if (text.session_effects) {
    portal.plan = statement->plan;
    portal.sql = statement->sql_text();
    portal.changes = std::move(changes);
  }
  set_portal(bind.portal, std::move(portal));
  count(text, backend_->endpoint().shard);
  return true;
}

std::optional<Error> Session::extended_refusal(const router::PlannedText& text, std::string_view sql) const {
  if (std::optional<Error> problem = unreadable(sql)) return problem;
  if (std::optional<Error> problem = mixed_refusal(text)) return problem;
  if (std::optional<Error> problem = implicit_refusal(text)) return problem;
  if (!multi_shard() || in_failed_transaction()) return {};
  for (const router::PlannedStatement& planned : text.statements)
    if (names_sql_prepared(planned))
      return Error{sqlstate::feature_not_supported,
                   fmt::format("{} cannot be sent by the extended protocol", planned.plan.command),
                   {},
                   "send it as a simple query, or prepare the statement itself by the protocol",
                   0};
  return {};
}

std::span<const router::Values::Parameter> Session::parameters_of(const postgres::BindView& bind,
                                                                  const std::vector<postgres::Oid>& types) {
  thread_local std::vector<router::Values::Parameter> parameters;
  parameters.clear();
  for (std::size_t i = 0; i < bind.parameters.size(); ++i) {
    const bool binary =
        postgres::format_of(bind.parameter_formats, i).value_or(postgres::Format::text) == postgres::Format::binary;
    parameters.push_back({bind.parameters[i].value_or(std::string_view()), !bind.parameters[i], binary,
                          i < types.size() ? types[i] : 0});
  }
  return parameters;
}

// So far the unit has only prepared on some shard; the key lies on another. Nothing was executed, so it may end here,
// unseen.
bool Session::leave_side_unit() {
  postgres::append_sync(backend_->out());
  expect(ReplyKind::sync, 0, Delivery::ignore);
  close_aside();
  unit_open_ = false;
  wait_ = Wait::drain;
  return false;
}

// The statement at hand is prepared or described where the things are that it names. What came before it in its unit
// may be elsewhere: if that has only prepared, it is finished first.
Session::Got Session::go_home(const router::PlannedText& text) {
  const std::optional<ShardId> home = multi_shard() && !in_failed_transaction() ? only_home(text) : std::nullopt;
  if (!home) return Got::ready;
  if (engaged()) {
    if (in_transaction_) return engage_for_statement(*home);
    if (backend_->endpoint().shard == *home) return Got::ready;
    if (!unit_prepares_only_) return change_shard(*home);
  } else {
    const std::optional<ShardId> before = deferred_shard();
    if (!before || *before == *home) return Got::ready;
    if (const Got got = settle(); got != Got::ready) return got;
  }
  leave_side_unit();
  return Got::wait;
}

// ---- statements without a server, inside a unit ---------------------------------------------------------------------

bool Session::answer_in_unit(std::string reply, std::uint32_t tag) {
  if (engaged())
    local_reply(reply, tag);
  else
    defer_local(std::move(reply), tag);
  return true;
}

// Is this a statement that no server knows?
bool Session::is_ours(const router::PlannedText& text) const {
  if (!text.single() || !text.statements.front().statement || in_failed_transaction()) return false;
  const parser::Statement& statement = *text.statements.front().statement;
  if (statement.kind == StatementKind::explain) return statement.explain.tessera;
  const bool setting = statement.kind == StatementKind::set || statement.kind == StatementKind::reset ||
                       statement.kind == StatementKind::show;
  return setting && statement.setting && pool::is_ours(statement.setting->name);
}

// Will this statement be answered here?
bool Session::is_local(const router::PlannedText& text) const {
  if (is_for_all(text)) return true;
  if (!text.single() || !text.statements.front().statement || in_failed_transaction()) return false;
  const parser::Statement& statement = *text.statements.front().statement;
  const bool ours = statement.setting && pool::is_ours(statement.setting->name);
  switch (statement.kind) {
    case StatementKind::begin:
      return multi_shard() && !engaged();
    case StatementKind::commit:
    case StatementKind::rollback:
    case StatementKind::savepoint:
    case StatementKind::release_savepoint:
    case StatementKind::rollback_to_savepoint:
      return !lazy_.none() && !engaged();
    case StatementKind::set_transaction:
      return !lazy_.none() && !engaged() && !is_for_session(statement);
    case StatementKind::set:
      return ours || (lazy_.open() && !engaged() && statement.setting && statement.setting->local);
    case StatementKind::show:
    case StatementKind::reset:
      return ours;
    case StatementKind::listen:
    case StatementKind::unlisten:
      return options_.listen != nullptr;
    case StatementKind::deallocate:  // the servers know it by another name
      if (!statement.prepared) return false;
      if (statement.prepared->all) return multi_shard();
      return prepared_.contains(statement.prepared->name) || sql_prepared_.contains(statement.prepared->name);
    case StatementKind::explain:
      return statement.explain.tessera;
    default:
      return false;
  }
}

std::string Session::run_local(const Portal& portal, std::optional<Error>& error) {
  std::string reply;
  const router::PlannedText& text = *portal.plan;
  if (lazy_.failed() && lazy_.owes_error() && text.single() &&
      text.statements.front().plan.kind == StatementKind::commit) {
    error = failed_transaction_error();
    lazy_end(*text.statements.front().statement, reply);
    return {};
  }
  if (lazy_statement(text, portal.sql, reply)) return reply;
  const parser::Statement& statement = *text.statements.front().statement;
  if (statement.explain.tessera) return explain(statement, portal.sql, error);
  if (!local_statement(statement, reply, error) && !error)
    error = Error{
        SqlState("34000"), "the statement must be sent again: a transaction has begun since it was bound", {}, {}, 0};
  return reply;
}

}  // namespace tessera::proxy
