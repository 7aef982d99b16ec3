// What the server answers: bytes for the client, and what they mean for the session.
#include <fmt/format.h>

#include "parser/normalize.hpp"
#include "proxy/log.hpp"
#include "proxy/session.hpp"

namespace tessera::proxy {

using pool::Backend;
using pool::Delivery;
using pool::ExpectedReply;
using pool::ReplyKind;
using postgres::TransactionStatus;
namespace backend_message = postgres::backend;

void Session::on_relay(std::string_view bytes) {
  host_.stream().append_large(bytes);
}

namespace {

// "SELECT 5", "INSERT 0 5"; none for "BEGIN".
std::uint64_t rows_of(std::string_view tag) {
  while (!tag.empty() && tag.back() == '\0') tag.remove_suffix(1);
  std::uint64_t rows = 0, unit = 1;
  for (; !tag.empty() && tag.back() >= '0' && tag.back() <= '9' && unit < 1'000'000'000'000'000'000; unit *= 10) {
    rows += static_cast<std::uint64_t>(tag.back() - '0') * unit;
    tag.remove_suffix(1);
  }
  return rows;
}

}  // namespace

// From the first message of its unit; the clock is the event loop's.
void Session::note_time(router::StatementCounters& counters) {
  if (request_started_ == TimePoint{}) return;
  const Duration took = options_.database->loop().now() - request_started_;
  counters.took(static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(took).count()));
}

void Session::on_done(const ExpectedReply& expected, char type, std::string_view body) {
  if (expected.kind == ReplyKind::bind || expected.kind == ReplyKind::describe_statement) disarm_retry();
  if (expected.note != nullptr) {
    router::StatementCounters& counters = *static_cast<router::StatementCounters*>(expected.note);
    if (type == backend_message::command_complete) counters.rows += rows_of(body);
    if (expected.kind == ReplyKind::execute && type != backend_message::portal_suspended) note_time(counters);
  }
  if (expected.tag == 0) return;
  if (expected.tag == unnamed_defined_) unnamed_is_certain_ = true;
  Undo* const found = undo_log_.find(expected.tag);
  if (found == nullptr) return;
  Undo& entry = *found;
  // Whose rows are still coming has done what it does to settings.
  const bool complete = type != backend_message::portal_suspended || !entry.changes.empty();
  if (type == backend_message::command_complete && rows_of(body) == 0) entry.changes.clear();  // no call was made
  if (entry.effects && complete && type != 0 && entry.next_effect < entry.effects->statements.size())
    apply_effect(entry.effects->statements[entry.next_effect++], entry);
  if (expected.kind == ReplyKind::query) return;  // until ReadyForQuery
  undo_log_.forget(expected.tag);
}

// What `tag` stood for did not happen: it failed, or was never looked at because something before it had.
void Session::undo(std::uint32_t tag, bool skipped) {
  if (tag == unnamed_sent_) unnamed_on_backend_ = false;
  undo_log_.unnamed_failed(tag);
  if (UndoLog::is_unnamed(tag)) {
    // Later ones may have been parsed since; they stand or fall by themselves.
    if (tag == unnamed_defined_) {
      Undo* const later = undo_log_.first_redefinition("");
      (later != nullptr ? *later->previous : unnamed_).valid = false;
    }
    return;
  }
  Undo* const found = undo_log_.find(tag);
  if (found == nullptr) return;
  Undo& entry = *found;
  if (entry.named) undo_log_.drop_redefinitions_behind(tag, entry.name);
  if (entry.named && entry.name.empty()) {
    // A Parse that fails has dropped the one before it.
    unnamed_ = std::move(*entry.previous);
    unnamed_.valid = unnamed_.valid && skipped;
    unnamed_on_backend_ = entry.was_on_backend && skipped;
    unnamed_sent_ = entry.sent_before;
  } else if (entry.named) {
    if (entry.previous)
      prepared_.put(entry.name, std::move(*entry.previous));
    else
      prepared_.erase(entry.name);
  }
  if (!entry.sql_prepared.empty()) sql_prepared_.erase(entry.sql_prepared);
  if (!entry.server_name.empty() && backend_ != nullptr && !undo_log_.prepares(entry.server_name, tag))
    backend_->prepared().erase(entry.server_name);
  undo_log_.forget(tag);
}

void Session::undo_failed(const ExpectedReply& expected) {
  const Undo* const entry = undo_log_.find(expected.tag);
  const bool failed_prepare = entry != nullptr && !entry->sql_prepared.empty();
  // What else a simple query did is counted by statements, until its ReadyForQuery.
  if (expected.tag != 0 && (expected.kind != ReplyKind::query || failed_prepare)) undo(expected.tag, false);
}

namespace {
// Is this the answer to a BEGIN of ours? (While one is on its way, or a statement is tried out.)
bool is_joining(const ExpectedReply& expected) {
  return expected.kind == ReplyKind::query && expected.delivery == Delivery::ignore;
}
}  // namespace

bool Session::on_error(const ExpectedReply& expected, const postgres::ErrorFields& fields) {
  if (begin_retry(expected, fields)) return false;
  disarm_retry();
  if (aside_ == Aside::closing && is_joining(expected) && !fields.is_fatal()) {
    timed_out_at_ = {};  // it is sent again
    return false;
  }
  if ((joining_ || trying_ || aside_ == Aside::opening) && is_joining(expected) && !fields.is_fatal()) {
    joining_failed(std::exchange(timed_out_at_, TimePoint{}) == TimePoint{} ? fields.to_error() : timeout_error());
    return false;
  }
  sql_prepared_failed(expected.tag);
  if (timed_out_at_ != TimePoint{} && fields.find_or(postgres::error_field::code, "") == "57014")
    return on_timed_out(expected);
  error_in_unit_ = true;
  std::optional<Renamed> renamed;
  if (const Undo* const entry = undo_log_.find(expected.tag)) {
    if (entry->told) return false;
    renamed = entry->renamed;
  } else if (expected.kind == ReplyKind::parse && expected.tag == unnamed_defined_ && unnamed_.given) {
    renamed = Renamed{{}, {}, unnamed_.given->moves};
  }
  copy_failed();
  if (expected.note != nullptr) {
    router::StatementCounters& counters = *static_cast<router::StatementCounters*>(expected.note);
    ++counters.errors;
    if (expected.kind != ReplyKind::query) note_time(counters);
  }
  if (fields.is_fatal()) return breaks_copy_;  // else the connection's end is reported by on_backend_lost
  if (script_) script_->failed = true;
  options_.database->metrics().count_error(fields.find_or(postgres::error_field::code, "XX000"));
  if (lazy_.open()) fail_lazy();  // a Parse on the side of a transaction that nobody has joined yet
  undo_failed(expected);
  if (expected.poison) {
    host_.stream().append(expected.local);
    return false;
  }
  const bool named = expected.kind == ReplyKind::bind || expected.kind == ReplyKind::describe_statement;
  if (named && !expected.local.empty()) return !relay_in_clients_words(fields, expected.local);
  return !renamed || !relay_renamed(fields, *renamed);
}

// The server thinks that a user has cancelled the statement; it was limits.statement_timeout.
bool Session::on_timed_out(const ExpectedReply& expected) {
  timed_out_at_ = {};
  error_in_unit_ = true;
  if (script_) script_->failed = true;
  options_.database->metrics().count_error(sqlstate::query_canceled.view());
  undo_failed(expected);
  postgres::append_error(host_.stream().out(), timeout_error());
  return false;
}

// The server's error with its name for a statement replaced by the client's. False: it does not name one.
bool Session::relay_in_clients_words(const postgres::ErrorFields& fields, const std::string& statement) {
  constexpr std::size_t name_length = pool::prepared_prefix.size() + 32;
  const std::string_view message = fields.find_or(postgres::error_field::message, "");
  const std::size_t at = message.find(pool::prepared_prefix);
  if (at == std::string_view::npos || at + name_length > message.size()) return false;
  const std::string replaced =
      fmt::format("{}{}{}", message.substr(0, at), statement, message.substr(at + name_length));
  std::vector<postgres::ErrorField> rewritten;
  for (postgres::ErrorFields rest = fields; const std::optional<postgres::ErrorField> field = rest.next();)
    rewritten.push_back(field->code == postgres::error_field::message ? postgres::ErrorField{field->code, replaced}
                                                                      : *field);
  return postgres::append_error_fields(host_.stream().out(), postgres::backend::error_response, rewritten);
}

void Session::on_skipped(const ExpectedReply& expected) {
  const bool prepares = expected.kind == ReplyKind::parse && !UndoLog::is_unnamed(expected.tag);
  if ((prepares || expected.kind == ReplyKind::close) && backend_ != nullptr) backend_->prepared().doubt();
  if (expected.tag != 0) undo(expected.tag, true);
}

bool Session::on_ready(const ExpectedReply& expected, TransactionStatus status) {
  if (aside_ != Aside::none) {
    if (is_joining(expected)) return aside_answered(status);
    status = TransactionStatus::idle;  // it is not the session's transaction
  }
  if (expected.delivery == Delivery::ignore) {
    if (expected.tag != 0) undo_log_.forget(expected.tag);
    if (trying_) {  // nothing of it is the session's
      tried_ = true;
      return false;
    }
    in_transaction_ = status != TransactionStatus::idle || spans();
    if (joining_ && is_joining(expected)) {
      joining_ = false;
      if (spans() && status == TransactionStatus::idle && !wait_error_)
        wait_error_ = Error{sqlstate::protocol_violation, "the server did not begin a transaction", {}, {}, 0};
      if (spans()) backend_->note_settings(settings_.current());
    }
    // What stands behind BEGIN has failed, and the transaction is the server's.
    if (in_transaction_ && lazy_.open()) {
      lazy_.join();
      host_.stream().append(tell_parameters(reported_since_begin()));
    }
    if (swallowed_ == Swallowed::asked) {
      note_swallowed(status);
      return false;
    }
    // The end of a side unit, which the client knows nothing of: to it an error in there lasts until its own Sync.
    if (expected.kind == ReplyKind::sync && error_in_unit_) skip_local_ = true;
    return false;
  }
  if (expected.tag != 0) undo_log_.forget(expected.tag);
  if (std::exchange(giving_.sets_sequences, false)) options_.database->ids().forget();
  // A simple query ends the unit that it came in the middle of.
  const bool ends_unit = expected.kind != ReplyKind::sync && expected.kind != ReplyKind::maybe_sync;
  if (ends_unit && unit_open_ && (backend_ == nullptr || backend_->replies().empty())) {
    unit_open_ = false;
    unit_prepares_only_ = true;
  }
  in_transaction_ = status != TransactionStatus::idle;
  if (!in_transaction_) {
    if (lazy_.none()) {
      const pool::Settings before = settings_.current();
      if (error_in_unit_)
        settings_.rollback();
      else
        settings_.commit();
      if (settings_.current() != before) settings_changed();
      channels_settled();
    }
    if (spans()) {
      fatal({sqlstate::internal_error, "a transaction over several shards has ended on one of them", {}, {}, 0});
      return true;
    }
    if (lazy_.none()) lazy_.forget();
    // What else is under way may write as well.
    if (backend_ == nullptr || backend_->replies().empty()) {
      may_have_written_ = false;
      let_tables_go();
      if (lazy_.none()) end_portals();
    }
    refresh_catalog();
  }
  last_activity_ = options_.database->loop().now();
  transaction_failed_ = status == TransactionStatus::failed;
  error_in_unit_ = unit_has_effects_ = false;
  retry_.used = false;
  if (expected.note != nullptr && expected.kind == ReplyKind::query)
    note_time(*static_cast<router::StatementCounters*>(expected.note));
  note_latency();
  if (autocommit_ && in_transaction_ && expected.kind == ReplyKind::query) {
    // It was refused when its transaction had begun.
    wait_ = Wait::scatter;
    options_.database->loop().defer([this, alive = alive_] {
      if (*alive && !ending_) end_autocommit(false, {}, {}, true);
    });
    return false;
  }
  if (lazy_.none()) return script_ == nullptr;
  std::string ready;
  append_ready(ready, local_status());
  host_.stream().append(ready);
  return false;
}

void Session::note_latency() {
  if (request_started_ == TimePoint{} || backend_ == nullptr) return;
  DatabaseMetrics& metrics = options_.database->metrics();
  const std::size_t shard = backend_->endpoint().shard.value();
  const Duration took = options_.database->loop().now() - request_started_;
  if (shard < metrics.shards.size()) metrics.shards[shard].latency.observe(took);
  request_started_ = options_.database->loop().now();  // of the next one, if there is any
  request_ended();
  slow_log(took);
}

// Kept only while somebody wants to know of slow statements.
void Session::note_text(std::string_view sql) {
  const config::Log& settings = options_.database->runtime().config->log;
  if (!settings.slow_statement) return;
  constexpr std::size_t longest = 2048;
  last_text_ = settings.statement_text ? std::string(sql.substr(0, longest))
                                       : parser::normalize(sql.substr(0, longest), view_.lexer);
}

void Session::slow_log(Duration took) {
  const config::Log& settings = options_.database->runtime().config->log;
  if (!settings.slow_statement || took < *settings.slow_statement) return;
  log::statement("slow statement",
                 {{"ms", fmt::format("{:.1f}", std::chrono::duration<double, std::milli>(took).count())},
                  {"database", options_.database->name()},
                  {"user", options_.user},
                  {"client", options_.client},
                  {"shard", backend_ != nullptr ? std::string_view(backend_->endpoint().name) : "several"},
                  {"statement", last_text_}});
}

void Session::on_copy(const ExpectedReply&, char) {}

bool Session::on_parameter(std::string_view name, std::string_view value, bool forwarding) {
  if (joining_ || (trying_ && !tried_) || aside_ == Aside::opening) reported_.set(name, value);
  if (trying_ || aside_ != Aside::none) return false;  // it will be undone
  // One that joins the others, or is made ready for that: the client knows what the transaction has set.
  if (spans() && (joining_ || wait_ == Wait::prepare)) return false;
  // The client is told when its view changes, and only then: what settings do while they are restored is no news to it.
  const bool had = parameters_.contains(name) || (greeting_ && greeting_->parameters.contains(name));
  if (had && parameter(name) == value && !forwarding) return false;
  parameters_.set(name, value);
  if (name == "standard_conforming_strings") view_stale_ = true;
  encodings_.reset();
  if (forwarding) return true;
  std::string message;
  if (postgres::append_parameter_status(message, name, value)) host_.stream().append(message);
  return false;
}

bool Session::on_notice(const postgres::ErrorFields&, bool forwarding) {
  return forwarding;
}

// LISTEN belongs to the proxy; a notification on a client's connection can only come from what a function did. It is
// not lost: the hub's own connection hears it too if anybody listens.
bool Session::on_notification(const postgres::NotificationView&) {
  return false;
}

void Session::on_backend_turn(Backend& backend) {
  // A connection that has only just come, or has just been made ready, is for the message that waits for it.
  const bool retrying = retry_.state == RetryBuffer::State::pending;
  const bool awaited = wait_ == Wait::checkout || wait_ == Wait::prepare || wait_ == Wait::cancel || retrying;
  if (&backend == backend_ && !awaited) release_if_free();
  const bool effects_there = wait_ == Wait::effects && !undo_log_.delays_planning();
  const bool drained =
      wait_ == Wait::drain && (backend_ == nullptr || (backend_->replies().empty() && backend_->pending() == 0));
  const bool copy_begun = wait_ == Wait::copy && !copy_undecided();
  if (effects_there || drained || copy_begun) stop_waiting();
  if (retrying && wait_ == Wait::none) retry_.state = RetryBuffer::State::off;
  if (wait_ == Wait::none && (script_ || !input_.empty())) {
    run();
    release_if_free();
    if (!blocked() && !ending_) host_.resume_reading();
  } else if (effects_there || drained || copy_begun) {
    host_.resume_reading();
  }
  deliver_notifications();
  if (!ending_ || host_.stream().is_open()) flush_client();
}

void Session::flush_client() {
  if (wait_ == Wait::none && !ending_)
    host_.stream().flush_soon();
  else
    host_.stream().flush();
}

// ---- losing a connection --------------------------------------------------------------------------------------------

void Session::on_backend_lost(Backend& backend, const Error& reason) {
  if (std::erase(others_, &backend) > 0) return on_other_lost(reason);
  if (&backend == backend_ && scatter_ && in_transaction_) {
    backend_ = nullptr;
    return on_other_lost(reason);
  }
  if (&backend != backend_) {
    std::erase(parked_, &backend);
    return fatal({sqlstate::connection_failure,
                  "the server connection that held this session's state was lost",
                  reason.message,
                  {},
                  0});
  }
  backend_ = nullptr;
  const bool cut = backend.replies().inside_message() || breaks_copy_;
  if (cut || must_keep()) {
    // Half a message is with the client or the server has said all, or state that cannot be rebuilt is gone.
    if (cut) {
      ending_ = true;
      return host_.end_session();
    }
    return fatal({may_have_written_ ? sqlstate::transaction_resolution_unknown : sqlstate::connection_failure,
                  reason.message,
                  "this session's state was on that connection",
                  {},
                  0});
  }
  lost_mid_statement(backend, reason);
  if (wait_ != Wait::none && wait_ != Wait::scatter) continue_after_wait();
  host_.stream().flush();
}

namespace {
// COMMIT ends a transaction even where nobody knows how.
bool stays_in_transaction(parser::StatementKind kind, bool now) {
  using parser::StatementKind;
  if (kind == StatementKind::begin) return true;
  const bool ends =
      kind == StatementKind::commit || kind == StatementKind::rollback || kind == StatementKind::prepare_transaction;
  return now && !ends;
}
}  // namespace

// A transaction whose COMMIT has not been sent is undone with its connection.
bool Session::is_undone_by_loss(Backend& backend) {
  if (!in_transaction_ || joining_ || committing_) return false;
  return std::ranges::none_of(backend.replies().queue(), [this](const ExpectedReply& expected) {
    const Undo* const entry = undo_log_.find(expected.tag);
    return entry != nullptr && entry->effects &&
           std::ranges::any_of(entry->effects->statements, [](const router::PlannedStatement& planned) {
             return !stays_in_transaction(planned.plan.kind, true) || planned.plan.effects.opaque_code;
           });
  });
}

// Every request that was under way gets an answer: failed, or, where data may have been written, unknown.
void Session::lost_mid_statement(Backend& backend, const Error& reason) {
  Error error = reason;
  if (may_have_written_ && !is_undone_by_loss(backend)) {
    error.code = sqlstate::transaction_resolution_unknown;
    error.detail = "the statement may or may not have taken effect";
    error.hint = "look at the data before repeating it";
  }
  std::string message;
  bool told = false;      // the unit at hand, of its failure
  bool told_any = false;  // the client, of any
  bool in_transaction = in_transaction_;
  const std::deque<ExpectedReply>& queue = backend.replies().queue();
  for (const ExpectedReply& expected : queue) {
    if (const Undo* const entry = undo_log_.find(expected.tag); entry != nullptr && entry->effects)
      for (const router::PlannedStatement& planned : entry->effects->statements)
        in_transaction = stays_in_transaction(planned.plan.kind, in_transaction);
    if (expected.delivery == Delivery::ignore) continue;
    if (!told || expected.kind == ReplyKind::query) {
      postgres::append_error(message, error);
      options_.database->metrics().count_error(error.code.view());
      told = told_any = true;
    }
    if (expected.kind != ReplyKind::query && expected.kind != ReplyKind::function_call &&
        expected.kind != ReplyKind::sync)
      continue;
    const bool open = in_transaction || !lazy_.none();
    append_ready(message, open ? TransactionStatus::failed : TransactionStatus::idle);
    told = false;
  }
  for (auto last = queue.rbegin(); last != queue.rend(); ++last)
    if (last->tag != 0) undo(last->tag, false);
  if (unit_open_) {
    if (!told) postgres::append_error(message, error);
    told_any = true;
    skip_local_ = true;
  }
  if (script_ && told_any) script_->failed = true;
  const bool joining = joining_ || trying_ || aside_ == Aside::opening;
  if (!joining && !in_transaction && lazy_.open() && told_any) fail_lazy();
  host_.stream().append(message);
  joining_ = trying_ = false;
  aside_ = Aside::none;
  unit_open_ = false;
  retry_ = {};
  swallowed_ = Swallowed::nothing;
  unnamed_on_backend_ = false;
  undo_log_.clear();
  end_all_portals();
  in_transaction_ = false;
  may_have_written_ = false;
  error_in_unit_ = false;
  request_ended();
  if (joining) {
    joining_failed(error);
    come_back();
  } else if (in_transaction) {
    drop_others();
    lazy_.lose(told_any ? std::nullopt : std::optional(error));
  } else if (lazy_.none()) {
    settings_.rollback();
    channels_settled();
  }
  view_stale_ = true;
}

}  // namespace tessera::proxy
