#include "net/event_loop.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <new>
#include <stdexcept>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "net/send_batch.hpp"
#include "net/stream.hpp"

namespace tessera::net {

namespace {
constexpr int events_per_round = 256;
}

EventLoop::EventLoop() : events_(events_per_round), read_buffer_(read_buffer_size), cipher_buffer_(read_buffer_size) {
  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  wake_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  timer_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (epoll_ < 0 || wake_ < 0 || timer_ < 0)
    throw std::runtime_error(fmt::format("cannot create an event loop: {}", std::strerror(errno)));
  watch(wake_, &wake_);
  watch(timer_, &timer_);
}

// The loop's own descriptors have no handler; `mark` tells them apart.
void EventLoop::watch(int fd, int* mark) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.ptr = mark;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0)
    throw std::runtime_error(fmt::format("cannot create an event loop: {}", std::strerror(errno)));
}

EventLoop::~EventLoop() {
  // What was deferred or posted may own descriptors; it must go while the loop still stands.
  run_deferred();
  posted_.clear();
  ::close(timer_);
  ::close(wake_);
  ::close(epoll_);
}

Result<void> EventLoop::add(int fd, EventHandler& handler) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = &handler;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0) return {};
  return fail(sqlstate::internal_error, fmt::format("cannot watch a socket: {}", std::strerror(errno)));
}

void EventLoop::remove(int fd, EventHandler& handler) {
  ::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
  if (current_ == &handler) current_ = nullptr;
  for (int i = delivered_; i < delivering_; ++i) {
    epoll_event& event = events_[static_cast<std::size_t>(i)];
    if (event.data.ptr == &handler) event.events = 0;
  }
}

void EventLoop::post(Task task) {
  bool wake = false;
  {
    const std::scoped_lock lock(posted_mutex_);
    wake = posted_.empty();
    posted_.push_back(std::move(task));
  }
  if (!wake) return;
  const std::uint64_t one = 1;
  // An eventfd write fails only when the counter is full, and then the loop is awake anyway.
  [[maybe_unused]] const auto written = ::write(wake_, &one, sizeof one);
}

// A timer of the kernel's that stands by itself: a timeout would be armed and disarmed with every wait.
void EventLoop::set_ticker(Duration interval, std::function<void()> tick) {
  tick_ = std::move(tick);
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(interval).count();
  const timespec period{.tv_sec = nanoseconds / 1'000'000'000, .tv_nsec = nanoseconds % 1'000'000'000};
  const itimerspec periodic{.it_interval = period, .it_value = period};
  ::timerfd_settime(timer_, 0, &periodic, nullptr);
}

void EventLoop::run() {
  while (!stopping_.load(std::memory_order_relaxed)) {
    const int count = ::epoll_wait(epoll_, events_.data(), events_per_round, -1);
    now_ = Clock::now();
    if (count > 0) dispatch(count);
    run_deferred();
  }
  run_posted();
  run_deferred();
}

void EventLoop::stop() {
  stopping_.store(true, std::memory_order_relaxed);
  post([] {});
}

void EventLoop::dispatch(int count) {
  bool woken = false;
  bool ticked = false;
  delivering_ = count;
  for (delivered_ = 0; delivered_ < delivering_;) {
    const epoll_event event = events_[static_cast<std::size_t>(delivered_++)];
    if (event.data.ptr == &wake_) {
      woken = true;
    } else if (event.data.ptr == &timer_) {
      ticked = true;
    } else if (event.events != 0) {
      const bool readable = (event.events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
      const bool writable = (event.events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
      auto* handler = static_cast<EventHandler*>(event.data.ptr);
      current_ = handler;
      current_ended_ = (event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
      deliver(*handler, readable, writable);
      current_ = nullptr;
      // The first of them have waited long enough.
      if (unsent_.size() >= SendBatch::capacity / 2) send_unsent();
    }
  }
  delivering_ = delivered_ = 0;
  send_unsent();
  if (woken) run_posted();
  if (!ticked) return;
  run_deferred();
  run_tick();
}

bool EventLoop::send_together() {
  batch_ = SendBatch::open();
  unsent_.reserve(SendBatch::capacity);
  return batch_ != nullptr;
}

bool EventLoop::send_later(Stream& stream) {
  if (!batch_ || delivering_ == 0 || unsent_.size() == SendBatch::capacity) return false;
  unsent_.push_back(&stream);
  return true;
}

void EventLoop::forget(const Stream& stream) {
  std::erase(unsent_, &stream);
}

void EventLoop::send_unsent() {
  if (unsent_.size() == 1) {
    const std::string_view bytes = bytes_of(*unsent_.front());
    if (!bytes.empty()) unsent_.front()->flush();
  } else if (!unsent_.empty()) {
    for (Stream* stream : unsent_) batch_->add(stream->descriptor(), bytes_of(*stream));
    const std::span<const int> results = batch_->send();
    for (std::size_t i = 0; i < results.size(); ++i) unsent_[i]->sent_together(results[i]);
    if (batch_->broken()) batch_.reset();
  }
  unsent_.clear();
}

std::string_view EventLoop::bytes_of(Stream& stream) {
  try {
    return stream.to_send();
  } catch (const std::bad_alloc&) {
    ++out_of_memory_;
    return {};
  }
}

// One connection that memory has run out for must not take all others along.
void EventLoop::deliver(EventHandler& handler, bool readable, bool writable) {
  try {
    handler.on_ready(readable, writable);
  } catch (const std::bad_alloc&) {
    ++out_of_memory_;
    if (current_ == &handler) handler.on_out_of_memory();
  }
}

void EventLoop::run_tick() {
  std::uint64_t expirations = 0;
  [[maybe_unused]] const auto drained = ::read(timer_, &expirations, sizeof expirations);
  try {
    tick_();
  } catch (const std::bad_alloc&) {
    ++out_of_memory_;
  }
}

void EventLoop::run_task(Task& task) {
  try {
    task();
  } catch (const std::bad_alloc&) {
    ++out_of_memory_;
  }
}

void EventLoop::run_posted() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto drained = ::read(wake_, &count, sizeof count);
  std::vector<Task> tasks;
  {
    const std::scoped_lock lock(posted_mutex_);
    tasks.swap(posted_);
  }
  for (Task& task : tasks) run_task(task);
}

void EventLoop::run_deferred() {
  while (!deferred_.empty()) {
    running_.swap(deferred_);
    for (Task& task : running_) run_task(task);
    running_.clear();
  }
}

}  // namespace tessera::net
