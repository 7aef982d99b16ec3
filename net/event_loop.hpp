// The event loop of one worker thread: epoll, edge-triggered, each descriptor registered once for its whole life, so
// that a statement costs no re-arming and no failed read. Everything but `post` and `stop` is called on the loop's own
// thread.
//
// A handler is told that its descriptor became ready; it reads or writes until the kernel has no more (see
// short_read_is_last). Removing a handler while events are being delivered is allowed, also from inside another
// handler. Time is coarse on purpose: `now()` is taken once a round, and one ticker drives every deadline of the
// worker.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <sys/epoll.h>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"

namespace tessera::net {

class SendBatch;
class Stream;

class EventHandler {
public:
  virtual ~EventHandler() = default;
  // `readable` also on end of stream and on errors: the next read tells which.
  virtual void on_ready(bool readable, bool writable) = 0;
  // Memory ran out in the middle of its event: what it was doing is half done, and it should end.
  virtual void on_out_of_memory() {}
};

class EventLoop {
public:
  using Task = std::move_only_function<void()>;
  static constexpr std::size_t read_buffer_size = 128 * 1024;

  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Registers `fd` for both directions. The handler is borrowed until `remove`.
  Result<void> add(int fd, EventHandler& handler);
  void remove(int fd, EventHandler& handler);

  // Runs `task` on the loop's thread soon. Thread-safe; wakes the loop.
  void post(Task task);
  // Runs `task` after the events of this round, on the loop's thread only: for destroying what is still on the stack,
  // and for writing once what several events of a round have produced.
  void defer(Task task) { deferred_.push_back(std::move(task)); }

  // From now on, what streams have to send is sent at the end of each round, all by one system call
  // (net/send_batch.hpp); without it each stream sends by itself. False: the kernel does not let us.
  bool send_together();
  bool sends_together() const { return batch_ != nullptr; }
  // Is `stream` sent at the end of this round, without another word? False: it has to send by itself.
  bool send_later(Stream& stream);
  // The stream leaves this loop.
  void forget(const Stream& stream);

  // Calls `tick` about every `interval` while the loop runs.
  void set_ticker(Duration interval, std::function<void()> tick);

  void run();
  void stop();  // thread-safe

  TimePoint now() const { return now_; }
  // How often memory ran out in what the loop runs.
  std::uint64_t out_of_memory() const { return out_of_memory_; }
  // May a short read of `handler`'s descriptor be taken for the last one there is? Only while its own event is being
  // delivered, and not if that event told of the peer's end as well: the end is not reported a second time, it must be
  // read.
  bool short_read_is_last(const EventHandler* handler) const {
    return handler == current_ && handler != nullptr && !current_ended_;
  }
  // Does the event that is being delivered to `handler` say that its peer has ended or failed?
  bool peer_has_ended(const EventHandler* handler) const {
    return handler == current_ && handler != nullptr && current_ended_;
  }
  // Scratch for one read at a time: valid until the handler that filled it returns. Shared by all descriptors, so that
  // an idle connection owns no buffer.
  std::span<char> read_buffer() { return read_buffer_; }
  std::span<char> cipher_buffer() { return cipher_buffer_; }

private:
  void dispatch(int count);
  void deliver(EventHandler& handler, bool readable, bool writable);
  void run_task(Task& task);
  void run_tick();
  void send_unsent();
  std::string_view bytes_of(Stream& stream);
  void watch(int fd, int* mark);
  void run_posted();
  void run_deferred();

  int epoll_ = -1;
  int wake_ = -1;
  std::atomic<bool> stopping_ = false;
  TimePoint now_ = Clock::now();
  int timer_ = -1;
  std::function<void()> tick_;
  std::vector<epoll_event> events_;
  std::uint64_t out_of_memory_ = 0;
  int delivering_ = 0;  // events of this round not yet delivered
  int delivered_ = 0;
  const EventHandler* current_ = nullptr;  // whose event is being delivered
  bool current_ended_ = false;             // …and it says that the peer has ended or failed
  std::unique_ptr<SendBatch> batch_;       // null: each by itself
  std::vector<Stream*> unsent_;            // what the events delivered so far have left to send
  std::vector<Task> deferred_;
  std::vector<Task> running_;  // deferred tasks of this round; keeps its memory
  std::vector<char> read_buffer_;
  std::vector<char> cipher_buffer_;

  std::mutex posted_mutex_;  // guards posted_
  std::vector<Task> posted_;
};

}  // namespace tessera::net
