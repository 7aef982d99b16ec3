// A connected socket, plain or TLS, with its output queue: what client sessions and backend connections read from and
// write to. Reading goes through the loop's shared buffer, so an idle stream owns none. Writing is queued and sent once
// a turn by `flush`; what the kernel does not take waits here until the socket is writable. Owned by one connection;
// lives on its loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "net/event_loop.hpp"
#include "net/socket.hpp"
#include "net/tls.hpp"

namespace tessera::net {

class Stream {
public:
  enum class Status { ok, closed, failed };
  // Bytes above which a queue counts as full: whoever produces for it should stop until `drained`.
  static constexpr std::size_t high_water = 256 * 1024;

  Stream(EventLoop& loop, Descriptor socket);
  ~Stream();
  // Only before `open`.
  Stream(Stream&&) = default;
  Stream& operator=(Stream&&) = default;

  // Registers with the loop. `handler` is told of readiness.
  Result<void> open(EventHandler& handler);
  // Leaves the loop and keeps the socket: for moving a connection to another worker's loop by `rebind`.
  void detach(EventHandler& handler);
  Result<void> rebind(EventLoop& loop, EventHandler& handler);
  void close();
  bool is_open() const { return static_cast<bool>(socket_); }

  void start_tls(std::unique_ptr<TlsSession> session) { tls_ = std::move(session); }
  TlsSession* tls() const { return tls_.get(); }
  // Drives the handshake with what the socket has. ok: check tls()->handshake_done(). Plaintext that came along with
  // the end of the handshake is kept by OpenSSL for the next read.
  Status handshake();

  // Reads what is there, up to the loop's buffer, and calls `take(bytes)` for each piece until the socket is dry,
  // `take` returns false (then call again later) or the peer is gone. The bytes are valid only during the call.
  template <typename Take>
  Status read(Take&& take) {
    stopped_short_ = false;
    while (true) {
      std::size_t n = 0;
      bool dry = false;
      const Status status = read_some(n, dry);
      if (n > 0) {
        const bool more = take(std::string_view(loop_->read_buffer().data(), n));
        if (!is_open()) return Status::closed;
        if (!more) {
          if (tls_) stash_ciphertext();
          stopped_short_ = tls_ != nullptr || !dry;
          return Status::ok;
        }
      }
      if (status != Status::ok || dry) return status;
    }
  }

  // Did `take` end the last read when there may have been more?
  bool stopped_short() const { return stopped_short_; }

  // Queues a copy.
  void append(std::string_view bytes);
  // Queues and, if large, sends at once without copying; what the kernel does not take is copied.
  Status append_large(std::string_view bytes);
  // For building messages in place: append to it, then flush.
  std::string& out() { return out_; }
  Status flush();
  // At the end of the loop's round, together with the other streams', or now: as is better. Who needs to know whether
  // the kernel took it calls `flush`.
  void flush_soon();
  // For the loop: the bytes that go to the socket now, and what became of them.
  std::string_view to_send();
  void sent_together(int result);
  // The peer may have stopped reading: once more than high_water waits for it, that is dropped, and so is all that
  // would follow.
  void wait_no_more();
  // Nothing is sent any more: the queue, and what comes into it, is dropped.
  void mute();
  // Bytes that wait for the socket.
  std::size_t pending() const { return out_.size() - sent_ + (tls_ ? tls_->output().size() - tls_sent_ : 0); }
  bool drained() const { return pending() == 0; }

  int descriptor() const { return socket_.get(); }
  std::uint64_t bytes_in() const { return bytes_in_; }
  std::uint64_t bytes_out() const { return bytes_out_; }
  std::string error() const { return error_; }

private:
  Status read_some(std::size_t& n, bool& dry);
  Status read_plain(std::span<char> into, std::size_t& n, bool& dry);
  Status read_tls(std::span<char> into, std::size_t& n, bool& dry);
  Status send(std::string_view first, std::string_view second, std::size_t& sent);
  Status note_sent(ssize_t n, std::size_t& sent);
  Status encrypt();
  Status flush_tls();
  void trim_tls();
  void stash_ciphertext();
  void send_before_leaving();
  void trim();
  void drop_excess() {
    if (waits_no_more_ && pending() > high_water) mute();
  }

  EventLoop* loop_;
  Descriptor socket_;
  EventHandler* handler_ = nullptr;
  std::unique_ptr<TlsSession> tls_;
  std::string tls_stash_;  // ciphertext that was read and not yet decrypted when the reader paused
  std::string out_;        // plaintext queue; sent_ bytes of it are gone (plain sockets)
  bool stopped_short_ = false;
  bool is_sent_later_ = false;  // the loop knows it
  bool waits_no_more_ = false;
  bool muted_ = false;
  std::size_t sent_ = 0;
  std::size_t tls_sent_ = 0;  // bytes of tls_->output() that are gone
  std::uint64_t bytes_in_ = 0;
  std::uint64_t bytes_out_ = 0;
  std::string error_;
};

}  // namespace tessera::net
