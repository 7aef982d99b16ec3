// How a session ends. A client's last message is Terminate, and what it sent before that is carried out first, in
// order, whether or not the client is still there to be told: so it is with PostgreSQL, and `PQsendQuery(); PQfinish()`
// relies on it. The end of the stream without Terminate means the same for a moment; then what is left is given up, so
// that a client that vanished in the middle of something long does not hold its server connection.
#include <algorithm>

#include "proxy/listen_hub.hpp"
#include "proxy/session.hpp"

namespace tessera::proxy {

using pool::Backend;
using postgres::FrameHeader;
using postgres::FrameStatus;
using postgres::TransactionStatus;
namespace frontend = postgres::frontend;

namespace {
// For what came right before the end of the stream.
constexpr std::chrono::seconds vanished_patience{1};
}  // namespace

// ---- by us ----------------------------------------------------------------------------------------------------------

void Session::fatal(const Error& error) {
  options_.database->metrics().count_error(error.code.view());
  if (backend_ == nullptr || !backend_->replies().inside_message())
    postgres::append_error(host_.stream().out(), error, postgres::Severity::fatal);
  ending_ = true;
  host_.end_session();
}

void Session::terminate(const Error& error) {
  if (!ending_) fatal(error);
}

// ---- by the client --------------------------------------------------------------------------------------------------

// Terminate is at hand: its turn comes when everything before it is answered. What a COPY without its end has sent will
// not stay, however long the server takes over it.
bool Session::handle_terminate() {
  note_goodbye();
  const bool copies = breaks_copy_ || (backend_ != nullptr && backend_->replies().copying_in());
  if (!copies && wait_for_replies() == Got::wait) return false;
  end_now();
  return true;
}

void Session::end_now() {
  ending_ = true;
  host_.end_session();
}

// It takes no answers any more, or need not: none holds up what is left to do.
void Session::note_goodbye() {
  if (farewell_ != Farewell::none) return;
  farewell_ = Farewell::said;
  host_.stream().wait_no_more();
  if (backend_ != nullptr) backend_->resume_reading();
  if (scatter_) scatter_->resume();
  if (wait_ == Wait::client) continue_after_wait();
}

// In what could not be handled yet.
void Session::look_for_goodbye() {
  if (farewell_ == Farewell::none && last_words().goodbye) note_goodbye();
}

LastWords Session::last_words() const {
  LastWords words{std::min(copy_left_, input_.size()), false};
  while (words.end < input_.size() && !words.goodbye) {
    const std::string_view rest = std::string_view(input_).substr(words.end);
    FrameHeader header;
    const FrameStatus status = postgres::peek_frame(rest, longest_message(rest.front()), header);
    if (status == FrameStatus::malformed) return {input_.size(), false};  // the end, too, and it will be told
    if (status != FrameStatus::complete) break;
    words.end += header.total_size();
    words.goodbye = header.type == frontend::terminate;
  }
  return words;
}

void Session::on_client_end() {
  if (ending_ || farewell_ == Farewell::vanished) return;
  look_for_goodbye();
  if (farewell_ == Farewell::said) return;
  if (copy_left_ > input_.size()) return end_now();  // the rest of a message that is with the server will not come
  farewell_ = Farewell::vanished;
  given_up_at_ = options_.database->loop().now() + vanished_patience;
  input_.resize(last_words().end);
  postgres::append_terminate(input_);
  run();
}

// True: that was it.
bool Session::check_farewell(TimePoint now) {
  if (is_congested()) look_for_goodbye();
  if (now < given_up_at_) return false;
  end_now();
  return true;
}

void Session::on_client_gone() {
  ending_ = true;
  if (scatter_ && committing_) hand_over_commit();
  if (scatter_)
    for (Backend* backend : scatter_->active()) host_.abandon(*backend);
  scatter_.reset();
  copy_in_ = nullptr;
  if (waiting_in_ != nullptr) std::exchange(waiting_in_, nullptr)->forget(*this);
  if (options_.listen != nullptr) options_.listen->forget(*this);
  drop_others();
  if (Backend* backend = std::exchange(backend_, nullptr)) {
    pool::Pool& pool = pool_of(*backend);
    if (!backend->replies().empty()) host_.abandon(*backend);
    const bool idle = backend->replies().empty() && !unit_open_ && !sends_copy_data() &&
                      backend->transaction_status() == TransactionStatus::idle;
    if (idle)
      pool.checkin(*backend, needs_reset_ || must_keep());
    else
      pool.discard(*backend, "the client went away");
  }
  clean_parked();
}

bool Session::is_between_transactions() const {
  return wait_ == Wait::none && !scatter_ && !script_ && lazy_.none() && input_.empty() && deferred_.empty() &&
         (backend_ == nullptr ||
          (backend_->replies().empty() && !unit_open_ && backend_->transaction_status() == TransactionStatus::idle));
}

}  // namespace tessera::proxy
