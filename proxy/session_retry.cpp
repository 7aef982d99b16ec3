// Plans that DDL has made stale. Statements on the servers are shared by all who prepare the same text, so a client may
// meet one whose columns have changed since ("cached plan must not change result type"), which a server of its own
// would never tell it. The statement is prepared anew and the client's messages are handled again, unseen, when nothing
// of the unit has been executed. A client in a transaction is told, as by the server.
#include <algorithm>

#include "proxy/session.hpp"

namespace tessera::proxy {

using pool::Delivery;
using pool::ReplyKind;
namespace frontend = postgres::frontend;

namespace {

constexpr std::size_t longest_unit = 16 * 1024;

// Is an earlier unit still unanswered? Then an error may be its own.
bool has_open_unit(const std::deque<pool::ExpectedReply>& queue) {
  return std::ranges::any_of(queue, [](const pool::ExpectedReply& expected) {
    return expected.kind == ReplyKind::sync || expected.kind == ReplyKind::maybe_sync ||
           expected.kind == ReplyKind::query || expected.kind == ReplyKind::function_call;
  });
}

bool is_stale_plan(const postgres::ErrorFields& fields) {
  return fields.find_or(postgres::error_field::code, "") == sqlstate::feature_not_supported.view() &&
         fields.find_or(postgres::error_field::routine, "") == "RevalidateCachedQuery";
}

}  // namespace

// `raw`, a Bind or Describe of a shared statement, is about to be sent as the first of its unit that could fail so.
void Session::arm_retry(const PreparedStatement& statement, std::string_view raw) {
  if (retry_.state == RetryBuffer::State::armed && !retry_.complete) return;
  if (retry_.used || in_transaction_ || !unit_prepares_only_ || raw.size() > longest_unit ||
      has_open_unit(backend_->replies().queue()))
    return disarm_retry();
  retry_.state = RetryBuffer::State::armed;
  retry_.complete = false;
  retry_.first = true;
  retry_.server_name = statement.text->server_name;
  retry_.bytes.assign(raw);
}

void Session::disarm_retry() {
  if (retry_.state == RetryBuffer::State::armed) retry_.state = RetryBuffer::State::off;
}

// What follows in the unit would have to be handled again, too.
void Session::note_for_retry(char type, std::string_view whole) {
  if (retry_.state != RetryBuffer::State::armed || std::exchange(retry_.first, false)) return;
  if (retry_.complete || type == frontend::query || retry_.bytes.size() + whole.size() > longest_unit)
    return disarm_retry();
  retry_.bytes.append(whole);
  retry_.complete = type == frontend::sync;
}

// True: the error stays between us and the server.
bool Session::begin_retry(const pool::ExpectedReply& expected, const postgres::ErrorFields& fields) {
  if (expected.kind != ReplyKind::bind && expected.kind != ReplyKind::describe_statement) return false;
  if (!is_stale_plan(fields)) return false;
  const bool armed = retry_.state == RetryBuffer::State::armed && !in_transaction_;
  if (!armed) {
    // Whichever statement it was: the next attempt shall not meet it again.
    backend_->prepared().clear();
    backend_->prepared().doubt();
    return false;
  }
  backend_->prepared().erase_stale(retry_.server_name);
  retry_.state = RetryBuffer::State::pending;
  retry_.used = true;
  std::deque<pool::ExpectedReply>& queue = backend_->replies().queue();
  if (queue.empty()) {
    postgres::append_sync(backend_->out());
    expect(ReplyKind::sync, 0, Delivery::ignore);
    close_aside();
    backend_->flush();
  } else {
    queue.front().delivery = Delivery::ignore;  // the client's own Sync
  }
  unit_open_ = false;
  unit_prepares_only_ = true;
  input_.insert(0, retry_.bytes);
  if (wait_ == Wait::none) wait_ = Wait::drain;
  return true;
}

}  // namespace tessera::proxy
