// COPY FROM STDIN. While a server copies it ignores Sync and Flush, so what such a message means depends on whether the
// COPY has begun, has ended, or has failed before the server read it. So the beginning is waited for; so is the end, if
// a Sync was sent into the COPY; and if it fails then, the server is asked whether it has seen that Sync.
#include "proxy/session.hpp"

namespace tessera::proxy {

using parser::StatementKind;
using pool::Delivery;
using pool::ReplyKind;
namespace frontend = postgres::frontend;

bool Session::may_copy(const router::PlannedText& text) {
  if (text.syntax_error) return true;  // perhaps the server understands it
  for (const router::PlannedStatement& planned : text.statements)
    if (planned.plan.kind == StatementKind::copy) return true;
  return false;
}

// Has a COPY FROM STDIN begun, and not seen its end?
bool Session::takes_copy_data() const {
  return copy_in_ != nullptr || copy_left_ > 0 || (backend_ != nullptr && backend_->replies().copying_in());
}

// Is a statement under way that may turn out to be a COPY FROM STDIN, or one that has perhaps swallowed a Sync?
bool Session::copy_undecided() const {
  if (backend_ == nullptr) return false;
  const pool::ReplyReader& replies = backend_->replies();
  if (replies.copying_in()) return false;
  return (copy_awaited_ && !replies.empty()) || replies.in_doubt() || swallowed_ == Swallowed::asked;
}

// Then nothing is handled before that is known.
bool Session::wait_for_copy() {
  if (swallowed_ == Swallowed::to_ask) ask_what_was_swallowed();
  if (!copy_undecided()) {
    copy_awaited_ = false;
    return false;
  }
  if (unit_open_ && swallowed_ == Swallowed::nothing) postgres::append_flush(backend_->out());
  wait_ = Wait::copy;
  return true;
}

// A server that is not (or no longer) copying ignores these, and so do we when nobody is there to do it.
bool Session::handle_copy(char type, std::string_view whole) {
  if (backend_ == nullptr || backend_->replies().empty()) return true;
  if (type != frontend::copy_data) backend_->replies().end_copy_in();
  backend_->append_large(whole);
  return true;
}

// PostgreSQL gives a connection up on which anything else comes in the middle of COPY data.
bool Session::breaks_copy(char type) const {
  if (backend_ == nullptr || !backend_->replies().copying_in()) return false;
  return type != frontend::copy_data && type != frontend::copy_done && type != frontend::copy_fail &&
         type != frontend::sync && type != frontend::flush;
}

// It says so in its own words, and nothing after that message counts.
bool Session::break_copy(std::string_view whole) {
  if (std::exchange(breaks_copy_, true)) return true;
  backend_->append_large(whole);
  expect(ReplyKind::sync);
  return true;
}

// A large CopyData goes on as it comes.
std::size_t Session::pass_copy_data(std::string_view bytes) {
  const std::string_view part = bytes.substr(0, copy_left_);
  if (!copy_dropped_ && backend_ != nullptr) {
    if (backend_->pending() > net::Stream::high_water) {
      wait_ = Wait::drain;
      return 0;
    }
    backend_->append_large(part);
  }
  copy_left_ -= part.size();
  return part.size();
}

// A COPY has failed that Syncs were sent into. In the middle of a message the question has to wait.
void Session::copy_failed() {
  if (backend_ == nullptr || !backend_->replies().in_doubt() || swallowed_ != Swallowed::nothing) return;
  swallowed_ = Swallowed::to_ask;
  if (copy_left_ == 0) ask_what_was_swallowed();
}

// How many ReadyForQuery come before the answer to a message of our own? One is for the Sync that goes before that
// message; the others, which the client gets when this is known, are for Syncs of its own that came after the failure.
void Session::ask_what_was_swallowed() {
  swallowed_ = Swallowed::asked;
  readies_ = 0;
  for (pool::ExpectedReply& expected : backend_->replies().queue())
    if (expected.kind == ReplyKind::maybe_sync) expected.delivery = Delivery::ignore;
  postgres::append_sync(backend_->out());
  expect(ReplyKind::sync, 0, Delivery::ignore);
  if (!postgres::append_close(backend_->out(), 'P', "tessera")) return;
  expect(ReplyKind::close, 0, Delivery::ignore);
  postgres::append_sync(backend_->out());
  expect(ReplyKind::sync, 0, Delivery::ignore);
  backend_->flush();
}

void Session::note_swallowed(postgres::TransactionStatus status) {
  ++readies_;
  if (backend_ == nullptr || !backend_->replies().empty()) return;
  swallowed_ = Swallowed::nothing;
  constexpr std::size_t ours = 2;
  for (; readies_ > ours; --readies_) {
    error_in_unit_ = unit_open_ = false;
    unit_prepares_only_ = true;
    postgres::append_ready_for_query(host_.stream().out(), status);
  }
  if (unit_open_) skip_local_ = true;  // the client's own Sync is still to come
}

}  // namespace tessera::proxy
