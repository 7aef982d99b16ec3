// Lazy transactions. With several shards, BEGIN says nothing about where the transaction will run: it is answered here
// and sent to the shard that the first statement chooses, together with the savepoints and SET LOCALs that came in
// between. Those that may be mistaken are tried out on some server, so that the client hears of it at once.
#include <algorithm>
#include <fmt/format.h>

#include "proxy/session.hpp"

namespace tessera::proxy {

using parser::Statement;
using parser::StatementKind;
using postgres::TransactionStatus;

namespace {

std::string complete(std::string_view tag) {
  std::string message;
  if (!postgres::append_command_complete(message, tag)) message.clear();
  return message;
}

std::string error_message(const Error& error, postgres::Severity severity = postgres::Severity::error) {
  std::string message;
  postgres::append_error(message, error, severity);
  return message;
}

std::string_view text_of(const Statement& statement, std::string_view sql) {
  return sql.substr(statement.span.begin, statement.span.end - statement.span.begin);
}

}  // namespace

TransactionStatus Session::local_status() const {
  if (lazy_.open()) return TransactionStatus::in_transaction;
  return lazy_.failed() ? TransactionStatus::failed : TransactionStatus::idle;
}

bool Session::ends_transaction(const router::PlannedText& text) const {
  if (!text.single()) return false;
  const StatementKind kind = text.statements.front().plan.kind;
  return kind == StatementKind::commit || kind == StatementKind::rollback ||
         kind == StatementKind::rollback_to_savepoint;
}

Error Session::failed_transaction_error() {
  if (std::optional<Error> owed = lazy_.take_owed_error()) return *std::move(owed);
  return {sqlstate::in_failed_transaction,
          "current transaction is aborted, commands ignored until end of transaction block",
          {},
          {},
          0};
}

namespace {
bool begins_with_rollback(const router::PlannedText& text) {
  if (text.statements.size() < 2 || text.statements.front().plan.kind != StatementKind::rollback) return false;
  return text.statements.front().statement != nullptr;
}

bool chains(const router::PlannedText& text) {
  if (text.statements.empty() || !text.statements.front().statement) return false;
  const Statement& first = *text.statements.front().statement;
  return first.transaction && first.transaction->chain;
}

// What AND CHAIN hands on to the next transaction, by the names of its settings.
bool is_characteristic(std::string_view setting) {
  return setting == "transaction_isolation" || setting == "transaction_read_only" ||
         setting == "transaction_deferrable";
}
}  // namespace

// A SET TRANSACTION that is a plain SET of what later transactions begin with.
bool Session::is_for_session(const Statement& statement) {
  return statement.command == "SET SESSION CHARACTERISTICS";
}

// Can the one statement of `text` be answered without a shard? Then `reply` holds the answer, without ReadyForQuery.
bool Session::lazy_statement(const router::PlannedText& text, std::string_view sql, std::string& reply) {
  if (backend_ != nullptr && (in_transaction_ || unit_open_ || !backend_->replies().empty())) return false;
  if (lazy_.failed() && !lazy_.knows_its_beginning() && chains(text)) {
    reply = error_message(
        {sqlstate::feature_not_supported, "AND CHAIN cannot follow a transaction whose connection was lost",
         "how the transaction had begun was known to that connection only", "send ROLLBACK, and then BEGIN", 0});
    return true;
  }
  if (lazy_.failed() && begins_with_rollback(text)) {
    // What stands behind it runs as if there had been none, and so does it: the server only warns.
    if (lazy_.parameters_at_begin()) local_reply(tell_parameters(*lazy_.parameters_at_begin()));
    std::string unused;
    lazy_end(*text.statements.front().statement, unused);
    return false;
  }
  if (lazy_.failed() && !ends_transaction(text)) {
    reply = error_message(failed_transaction_error());
    return true;
  }
  if (!text.single()) return false;
  const router::PlannedStatement& planned = text.statements.front();
  if (lazy_.failed()) {
    if (planned.plan.kind == StatementKind::commit && lazy_.owes_error()) {
      // The client does not know yet that its work is lost: ROLLBACK alone would look like success.
      const Error lost = failed_transaction_error();
      lazy_end(*planned.statement, reply);
      reply = error_message(lost);
      return true;
    }
    if (planned.plan.kind != StatementKind::rollback_to_savepoint)
      lazy_end(*planned.statement, reply);
    else if (!lazy_savepoint(*planned.statement, sql, reply))
      reply = error_message(failed_transaction_error());
    return true;
  }
  if (!planned.statement) return false;
  const Statement& statement = *planned.statement;
  if (statement.kind == StatementKind::begin && multi_shard()) {
    lazy_begin(statement, sql, reply);
    return true;
  }
  if (!lazy_.open()) return false;
  switch (statement.kind) {
    case StatementKind::commit:
    case StatementKind::rollback:
      lazy_end(statement, reply);
      return true;
    case StatementKind::savepoint:
    case StatementKind::release_savepoint:
    case StatementKind::rollback_to_savepoint:
      return lazy_savepoint(statement, sql, reply);
    case StatementKind::set_transaction:
      if (is_for_session(statement)) return false;
      if (!room_for(lazy_.add(text_of(statement, sql)), reply)) return true;
      lazy_.hand_on(text_of(statement, sql));
      reply = complete("SET");
      return true;
    case StatementKind::set:
      if (!statement.setting || !statement.setting->local || pool::is_ours(statement.setting->name)) return false;
      if (!room_for(lazy_.add(text_of(statement, sql)), reply)) return true;
      settings_.set_local(statement.setting->name,
                          statement.setting->to_default ? std::string() : std::string(text_of(statement, sql)));
      if (is_characteristic(statement.setting->name)) lazy_.hand_on(text_of(statement, sql));
      reply = complete("SET") + tell_parameters(reported_since_begin());
      return true;
    default:
      return false;
  }
}

// Could a server refuse this statement of a transaction that has none? Without savepoints SET TRANSACTION is always
// right before the first query. (A snapshot belongs to one server: no other can say whether it is there.)
bool Session::may_be_mistaken(const router::PlannedText& text) const {
  if (!lazy_.open() || engaged() || !text.single() || !text.statements.front().statement) return false;
  const Statement& statement = *text.statements.front().statement;
  if (statement.kind == StatementKind::set_transaction) return !is_for_session(statement) && lazy_.savepoints() > 0;
  return statement.kind == StatementKind::set && statement.setting && statement.setting->local &&
         !pool::is_ours(statement.setting->name);
}

// Any server will do. What it did is undone, and the transaction has no shard yet. Ready: it went well.
Session::Got Session::try_out(const router::PlannedText& text, std::string_view sql) {
  if (!may_be_mistaken(text)) return Got::ready;
  const bool tried = std::exchange(trying_, false);
  if (!tried) {
    const Got got = engage({});
    if (got != Got::ready) return got;
    const std::string trial = fmt::format("{};{}", lazy_.opening(), text_of(*text.statements.front().statement, sql));
    if (!postgres::append_query(backend_->out(), trial)) {
      fatal({sqlstate::program_limit_exceeded, "the transaction's opening statements are too long", {}, {}, 0});
      return Got::refused;
    }
    expect(pool::ReplyKind::query, 0, pool::Delivery::ignore);
    tried_ = false;
    reported_.clear();
  }
  // A cancel request may hit the ROLLBACK as well: then it is sent again.
  if (!tried || (backend_ != nullptr && backend_->transaction_status() != TransactionStatus::idle)) {
    if (postgres::append_query(backend_->out(), "ROLLBACK")) expect(pool::ReplyKind::query, 0, pool::Delivery::ignore);
    unnamed_on_backend_ = false;
    trying_ = true;
    wait_ = Wait::drain;
    return Got::wait;
  }
  if (!wait_error_) return Got::ready;
  refuse(*std::exchange(wait_error_, std::nullopt));
  return Got::refused;
}

void Session::lazy_begin(const Statement& statement, std::string_view sql, std::string& reply) {
  if (options_.mode == config::PoolMode::statement) {
    reply = error_message(
        {sqlstate::feature_not_supported, "transaction blocks are not allowed in statement pooling mode", {}, {}, 0});
    return;
  }
  if (lazy_.open()) {
    reply = error_message({SqlState("25001"), "there is already a transaction in progress", {}, {}, 0},
                          postgres::Severity::warning) +
            complete("BEGIN");
    return;
  }
  lazy_.begin(text_of(statement, sql), parameters_);
  settings_.begin();
  reply = complete(statement.command == "START TRANSACTION" ? "START TRANSACTION" : "BEGIN");
}

void Session::lazy_end(const Statement& statement, std::string& reply) {
  const bool commit = statement.kind == StatementKind::commit && lazy_.open();
  reply = complete(commit ? "COMMIT" : "ROLLBACK");
  reply += end_lazy(commit, statement.transaction && statement.transaction->chain);
}

// What the client is told of its parameters.
std::string Session::end_lazy(bool commit, bool chain) {
  if (commit)
    settings_.commit();
  else
    settings_.rollback();
  settings_changed();
  std::string told;
  if (lazy_.parameters_at_begin()) told = tell_parameters(*lazy_.parameters_at_begin());
  lazy_.end(chain);
  if (chain)
    settings_.begin();
  else
    channels_settled();
  return told;
}

// False: there is not, and the transaction has failed with `reply`.
bool Session::room_for(const Result<void>& added, std::string& reply) {
  if (added) return true;
  reply = error_message(added.error());
  fail_lazy();
  return false;
}

bool Session::lazy_savepoint(const Statement& statement, std::string_view sql, std::string& reply) {
  const std::string& name = statement.transaction ? statement.transaction->name : std::string();
  const std::string_view text = text_of(statement, sql);
  if (statement.kind == StatementKind::savepoint) {
    if (!room_for(lazy_.savepoint(name, text, parameters_), reply)) return true;
    settings_.savepoint(name);
    reply = complete("SAVEPOINT");
  } else if (!lazy_.has_savepoint(name)) {
    if (lazy_.failed() && !lazy_.knows_its_beginning()) return false;  // it may have been there
    reply = error_message({SqlState("3B001"), fmt::format("savepoint \"{}\" does not exist", name), {}, {}, 0});
    if (!lazy_.failed()) fail_lazy();
  } else if (statement.kind == StatementKind::release_savepoint) {
    if (!room_for(lazy_.release(name, text), reply)) return true;
    settings_.release(name);
    keep_portals_of_released();
    reply = complete("RELEASE");
  } else {
    reply = complete("ROLLBACK") + tell_parameters(lazy_.rollback_to(name));
    end_portals_behind_savepoint();
    settings_.rollback_to(name);
  }
  return true;
}

// As a server, it forgets at once what was set since the last savepoint.
void Session::fail_lazy() {
  lazy_.fail();
  if (const pool::SettingsMap* before = lazy_.parameters_before_failure())
    host_.stream().append(tell_parameters(*before));
}

pool::SettingsMap Session::reported_since_begin() const {
  pool::SettingsMap now = lazy_.parameters_at_begin().value_or(parameters_);
  for (const auto& [name, value] : reported_) now.set(name, value);
  return now;
}

// ParameterStatus where the client knows another value. SET LOCAL is told at once, wherever the transaction will run,
// and taken back if it ends without having run anywhere.
std::string Session::tell_parameters(const pool::SettingsMap& now) {
  std::string messages;
  for (const auto& [name, known, value] : pool::SettingsMap::differences(parameters_, now)) {
    const auto greeted = greeting_->parameters.find(name);
    if (value == nullptr && greeted == greeting_->parameters.end()) continue;
    const std::string& told = value != nullptr ? *value : greeted->second;
    if (parameter(name) == told) continue;
    if (std::string message; postgres::append_parameter_status(message, name, told)) messages += message;
  }
  parameters_ = now;
  view_stale_ = true;
  encodings_.reset();
  return messages;
}

// A connection for a statement, and it takes part in the transaction that has been open in name only. The answer to
// BEGIN is waited for: should it fail (a cancel request may hit it), the statement would run outside of any
// transaction.
Session::Got Session::engage_for_statement(std::optional<ShardId> shard) {
  const Got got = engage(shard);
  const bool joins = got == Got::ready && spans() && backend_->replies().empty() &&
                     backend_->transaction_status() == TransactionStatus::idle;
  if (got != Got::ready || (!lazy_.open() && !joins)) return got;
  if (aside_ == Aside::open) {
    join_aside();
    return Got::ready;
  }
  if (!postgres::append_query(backend_->out(), lazy_.opening())) {
    fatal({sqlstate::program_limit_exceeded, "the transaction's opening statements are too long", {}, {}, 0});
    return Got::refused;
  }
  expect(pool::ReplyKind::query, 0, pool::Delivery::ignore);
  unnamed_on_backend_ = false;
  lazy_.join();
  in_transaction_ = joining_ = true;
  reported_.clear();
  wait_ = Wait::drain;
  return Got::wait;
}

// ---- beside the transaction -----------------------------------------------------------------------------------------
// A unit that only prepares and describes says nothing about the shard: any connection will do, and the transaction
// goes on without it. But what the transaction has set decides what its statements mean. So the connection has it for
// as long as the unit lasts, in a transaction that is rolled back behind the unit's Sync. If the unit then turns out to
// run something, on this very shard, that transaction is the client's.

// Before a side unit's first message.
Session::Got Session::open_aside() {
  const bool wanted = lazy_.open() && settings_.ends_with_transaction();
  if (!wanted || unit_open_ || aside_ != Aside::none) return Got::ready;
  if (!postgres::append_query(backend_->out(), lazy_.opening())) {
    fatal({sqlstate::program_limit_exceeded, "the transaction's opening statements are too long", {}, {}, 0});
    return Got::refused;
  }
  expect(pool::ReplyKind::query, 0, pool::Delivery::ignore);
  unnamed_on_backend_ = false;
  aside_ = Aside::opening;
  reported_.clear();
  wait_ = Wait::drain;
  return Got::wait;
}

// Behind the unit's Sync. Statements that it has prepared stay.
void Session::close_aside() {
  if (aside_ != Aside::open) return;
  if (postgres::append_query(backend_->out(), "ROLLBACK")) expect(pool::ReplyKind::query, 0, pool::Delivery::ignore);
  unnamed_on_backend_ = false;
  aside_ = Aside::closing;
}

// The answer to what has opened it, or closed it; for on_ready. If it could not be opened, the message that waits for
// it is refused when all is undone. A cancel request may hit the ROLLBACK: then it is sent again.
bool Session::aside_answered(TransactionStatus status) {
  const bool opened = aside_ == Aside::opening && !wait_error_;
  aside_ = status == TransactionStatus::idle ? Aside::none : Aside::open;
  if (opened) return false;
  close_aside();
  if (aside_ != Aside::none)
    backend_->flush_soon();
  else if (wait_ == Wait::none)
    request_ended();
  return false;
}

// The unit at hand runs a statement on the shard where it was only to be described.
void Session::join_aside() {
  aside_ = Aside::none;
  lazy_.join();
  in_transaction_ = true;
  local_reply(tell_parameters(reported_since_begin()));
}

// The statement that waits for it gets its error.
void Session::joining_failed(const Error& error) {
  joining_ = false;
  wait_error_ = error;
  if (!spans()) lazy_.reopen();  // until the refusal
}

}  // namespace tessera::proxy
