#include "net/stream.hpp"

#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <sys/uio.h>

namespace tessera::net {

namespace {
// Shorter pieces are cheaper to copy into the queue than to send on their own.
constexpr std::size_t copy_below = 4096;
// An idle connection keeps no more than this of its queue's memory.
constexpr std::size_t keep_capacity = 1024;

// What a slow peer has taken must not pile up in front of what it has not.
void drop_sent(std::string& queue, std::size_t& sent) {
  if (sent == queue.size()) {
    queue.clear();
    sent = 0;
    if (queue.capacity() > keep_capacity) std::string().swap(queue);
  } else if (sent > Stream::high_water) {
    queue.erase(0, sent);
    sent = 0;
  }
}
}  // namespace

Stream::Stream(EventLoop& loop, Descriptor socket) : loop_(&loop), socket_(std::move(socket)) {}

Stream::~Stream() {
  close();
}

Result<void> Stream::open(EventHandler& handler) {
  handler_ = &handler;
  return loop_->add(socket_.get(), handler);
}

void Stream::detach(EventHandler& handler) {
  send_before_leaving();
  loop_->remove(socket_.get(), handler);
  handler_ = nullptr;
}

Result<void> Stream::rebind(EventLoop& loop, EventHandler& handler) {
  loop_ = &loop;
  return open(handler);
}

// The loop must not send it any more, and others do not wait for its round.
void Stream::send_before_leaving() {
  if (!is_sent_later_) return;
  loop_->forget(*this);
  is_sent_later_ = false;
  flush();
}

void Stream::close() {
  if (!socket_) return;
  send_before_leaving();
  if (handler_ != nullptr) loop_->remove(socket_.get(), *handler_);
  handler_ = nullptr;
  socket_.reset();
}

Stream::Status Stream::handshake() {
  TlsSession::Status status = tls_->handshake();  // the side that connects speaks first
  while (status == TlsSession::Status::want_read) {
    if (tls_->unread().empty()) {
      std::size_t n = 0;
      bool dry = false;
      const Status got = read_plain(loop_->cipher_buffer(), n, dry);
      if (got != Status::ok) return got;
      if (n == 0) break;
      tls_->feed({loop_->cipher_buffer().data(), n});
    }
    status = tls_->handshake();
  }
  stash_ciphertext();
  const Status flushed = flush_tls();
  if (status == TlsSession::Status::failed) {
    error_ = fmt::format("TLS handshake failed: {}", tls_->error());
    return Status::failed;
  }
  if (status == TlsSession::Status::closed) return Status::closed;
  return flushed;
}

Stream::Status Stream::read_plain(std::span<char> into, std::size_t& n, bool& dry) {
  const ssize_t got = ::recv(socket_.get(), into.data(), into.size(), 0);
  if (got > 0) {
    n = static_cast<std::size_t>(got);
    bytes_in_ += n;
    dry = n < into.size() && loop_->short_read_is_last(handler_);
    return Status::ok;
  }
  n = 0;
  dry = true;
  if (got == 0) return Status::closed;
  if (errno == EAGAIN || errno == EINTR) return Status::ok;
  error_ = std::strerror(errno);
  return Status::failed;
}

Stream::Status Stream::read_some(std::size_t& n, bool& dry) {
  if (!socket_) return Status::closed;
  return tls_ ? read_tls(loop_->read_buffer(), n, dry) : read_plain(loop_->read_buffer(), n, dry);
}

Stream::Status Stream::read_tls(std::span<char> into, std::size_t& n, bool& dry) {
  n = 0;
  std::string stash;
  if (tls_->unread().data() == tls_stash_.data() && !tls_stash_.empty()) {
    stash = std::move(tls_stash_);  // its bytes stay put while OpenSSL reads them
    tls_stash_.clear();
    tls_->feed(stash);
  }
  bool kernel_dry = false;
  while (n < into.size()) {
    std::size_t got = 0;
    const TlsSession::Status status = tls_->read(into.subspan(n), got);
    n += got;
    if (status == TlsSession::Status::ok) continue;
    if (status == TlsSession::Status::closed) return Status::closed;
    if (status == TlsSession::Status::failed) {
      error_ = fmt::format("TLS: {}", tls_->error());
      return Status::failed;
    }
    if (kernel_dry) {
      dry = true;
      break;
    }
    std::size_t cipher = 0;
    const Status read = read_plain(loop_->cipher_buffer(), cipher, kernel_dry);
    if (read != Status::ok) return read;
    tls_->feed({loop_->cipher_buffer().data(), cipher});
  }
  // Leftovers stand in a buffer that dies here or is shared: keep them.
  stash_ciphertext();
  if (!tls_->output().empty()) return flush_tls();  // key updates, alerts
  return Status::ok;
}

void Stream::stash_ciphertext() {
  const std::string_view left = tls_->unread();
  if (left.data() == tls_stash_.data() && !left.empty()) return;
  std::string kept(left);
  tls_stash_ = std::move(kept);
  tls_->feed(tls_stash_);
}

void Stream::append(std::string_view bytes) {
  if (muted_) return;
  out_.append(bytes);
  drop_excess();
}

void Stream::wait_no_more() {
  waits_no_more_ = true;
  drop_excess();
}

void Stream::mute() {
  muted_ = true;
  std::string().swap(out_);
  sent_ = 0;
  if (!tls_) return;
  std::string().swap(tls_->output());
  tls_sent_ = 0;
}

Stream::Status Stream::append_large(std::string_view bytes) {
  if (bytes.size() < copy_below || tls_ || !socket_) {
    append(bytes);
    return Status::ok;
  }
  if (muted_) return Status::ok;
  std::size_t sent = 0;
  const std::string_view queued = std::string_view(out_).substr(sent_);
  const Status status = send(queued, bytes, sent);
  if (sent < queued.size()) {
    sent_ += sent;
    out_.append(bytes);
  } else {
    out_.clear();
    sent_ = 0;
    out_.append(bytes.substr(sent - queued.size()));
  }
  drop_excess();
  return status;
}

Stream::Status Stream::send(std::string_view first, std::string_view second, std::size_t& sent) {
  if (first.empty() || second.empty()) {
    const std::string_view one = first.empty() ? second : first;
    const ssize_t n = ::send(socket_.get(), one.data(), one.size(), MSG_NOSIGNAL);
    return note_sent(n, sent);
  }
  iovec parts[2] = {{const_cast<char*>(first.data()), first.size()}, {const_cast<char*>(second.data()), second.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  return note_sent(::sendmsg(socket_.get(), &message, MSG_NOSIGNAL), sent);
}

Stream::Status Stream::note_sent(ssize_t n, std::size_t& sent) {
  sent = n > 0 ? static_cast<std::size_t>(n) : 0;
  bytes_out_ += sent;
  if (n >= 0 || errno == EAGAIN || errno == EINTR) return Status::ok;
  error_ = std::strerror(errno);
  return errno == EPIPE || errno == ECONNRESET ? Status::closed : Status::failed;
}

Stream::Status Stream::flush() {
  if (!socket_) return Status::closed;
  if (muted_) {
    mute();
    return Status::ok;
  }
  if (tls_) {
    const Status encrypted = encrypt();
    return encrypted == Status::ok ? flush_tls() : encrypted;
  }
  if (pending() == 0) return Status::ok;
  std::size_t sent = 0;
  const Status status = send(std::string_view(out_).substr(sent_), {}, sent);
  sent_ += sent;
  trim();
  return status;
}

void Stream::flush_soon() {
  // What is more is on its way while others are still at work.
  constexpr std::size_t most_together = 16 * 1024;
  if (pending() == 0 || (is_sent_later_ && pending() <= most_together)) return;
  if (pending() > most_together || !loop_->send_later(*this))
    flush();
  else
    is_sent_later_ = true;
}

std::string_view Stream::to_send() {
  is_sent_later_ = false;
  if (muted_) mute();
  if (!tls_) return std::string_view(out_).substr(sent_);
  if (encrypt() != Status::ok) return {};
  return std::string_view(tls_->output()).substr(tls_sent_);
}

void Stream::sent_together(int result) {
  if (result < 0) {
    flush();  // says why, and has the loop told when there is room
    return;
  }
  const auto sent = static_cast<std::size_t>(result);
  bytes_out_ += sent;
  if (tls_) {
    tls_sent_ += sent;
    trim_tls();
  } else {
    sent_ += sent;
    trim();
  }
}

// All that is queued goes into tls_->output().
Stream::Status Stream::encrypt() {
  if (sent_ == out_.size()) return Status::ok;
  const TlsSession::Status status = tls_->write(std::string_view(out_).substr(sent_));
  if (status != TlsSession::Status::ok) {
    error_ = fmt::format("TLS: {}", tls_->error());
    return Status::failed;
  }
  sent_ = out_.size();
  trim();
  return Status::ok;
}

Stream::Status Stream::flush_tls() {
  while (tls_sent_ < tls_->output().size()) {
    std::size_t sent = 0;
    const Status status = send(std::string_view(tls_->output()).substr(tls_sent_), {}, sent);
    tls_sent_ += sent;
    trim_tls();
    if (status != Status::ok || sent == 0) return status;
  }
  trim_tls();
  return Status::ok;
}

void Stream::trim() {
  drop_sent(out_, sent_);
}

void Stream::trim_tls() {
  drop_sent(tls_->output(), tls_sent_);
}

}  // namespace tessera::net
