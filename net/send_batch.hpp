// Sends on many sockets by one system call, through io_uring, where the kernel lets us. What it saves is not so much
// the calls: whoever is woken by a send takes the core at the end of that call, so that each one costs a change of
// processes.
//
// Nothing is ever under way between calls: the sends do not wait (MSG_DONTWAIT), so each is done, or refused, when
// `send` returns. One thread only, the one that opens it. Source: io_uring_enter(2), io_uring_prep_send(3).
#pragma once

#include <array>
#include <liburing.h>
#include <memory>
#include <span>
#include <string_view>

namespace tessera::net {

class SendBatch {
public:
  static constexpr unsigned capacity = 64;

  // Null where io_uring is not to be had: an old kernel, a container's seccomp profile, kernel.io_uring_disabled.
  static std::unique_ptr<SendBatch> open();
  ~SendBatch();
  SendBatch(const SendBatch&) = delete;
  SendBatch& operator=(const SendBatch&) = delete;

  // At most `capacity` of them; the bytes are borrowed until `send` returns.
  void add(int socket, std::string_view bytes);
  // In the order in which they were added: the bytes taken, or an error's number, negative. -EAGAIN: the socket takes
  // no more, or the send was not tried.
  std::span<const int> send();
  // Something went wrong with the ring itself: do without from now on.
  bool broken() const { return broken_; }

private:
  SendBatch() = default;

  io_uring ring_{};
  unsigned count_ = 0;
  std::array<int, capacity> results_{};
  bool broken_ = false;
};

}  // namespace tessera::net
