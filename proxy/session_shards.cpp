// A transaction over several shards. It begins on one, as any other (session_transaction.cpp); when a statement
// concerns another shard, a connection there joins: it is told what the transaction has been told so far. One
// connection is current at a time, and statements of one shard run on that as ever. The others wait; what concerns all
// of them (COMMIT, ROLLBACK, SAVEPOINT, SET …) runs on all. The transaction has failed when the current connection's
// has: after an error the connection that it came from is current.
//
// A statement that writes several shards outside of a transaction has one of its own, which ends with the statement, or
// with the unit of messages that it came in.
#include <algorithm>
#include <fmt/format.h>

#include "executor/commit.hpp"
#include "parser/character.hpp"
#include "proxy/session.hpp"
#include "router/rewrite.hpp"

namespace tessera::proxy {

using parser::Statement;
using parser::StatementKind;
using pool::Backend;
using postgres::TransactionStatus;

// ---- joining --------------------------------------------------------------------------------------------------------

// Can another shard join the transaction at hand?
bool Session::may_span() const {
  return in_transaction_ && lazy_.recorded() && options_.mode != config::PoolMode::statement &&
         options_.database->settings().cross_shard_transactions != config::CrossShardTransactions::single_shard;
}

// A unit of messages outside of a transaction is one all the same, and what it has sent so far is part of it if BEGIN
// follows: then other shards can join. It ends with the unit.
bool Session::may_begin_around_unit() const {
  return unit_open_ && !in_transaction_ && lazy_.none() && !unit_has_effects_ && pins_ == 0 &&
         options_.mode != config::PoolMode::statement &&
         options_.database->settings().cross_shard_transactions != config::CrossShardTransactions::single_shard;
}

Session::Got Session::begin_around_unit() {
  constexpr std::string_view name = "tessera begin";  // the client's unnamed statement and portal stay
  std::string& out = backend_->out();
  const bool built = postgres::append_parse(out, name, "BEGIN") && postgres::append_bind(out, name, name, {}) &&
                     postgres::append_execute(out, name) && postgres::append_close(out, 'P', name) &&
                     postgres::append_close(out, 'S', name);
  if (!built) return Got::refused;
  for (const pool::ReplyKind kind : {pool::ReplyKind::parse, pool::ReplyKind::bind, pool::ReplyKind::execute,
                                     pool::ReplyKind::close, pool::ReplyKind::close})
    expect(kind, 0, pool::Delivery::ignore);
  leave_side_unit();
  lazy_.begin("BEGIN", parameters_);
  lazy_.join();
  settings_.begin();
  autocommit_ = autocommit_until_sync_ = true;
  return Got::wait;
}

// Inside a transaction: makes a connection to another shard current.
Session::Got Session::change_shard(ShardId wanted) {
  if (may_begin_around_unit()) return begin_around_unit();
  if (!may_span()) return refuse_second_shard(wanted);
  if (unit_open_) {
    leave_side_unit();
    unit_prepares_only_ = true;
    return Got::wait;
  }
  others_.push_back(std::exchange(backend_, nullptr));
  const auto there =
      std::ranges::find(others_, wanted, [](const Backend* backend) { return backend->endpoint().shard; });
  if (there == others_.end()) return acquire(wanted);
  become_current(**there);
  others_.erase(there);
  return use(*backend_);
}

bool Session::has_joined(ShardId shard) const {
  return std::ranges::any_of(participants(), [shard](const Backend* backend) {
    return backend->endpoint().shard == shard && backend->transaction_status() != TransactionStatus::idle;
  });
}

// Nothing is under way on any connection of the transaction; what the unit of messages has sent is finished, unseen by
// the client.
Session::Got Session::rest() {
  if (unit_open_) {
    leave_side_unit();
    unit_prepares_only_ = true;
    return Got::wait;
  }
  if (const Got got = wait_for_replies(); got != Got::ready) return got;
  if (std::ranges::none_of(participants(), &Backend::cancel_in_flight)) return Got::ready;
  wait_ = Wait::cancel;
  return Got::wait;
}

// All of these shards take part in the transaction. The message at hand is handled again after each that has joined.
Session::Got Session::join_all(const std::vector<ShardId>& shards) {
  if (const Got got = rest(); got != Got::ready) return got;
  if (wait_error_) {
    unreached_ = false;
    come_back();
    refuse(*std::exchange(wait_error_, std::nullopt));
    return Got::refused;
  }
  if (in_failed_transaction()) {
    refuse(failed_transaction_error());
    return Got::refused;
  }
  for (const ShardId shard : shards) {
    if (has_joined(shard)) continue;
    if (const Got got = engage_for_statement(shard); got != Got::ready) return got;
  }
  return Got::ready;
}

// A connection that was to join the transaction has not: one of those that have is current again.
void Session::come_back() {
  if (!spans()) return;
  if (backend_ != nullptr && backend_->replies().empty() && backend_->transaction_status() == TransactionStatus::idle)
    let_go(*std::exchange(backend_, nullptr));
  if (backend_ == nullptr) {
    become_current(*others_.back());
    others_.pop_back();
  }
  in_transaction_ = true;
}

// In ascending order of shards.
std::vector<Backend*> Session::participants() const {
  std::vector<Backend*> all(others_);
  if (backend_ != nullptr && in_transaction_) all.push_back(backend_);
  std::ranges::sort(all, {}, [](const Backend* backend) { return backend->endpoint().shard; });
  return all;
}

std::vector<executor::Place> Session::lent_places() {
  std::vector<executor::Place> places;
  for (Backend* backend : participants()) places.push_back({.lent = backend, .lender = this});
  return places;
}

// ---- commands for all of them ---------------------------------------------------------------------------------------

namespace {
bool ends(StatementKind kind) {
  return kind == StatementKind::commit || kind == StatementKind::rollback;
}

bool is_command(const Statement& statement) {
  switch (statement.kind) {
    case StatementKind::commit:
    case StatementKind::rollback:
    case StatementKind::savepoint:
    case StatementKind::release_savepoint:
    case StatementKind::rollback_to_savepoint:
    case StatementKind::set_transaction:
      return true;
    case StatementKind::set:
    case StatementKind::reset:
      return statement.setting && !pool::is_ours(statement.setting->name);
    case StatementKind::close_cursor:  // ALL
      return statement.cursor && statement.cursor->name.empty();
    default:
      return statement.command == "SET CONSTRAINTS";
  }
}
}  // namespace

// Does it begin, end or govern a transaction?
bool Session::is_for_transaction(const Statement& statement) {
  switch (statement.kind) {
    case StatementKind::begin:
    case StatementKind::prepare_transaction:
      return true;
    case StatementKind::set:
      return statement.setting && statement.setting->local;
    case StatementKind::reset:
      return false;
    case StatementKind::set_transaction:
      return !is_for_session(statement);
    default:
      return is_command(statement);
  }
}

// Does each shard's part of the transaction see what was there when its first statement ran?
bool Session::keeps_snapshot() const {
  const auto says = [](std::string_view text) {
    std::string lower(text);
    std::ranges::transform(lower, lower.begin(), parser::to_lower);
    return lower.contains("repeatable") || lower.contains("serializable");
  };
  return says(lazy_.opening()) || says(settings_.effective("default_transaction_isolation"));
}

// Is this statement for all shards of the transaction? What can only fail may do so on the current one.
bool Session::is_for_all(const router::PlannedText& text) const {
  if (!spans() || !text.single() || !text.statements.front().statement) return false;
  const Statement& statement = *text.statements.front().statement;
  if (!is_command(statement)) return false;
  const bool failed = backend_ != nullptr && backend_->transaction_status() == TransactionStatus::failed;
  return !failed || ends(statement.kind) || statement.kind == StatementKind::rollback_to_savepoint;
}

// A text of which one part would have to run on all shards, and another not.
std::optional<Error> Session::mixed_refusal(const router::PlannedText& text) const {
  if (!spans()) return {};
  const bool failed = in_failed_transaction();  // then only what ends it does anything
  const auto refused = [](std::string_view what, std::string hint) {
    return Error{sqlstate::feature_not_supported,
                 fmt::format("{} inside a transaction over several shards is not supported", what),
                 {},
                 std::move(hint),
                 0};
  };
  for (const router::PlannedStatement& planned : text.statements) {
    if (failed && (text.single() || !planned.statement || !ends(planned.statement->kind))) continue;
    if (!planned.setting_calls.empty()) return refused("set_config()", "use SET or SET LOCAL");
    if (!text.single() && planned.statement && is_command(*planned.statement))
      return refused(fmt::format("{} together with other statements", planned.plan.command),
                     "send it in a message of its own");
  }
  return {};
}

// The one statement of `text` runs on all connections of the transaction. False: it must wait.
bool Session::run_for_all(const router::PlannedTextRef& text, const std::string& sql, bool simple) {
  if (rest() == Got::wait) return false;
  const Statement& statement = *text->statements.front().statement;
  if (!is_for_all(*text)) {
    refuse(failed_transaction_error());
    return true;
  }
  if (ends(statement.kind) && statement.transaction && statement.transaction->chain) {
    refuse({sqlstate::feature_not_supported,
            "AND CHAIN after a transaction over several shards is not supported",
            {},
            "send it without AND CHAIN, and then BEGIN",
            0});
    return true;
  }
  emit_local_deferred();
  note_text(sql);
  ++statements_;
  const auto done = [this, text, sql, simple](const Result<void>& result) {
    command_done(text->statements.front(), sql, result, simple);
  };
  transaction_failed_ = in_failed_transaction();
  if (statement.kind == StatementKind::commit && !transaction_failed_) {
    run_commit(done);
    return true;
  }
  run_everywhere(ends(statement.kind) ? "ROLLBACK" : std::string(router::text_of(sql, statement.span)),
                 executor::Everywhere::Order::at_once, done);
  return true;
}

void Session::run_commit(ExecutionDone done) {
  may_have_written_ = committing_ = true;
  run_execution(
      std::make_unique<executor::Commit>(lent_places(), options_.database->loop(), execution_events(std::move(done))));
}

// The client goes, and has said COMMIT: it is carried out.
void Session::hand_over_commit() {
  std::vector<Backend*> backends = participants();
  others_.clear();
  backend_ = nullptr;
  options_.database->adopt(std::move(scatter_), std::move(backends));
}

void Session::run_everywhere(std::string sql, executor::Everywhere::Order order, ExecutionDone done) {
  run_execution(std::make_unique<executor::Everywhere>(std::move(sql), lent_places(), order, pool::no_settings(),
                                                       options_.database->loop(), execution_events(std::move(done))));
}

void Session::command_done(const router::PlannedStatement& planned, const std::string& sql, const Result<void>& result,
                           bool simple) {
  std::string completion = take_execution();
  const StatementKind kind = planned.plan.kind;
  std::optional<Error> error;
  if (!result) error = execution_error(result.error());
  if (kind == StatementKind::rollback || (kind == StatementKind::commit && transaction_failed_)) {
    // Whatever has come in between, nothing of it is left.
    error.reset();
    if (completion.empty() && !postgres::append_command_complete(completion, "ROLLBACK")) completion.clear();
  }
  if (!error)
    apply_effect(planned, Undo{.sql = sql});
  else if (ends(kind))
    commit_failed();
  if (ends(kind)) transaction_over();
  conclude(std::move(error), std::move(completion), simple);
}

// ---- its end --------------------------------------------------------------------------------------------------------

// Back to the pool, unless something holds it.
void Session::let_go(Backend& backend) {
  const bool clean = backend.replies().empty() && backend.transaction_status() == TransactionStatus::idle;
  if (!clean)
    pool_of(backend).discard(backend, "its transaction was not ended");
  else if (must_keep())
    parked_.push_back(&backend);
  else
    release(backend);
}

// Some of its connections may have committed what it had SET: none of them is used again.
void Session::commit_failed() {
  settings_.rollback();
  for (Backend* backend : participants()) backend->mark_spoiled();
}

// It has ended on all of its connections, or ends with them.
void Session::transaction_over() {
  lost_participant_.reset();
  autocommit_ = committing_ = false;
  settings_changed();
  std::vector<Backend*> all = participants();
  others_.clear();
  backend_ = nullptr;
  in_transaction_ = transaction_failed_ = may_have_written_ = copies_first_ = false;
  let_tables_go();
  for (Backend* backend : all) let_go(*backend);
  lazy_.forget();
  end_portals();
  channels_settled();
  refresh_catalog();
}

void Session::drop_others() {
  for (Backend* backend : std::exchange(others_, {}))
    pool_of(*backend).discard(*backend, "its transaction was given up");
}

// A connection of the transaction is gone, and with it what it had done there: all of it is undone.
void Session::lose_transaction(const std::optional<Error>& untold) {
  if (backend_ != nullptr) others_.push_back(std::exchange(backend_, nullptr));
  drop_others();
  lost_participant_.reset();
  in_transaction_ = may_have_written_ = copies_first_ = false;
  let_tables_go();
  unnamed_on_backend_ = false;
  undo_log_.clear();
  end_all_portals();
  lazy_.lose(untold);
}

// Of a connection that waits.
void Session::on_other_lost(const Error& reason) {
  if (scatter_) {
    // Not one of those that it was lent; what it was lent must come back first.
    lost_participant_ = reason;
    scatter_->abort(reason);
  } else if (backend_ != nullptr) {
    // Who waits for the current one is told so, and that ends the transaction.
    backend_->close(reason);
  } else {
    if (waiting_in_ != nullptr) std::exchange(waiting_in_, nullptr)->forget(*this);
    lose_transaction(reason);
    continue_after_wait();
  }
}

// ---- statements that have a transaction of their own ----------------------------------------------------------------

void Session::begin_autocommit() {
  lazy_.begin("BEGIN", parameters_);
  settings_.begin();
  autocommit_ = true;
  autocommit_until_sync_ = handling_extended_;
}

// A simple query would end the unit that it comes in the middle of, and with it the transaction, together with its own.
bool Session::refuse_inside_autocommit() {
  if (!autocommit_ || !autocommit_until_sync_) return false;
  refuse({sqlstate::feature_not_supported,
          "a simple query cannot follow a statement that writes several shards without a Sync between them",
          {},
          "send Sync before it",
          0});
  return true;
}

// Behind such a statement its servers are in a transaction block, and the client is not: what asks for one would think
// that it has one.
std::optional<Error> Session::implicit_refusal(const router::PlannedText& text) const {
  if (!autocommit_ || !autocommit_until_sync_) return {};
  for (const router::PlannedStatement& planned : text.statements) {
    const StatementKind kind = planned.plan.kind;
    const bool fits = (!planned.statement || !is_for_transaction(*planned.statement)) &&
                      kind != StatementKind::declare_cursor && kind != StatementKind::lock_table &&
                      !planned.plan.effects.outside_transaction;
    if (fits) continue;
    return Error{sqlstate::feature_not_supported,
                 fmt::format("{} cannot follow a statement over several shards without a Sync between them",
                             planned.plan.command),
                 {},
                 "send Sync before it",
                 0};
  }
  return {};
}

// It had not begun on any server.
void Session::cancel_autocommit() {
  autocommit_ = false;
  lazy_.end(false);
  settings_.rollback();
}

// The statement has ended well and has a completion, or it has not and has an error, unless that is told.
void Session::end_autocommit(bool commit, std::optional<Error> error, std::string completion, bool simple) {
  const auto done = [this, commit, simple, error = std::move(error),
                     completion = std::move(completion)](const Result<void>& result) mutable {
    take_execution();
    if (commit && !result) error = execution_error(result.error());
    if (commit && !result)
      commit_failed();
    else if (commit)
      settings_.commit();
    else
      settings_.rollback();
    transaction_over();
    if (simple) return conclude(std::move(error), std::move(completion), true);
    if (error) postgres::append_error(host_.stream().out(), *error);
    local_sync();
    conclude({}, {}, false);
  };
  if (commit)
    run_commit(done);
  else
    run_everywhere("ROLLBACK", executor::Everywhere::Order::at_once, done);
}

// The unit of messages ends in which there was such a statement. False: it must wait.
bool Session::sync_autocommit() {
  if (lazy_.failed()) {
    // Its connection was lost.
    if (!skip_local_ && lazy_.owes_error()) postgres::append_error(host_.stream().out(), failed_transaction_error());
    cancel_autocommit();
    local_sync();
    return true;
  }
  if (rest() == Got::wait) return false;
  emit_local_deferred();
  if (!in_transaction_ && !spans()) {
    // It was to begin around what had failed.
    cancel_autocommit();
    local_sync();
    return true;
  }
  end_autocommit(!skip_local_ && !in_failed_transaction(), {}, {}, false);
  return true;
}

}  // namespace tessera::proxy
