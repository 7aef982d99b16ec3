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
  loop_->remove(socket_.get(), handler);
  handler_ = nullptr;
}

Result<void> Stream::rebind(EventLoop& loop, EventHandler& handler) {
  loop_ = &loop;
  return open(handler);
}

void Stream::close() {
  if (!socket_) return;
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
  out_.append(bytes);
}

Stream::Status Stream::append_large(std::string_view bytes) {
  if (bytes.size() < copy_below || tls_ || !socket_) {
    append(bytes);
    return Status::ok;
  }
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
  if (tls_) {
    if (sent_ < out_.size()) {
      const TlsSession::Status status = tls_->write(std::string_view(out_).substr(sent_));
      if (status != TlsSession::Status::ok) {
        error_ = fmt::format("TLS: {}", tls_->error());
        return Status::failed;
      }
      out_.clear();
      sent_ = 0;
    }
    trim();
    return flush_tls();
  }
  if (pending() == 0) return Status::ok;
  std::size_t sent = 0;
  const Status status = send(std::string_view(out_).substr(sent_), {}, sent);
  sent_ += sent;
  trim();
  return status;
}

Stream::Status Stream::flush_tls() {
  std::string& output = tls_->output();
  while (tls_sent_ < output.size()) {
    std::size_t sent = 0;
    const Status status = send(std::string_view(output).substr(tls_sent_), {}, sent);
    tls_sent_ += sent;
    if (tls_sent_ > high_water) {
      // As in trim(): what a slow peer has taken must not pile up behind what it has not.
      output.erase(0, tls_sent_);
      tls_sent_ = 0;
    }
    if (status != Status::ok) return status;
    if (sent == 0) return Status::ok;
  }
  output.clear();
  tls_sent_ = 0;
  if (output.capacity() > keep_capacity) std::string().swap(output);
  return Status::ok;
}

void Stream::trim() {
  if (sent_ == out_.size()) {
    out_.clear();
    sent_ = 0;
    if (out_.capacity() > keep_capacity) std::string().swap(out_);
  } else if (sent_ > high_water) {
    out_.erase(0, sent_);
    sent_ = 0;
  }
}

}  // namespace tessera::net
