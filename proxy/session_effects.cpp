// What statements do to the session beyond their rows: settings, pins, LISTEN, prepared statements, and the statements
// that the proxy answers itself.
#include <algorithm>
#include <fmt/format.h>

#include "parser/postgres/parse.hpp"
#include "proxy/listen_hub.hpp"
#include "proxy/row_builder.hpp"
#include "proxy/session.hpp"
#include "proxy/show.hpp"
#include "router/rewrite.hpp"

namespace tessera::proxy {

using parser::Statement;
using parser::StatementKind;
using pool::Backend;

namespace {

std::string complete(std::string_view tag) {
  std::string message;
  if (!postgres::append_command_complete(message, tag)) message.clear();
  return message;
}

}  // namespace

namespace {
bool may_advance_sequences(const router::PlannedStatement& planned) {
  if (planned.changes_hidden_state || planned.plan.effects.opaque_code) return true;
  const StatementKind kind = planned.plan.kind;
  const bool only_changes_rows = kind == StatementKind::update || kind == StatementKind::delete_;
  return planned.plan.effects.writes && !(only_changes_rows && !planned.advances_sequences);
}

// May it keep others from reading a table until its transaction ends?
bool holds_tables(StatementKind kind) {
  return kind == StatementKind::ddl || kind == StatementKind::truncate || kind == StatementKind::lock_table ||
         kind == StatementKind::maintenance;
}
}  // namespace

// Pins and marks are set before anything is sent: should the statement fail, the session is held more firmly than it
// needs to be, which costs a connection and nothing else.
void Session::before_sending(const router::PlannedText& text, std::string_view sql) {
  // What it does is not known, so it stays with the connection, and both are cleaned together.
  if (may_be_misread(sql)) {
    pins_ |= pin_settings;
    needs_reset_ = true;
  }
  if (text.syntax_error) {
    // The server may understand what our grammar does not: assume the worst.
    backend_->mark_dirty();
    return;
  }
  for (const router::PlannedStatement& planned : text.statements) {
    const parser::Effects& effects = planned.plan.effects;
    if (effects.writes || effects.opaque_code || planned.plan.kind == StatementKind::commit) may_have_written_ = true;
    if (effects.opaque_code || planned.changes_hidden_state || planned.plan.kind == StatementKind::other)
      backend_->mark_dirty();
    if (planned.changes_hidden_state) may_have_written_ = true;
    holds_tables_ = holds_tables_ || holds_tables(planned.plan.kind);
    giving_.sets_sequences = giving_.sets_sequences || planned.sets_sequences;
    // Whether it changes settings of the transaction is not known.
    if (effects.opaque_code || planned.changes_hidden_state) {
      unit_has_effects_ = true;
      if (in_transaction_) lazy_.forget();
    }
    if (planned.loads_library) {
      pins_ |= pin_library;
      backend_->mark_spoiled();
    }
    // What it has replaced is known when the catalog has been read again.
    const std::string_view command = planned.plan.command;
    if (planned.plan.kind == StatementKind::ddl && (command.ends_with(" FUNCTION") || command.ends_with(" PROCEDURE")))
      code_defined_under_ = routing()->version;
    const bool runs_code = effects.opaque_code || planned.changes_hidden_state;
    if (planned.changes_session || (runs_code && code_defined_under_ == routing()->version)) pins_ |= pin_code;
    giving_.forget(planned);
    if (may_advance_sequences(planned) && !giving_.now) {
      backend_->advanced_by(options_.number);
      sequence_backend_ = backend_->id();
      advanced_sequences_ = true;
    }
    // Definitions may leave more behind than they say (a search_path with pg_temp makes them temporary).
    if (planned.plan.kind == StatementKind::ddl) backend_->mark_dirty();
    if (effects.temporary_objects) {
      pins_ |= pin_temporary;
      temporary_shard_ = backend_->endpoint().shard;
    }
    if (effects.session_advisory_lock) pins_ |= pin_advisory_lock;
    if (effects.changes_settings && planned.setting_calls.empty()) pins_ |= pin_settings;
    if (effects.hold_cursor) {
      pins_ |= pin_cursor;
      cursor_shard_ = backend_->endpoint().shard;
    }
    if (planned.plan.kind == StatementKind::prepare || planned.plan.kind == StatementKind::execute)
      pins_ |= pin_prepared;
    if (planned.plan.kind == StatementKind::deallocate) {
      backend_->prepared().clear();
      backend_->prepared().doubt();  // of one name, or it fails: the others are still there
    }
  }
  if (pins_ != 0) needs_reset_ = true;
}

namespace {
std::string to_sql(const SettingChange& change) {
  return fmt::format("SELECT pg_catalog.set_config({}, {}, {})", pool::quote_literal(change.name),
                     change.value ? pool::quote_literal(*change.value) : "NULL", change.local);
}
}  // namespace

// A statement of `undo.effects` has succeeded.
void Session::apply_effect(const router::PlannedStatement& planned, const Undo& undo) {
  if (!planned.statement) return;
  const Statement& statement = *planned.statement;
  const std::string_view sql = undo.sql;
  const std::string name = statement.transaction ? statement.transaction->name : std::string();
  switch (statement.kind) {
    case StatementKind::begin:
      settings_.begin();
      break;
    case StatementKind::commit:
      if (transaction_failed_)
        settings_.rollback();
      else
        settings_.commit();
      transaction_failed_ = false;
      if (statement.transaction && statement.transaction->chain) settings_.begin();
      break;
    case StatementKind::rollback:
    case StatementKind::prepare_transaction:
      settings_.rollback();
      transaction_failed_ = false;
      if (statement.transaction && statement.transaction->chain) settings_.begin();
      break;
    case StatementKind::savepoint:
      settings_.savepoint(name);
      lazy_.record_savepoint(name, router::text_of(sql, statement.span), parameters_);
      break;
    case StatementKind::release_savepoint:
      settings_.release(name);
      lazy_.record_release(name, router::text_of(sql, statement.span));
      keep_portals_of_released();
      break;
    case StatementKind::rollback_to_savepoint:
      settings_.rollback_to(name);
      lazy_.record_rollback_to(name);
      transaction_failed_ = false;
      catalog_behind_ = catalog_behind_ || catalog_stale_;
      catalog_problem_.reset();
      end_portals_behind_savepoint();
      break;
    case StatementKind::set:
      apply_set(statement, sql);
      lazy_.record(router::text_of(sql, statement.span));
      break;
    case StatementKind::set_transaction:
      set_characteristics(statement);
      lazy_.record(router::text_of(sql, statement.span));
      break;
    case StatementKind::reset:
      if (statement.setting) reset_setting(statement.setting->name);
      lazy_.record(router::text_of(sql, statement.span));
      break;
    case StatementKind::unlisten:
      if (options_.listen != nullptr && statement.channel) change_channels(statement);
      break;
    case StatementKind::discard:
      if (statement.command == "DISCARD ALL") {
        discard_all();
        view_stale_ = true;
        // The connection went back to the server's defaults, not to what the client asked for when it connected.
        if (backend_ != nullptr) backend_->note_settings(pool::no_settings());
        return;
      }
      if (statement.command == "DISCARD TEMP") settings_.drop_all_temporary();
      break;
    case StatementKind::deallocate:
      if (!statement.prepared || !statement.prepared->all) break;
      prepared_.clear();
      if (backend_ != nullptr) backend_->prepared().clear();  // the statement itself was prepared there
      break;
    case StatementKind::ddl:
      apply_ddl(planned);
      break;
    case StatementKind::declare_cursor:
    case StatementKind::close_cursor:
      note_cursor(statement);
      break;
    default:
      if (planned.plan.effects.temporary_objects) apply_ddl(planned);  // SELECT … INTO TEMP
      for (const SettingChange& change : undo.changes) {
        apply_change(change);
        lazy_.record(to_sql(change));
      }
      if (statement.command == "SET CONSTRAINTS") lazy_.record(router::text_of(sql, statement.span));
      break;
  }
  settings_changed();
}

void Session::apply_ddl(const router::PlannedStatement& planned) {
  const Statement& statement = *planned.statement;
  const parser::Effects& effects = planned.plan.effects;
  const bool drops = statement.command.starts_with("DROP");
  for (const parser::TableRef& table : statement.tables) {
    if (table.use != parser::TableUse::ddl_target) continue;
    if (drops)
      settings_.drop_temporary(table.name);
    else if (effects.temporary_objects)
      settings_.add_temporary(table.name, effects.until_commit);
  }
  if (!effects.temporary_objects) note_definition();
}

// What other connections of this session hold must go, too.
void Session::clean_parked() {
  for (Backend* parked : std::exchange(parked_, {})) pool_of(*parked).checkin(*parked, true);
}

// Does the success of this text change how later ones are planned?
bool Session::delays_planning(const router::PlannedText& text) const {
  for (const router::PlannedStatement& planned : text.statements) {
    if (planned.changes_planning || !planned.setting_calls.empty()) return true;
    switch (planned.plan.kind) {
      case StatementKind::set:
      case StatementKind::reset:
      case StatementKind::discard:
      case StatementKind::deallocate:
      case StatementKind::rollback:
      case StatementKind::rollback_to_savepoint:
      case StatementKind::ddl:
        return true;
      case StatementKind::commit:  // ends SET LOCAL and ON COMMIT DROP
        if (settings_.ends_with_transaction()) return true;
        break;
      default:
        break;
    }
  }
  return false;
}

// The statements of `text` are about to be sent; their successes, counted under `tag`, change the session.
void Session::begin_effects(const router::PlannedTextRef& text, std::string_view sql,
                            std::vector<SettingChange> changes, std::uint32_t& tag) {
  if (!text->session_effects) return;
  Undo& undo = undo_log_.add(unit_, tag);
  undo.effects = text;
  undo.sql = sql;
  undo_log_.charge(undo, sql.size());
  undo.changes = std::move(changes);
  if (!in_transaction_) {
    settings_.begin();
    unit_has_effects_ = true;
  }
  for (const router::PlannedStatement& planned : text->statements)
    if (planned.plan.kind == StatementKind::begin) in_transaction_ = true;
  if (!delays_planning(*text)) return;
  undo_log_.delay_planning(undo);
}

// The unnamed statement stays, as it does on the server.
void Session::discard_all() {
  prepared_.clear();
  sql_prepared_.clear();
  portals_.clear();
  pins_ = 0;
  advanced_sequences_ = false;
  giving_.last.reset();
  giving_.current.clear();
  clean_parked();
  settings_ = pool::SettingsTracker(options_.startup_settings);
  if (options_.listen != nullptr)
    for (const std::string& channel : options_.listen->channels_of(*this)) settings_.note_channel(channel);
  channels_settled();
  if (backend_ == nullptr) return;
  backend_->prepared().clear();
}

// Statements that no server needs to see. True: answered.
bool Session::answer_locally(const router::PlannedText& text, std::string_view sql, bool simple) {
  if (!text.single() || !simple) return false;
  const router::PlannedStatement& planned = text.statements.front();
  if (!planned.statement || in_failed_transaction()) return false;
  const Statement& statement = *planned.statement;
  std::string reply;
  std::optional<Error> error;
  if (statement.explain.tessera)
    reply = explain(statement, sql, error);
  else if (!local_statement(statement, reply, error))
    return false;
  if (error) {
    refuse(*error);
    return true;
  }
  if (unit_open_ && backend_ != nullptr) {
    // A simple query ends the unit that it comes in the middle of.
    if (postgres::append_query(backend_->out(), "")) expect(pool::ReplyKind::query, 0, pool::Delivery::ignore);
    unit_open_ = unnamed_on_backend_ = false;
  }
  append_ready(reply,
               backend_ != nullptr && in_transaction_ ? postgres::TransactionStatus::in_transaction : local_status());
  local_reply(reply);
  options_.database->metrics().local.add();
  request_ended();
  return true;
}

// SHOW tessera.…, SET tessera.…, LISTEN, UNLISTEN, DEALLOCATE: the answer without ReadyForQuery.
bool Session::local_statement(const Statement& statement, std::string& reply, std::optional<Error>& error) {
  switch (statement.kind) {
    case StatementKind::show:
      if (!statement.setting || !pool::is_ours(statement.setting->name)) return false;
      reply = show_tessera(statement.setting->name.substr(8), *this, error);
      return true;
    case StatementKind::set:
    case StatementKind::reset:
      if (!statement.setting || !pool::is_ours(statement.setting->name)) return false;
      set_tessera(statement, reply, error);
      return true;
    case StatementKind::listen:
    case StatementKind::unlisten:
      if (options_.listen == nullptr || !statement.channel) return false;
      change_channels(statement);
      reply = complete(statement.kind == StatementKind::listen ? "LISTEN" : "UNLISTEN");
      return true;
    case StatementKind::deallocate:
      if (!statement.prepared || (!multi_shard() && (pins_ & pin_prepared) != 0)) return false;
      if (statement.prepared->all) {
        prepared_.clear();
        sql_prepared_.clear();
        reply = complete("DEALLOCATE ALL");
        return true;
      }
      if (!prepared_.erase(statement.prepared->name) && !sql_prepared_.erase(statement.prepared->name)) return false;
      reply = complete("DEALLOCATE");
      return true;
    default:
      return false;
  }
}

namespace {
bool ends_hearing(const Statement& statement) {
  return (statement.kind == StatementKind::unlisten && statement.channel) ||
         (statement.kind == StatementKind::discard && statement.command == "DISCARD ALL");
}
}  // namespace

// LISTEN is answered when the servers listen. UNLISTEN, when all has come that was notified before it: the client's own
// notifications were here with their COMMIT if this were one server.
Session::Got Session::wait_for_listen(const router::PlannedText& text) {
  if (options_.listen == nullptr || !text.single() || !text.statements.front().statement) return Got::ready;
  const Statement& statement = *text.statements.front().statement;
  if (in_failed_transaction()) return Got::ready;
  if (ends_hearing(statement)) return wait_for_own_notifications();
  if (statement.kind != StatementKind::listen || !statement.channel) return Got::ready;
  if (wait_error_) {
    if (!settings_.channels().contains(statement.channel->name))
      options_.listen->unlisten(*this, statement.channel->name);
    refuse(*std::exchange(wait_error_, std::nullopt));
    return Got::refused;
  }
  settings_.note_channel(statement.channel->name);
  if (options_.listen->listen(*this, statement.channel->name)) return Got::ready;
  wait_ = Wait::listening;
  return Got::wait;
}

Session::Got Session::wait_for_own_notifications() {
  if (unit_open_ || !lazy_.none() || settings_.channels().empty()) return Got::ready;
  if (wait_error_) {
    options_.listen->stop_waiting(*this);
    refuse(*std::exchange(wait_error_, std::nullopt));
    return Got::refused;
  }
  if (wait_for_replies() == Got::wait) return Got::wait;
  if (in_transaction_) return Got::ready;  // what it notifies comes with its COMMIT, and then nobody listens
  if (options_.listen->has_heard_all(*this)) {
    deliver_notifications();
    return Got::ready;
  }
  wait_ = Wait::listening;
  return Got::wait;
}

void Session::on_listening(const Result<void>& result) {
  if (wait_ != Wait::listening) return;
  if (!result) wait_error_ = result.error();
  continue_after_wait();
}

// A client hears notifications between transactions only. One that comes before the COMMIT of its LISTEN is held as
// well: it may be our own, which the hub hears before the session knows of its COMMIT. So is what comes while the
// client does not read. None is dropped in silence: with too many the session ends.
void Session::notify(const postgres::NotificationView& notification) {
  constexpr std::size_t most_held = 16 * 1024 * 1024;
  if (ending_ || held_bytes_ > most_held) return;
  HeldNotification held{std::string(notification.channel), {}};
  if (!postgres::append_notification(held.message, notification)) return;
  held_bytes_ += sizeof held + held.message.size();
  held_notifications_.push_back(std::move(held));
  deliver_notifications();
  if (held_notifications_.empty()) host_.stream().flush();
  if (held_bytes_ <= most_held) return;
  // From the loop: the connection that listens is on the stack.
  options_.database->loop().defer([this, alive = alive_] {
    if (!*alive || ending_) return;
    fatal({sqlstate::program_limit_exceeded, "terminating connection: too many notifications wait for the client",
           "they wait while a transaction is open, and while the client does not read",
           "listen on a connection of its own", 0});
  });
}

void Session::deliver_notifications() {
  if (held_notifications_.empty() || wait_ != Wait::none || in_transaction_ || unit_open_ || ending_) return;
  if (!lazy_.none() || scatter_ || (backend_ != nullptr && !backend_->replies().empty())) return;
  // What was only just appended may fit: then no event will say so.
  if (is_congested()) host_.stream().flush();
  if (is_congested()) return;
  held_bytes_ = 0;
  for (const HeldNotification& held : std::exchange(held_notifications_, {}))
    if (settings_.channels().contains(held.channel)) host_.stream().append(held.message);
}

// LISTEN and UNLISTEN count from COMMIT on; until then the hub listens to both what was and what will be.
void Session::change_channels(const Statement& statement) {
  const std::string& channel = statement.channel->name;
  if (statement.kind == StatementKind::listen)
    settings_.listen(channel);
  else if (channel.empty())
    settings_.unlisten_all();
  else
    settings_.unlisten(channel);
  if (!in_transaction_ && lazy_.none()) channels_settled();
}

// No transaction is open: what is not listened to now is not wanted any more.
void Session::channels_settled() {
  // A LISTEN that waits is wanted, though the session does not listen yet.
  if (options_.listen == nullptr || wait_ == Wait::listening) return;
  for (const std::string& channel : settings_.channels_given_up()) options_.listen->unlisten(*this, channel);
}

void Session::set_tessera(const Statement& statement, std::string& reply, std::optional<Error>& error) {
  const std::string& name = statement.setting->name;
  const bool reset = statement.kind == StatementKind::reset || statement.setting->to_default;
  if (name != "tessera.shard") {
    error = Error{sqlstate::undefined_object,
                  fmt::format("unrecognized configuration parameter \"{}\"", name),
                  {},
                  "known: tessera.shard",
                  0};
    return;
  }
  if (!options_.database->settings().hints) {
    error = Error{sqlstate::insufficient_privilege,
                  "choosing a shard is not allowed in this database",
                  {},
                  "set hints: true for the database in the configuration",
                  0};
    return;
  }
  const std::string wanted =
      reset || statement.setting->values.empty() ? std::string() : statement.setting->values.front();
  if (!wanted.empty() && !routing()->topology->find_shard(wanted)) {
    error = Error{sqlstate::invalid_parameter_value,
                  fmt::format("there is no shard \"{}\"", wanted),
                  {},
                  "SHOW tessera.shards lists them",
                  0};
    return;
  }
  const bool local = statement.setting->local;
  if (local && !in_transaction_ && lazy_.none())
    postgres::append_error(reply, {SqlState("25P01"), "SET LOCAL can only be used in transaction blocks", {}, {}, 0},
                           postgres::Severity::warning);
  settings_.set_ours(name, wanted, local);
  reply += complete(statement.kind == StatementKind::reset ? "RESET" : "SET");
}

}  // namespace tessera::proxy
