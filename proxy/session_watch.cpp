// What is looked at from outside: time limits, cancel requests, and what SHOW tells of a session.
#include <algorithm>
#include <fmt/format.h>

#include "proxy/session.hpp"

namespace tessera::proxy {

using pool::Backend;
using pool::ExpectedReply;
using pool::ReplyKind;
using postgres::TransactionStatus;

// The server is asked to stop the statement; one that does not even do that (it hangs) loses its connection.
void Session::check_statement_timeout(TimePoint now) {
  const config::Milliseconds limit = options_.database->settings().limits.statement_timeout;
  const bool busy = scatter_ || (backend_ != nullptr && !backend_->replies().empty());
  if (limit.count() == 0 || !busy || request_started_ == TimePoint{} || now - request_started_ < limit) {
    timed_out_at_ = {};
    return;
  }
  constexpr std::chrono::seconds patience{1};
  if (timed_out_at_ == TimePoint{}) {
    timed_out_at_ = now;
    return host_.cancel_statement();
  }
  if (now - timed_out_at_ < patience) return;
  Error error = timeout_error();
  error.detail = fmt::format("limits.statement_timeout is {} ms, and the server does not answer", limit.count());
  const std::vector<Backend*> stuck = scatter_ ? scatter_->active() : std::vector<Backend*>{backend_};
  timed_out_at_ = {};
  if (!stuck.empty()) stuck.front()->close(error);
}

// An answer is complete. If none is due any more, the next message begins a request with a clock of its own.
void Session::request_ended() {
  const auto is_due = [](const ExpectedReply& expected) { return expected.kind != ReplyKind::local; };
  if (backend_ != nullptr && std::ranges::any_of(backend_->replies().queue(), is_due)) return;
  request_started_ = {};
  timed_out_at_ = {};
}

Error Session::timeout_error() {
  return {sqlstate::query_canceled, "canceling statement due to statement timeout", {}, {}, 0};
}

void Session::sweep(TimePoint now) {
  if (ending_) return;
  check_statement_timeout(now);
  if (scatter_) scatter_->sweep(now);
  if (ending_ || check_farewell(now)) return;
  const config::Limits& limits = options_.database->settings().limits;
  const auto over = [&](config::Milliseconds limit, TimePoint since) {
    return limit.count() > 0 && now - since >= limit;
  };
  const bool idle = wait_ == Wait::none && !scatter_ && (backend_ == nullptr || backend_->replies().empty());
  const bool in_transaction =
      !lazy_.none() || (backend_ != nullptr && backend_->transaction_status() != TransactionStatus::idle);
  if (idle && in_transaction && over(limits.idle_in_transaction_timeout, last_activity_))
    return fatal({SqlState("25P03"), "terminating connection due to idle-in-transaction timeout", {}, {}, 0});
  if (idle && !in_transaction && over(limits.client_idle_timeout, last_activity_))
    return fatal({SqlState("57P05"), "terminating connection due to idle-session timeout", {}, {}, 0});
}

std::string_view Session::state_name() const {
  switch (wait_) {
    case Wait::checkout:
      return "waiting for a connection";
    case Wait::prepare:
      return "restoring settings";
    case Wait::drain:
    case Wait::listening:
    case Wait::cancel:
    case Wait::effects:
    case Wait::catalog:
    case Wait::ids:
    case Wait::copy:
      return "waiting for replies";
    case Wait::client:
      return "waiting for the client";
    case Wait::scatter:
      return "active";
    case Wait::opening:
      return "starting";
    case Wait::none:
      break;
  }
  if (scatter_ || (backend_ != nullptr && !backend_->replies().empty())) return "active";
  if (!lazy_.none() || (backend_ != nullptr && backend_->transaction_status() != TransactionStatus::idle))
    return "idle in transaction";
  return "idle";
}

std::string Session::pin_reasons() const {
  static constexpr std::pair<std::uint8_t, std::string_view> names[] = {{pin_temporary, "temporary objects"},
                                                                        {pin_advisory_lock, "advisory locks"},
                                                                        {pin_cursor, "cursors with hold"},
                                                                        {pin_settings, "set_config"},
                                                                        {pin_prepared, "PREPARE"},
                                                                        {pin_library, "LOAD"},
                                                                        {pin_code, "code"}};
  std::string text;
  const int pins = pins_ | (holds_cursor() ? pin_cursor : 0);
  for (const auto& [bit, name] : names)
    if ((pins & bit) != 0) text += fmt::format("{}{}", text.empty() ? "" : ", ", name);
  return text;
}

// ---- cancel requests ------------------------------------------------------------------------------------------------

std::vector<Backend*> Session::cancel_targets() {
  if (scatter_) return scatter_->active();
  if (backend_ != nullptr && !backend_->replies().empty()) return {backend_};
  return {};
}

void Session::on_cancel_delivered() {
  if (scatter_) scatter_->cancel_delivered();
  if (wait_ == Wait::cancel) continue_after_wait();
}

}  // namespace tessera::proxy
