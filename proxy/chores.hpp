// One thread for administrative work that may block (reading the configuration, resolving names), so that neither a
// worker nor the admin endpoint stands still for it. Jobs run one after the other. `post` is thread-safe.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace tessera::proxy {

class Chores {
public:
  using Job = std::move_only_function<void()>;
  static constexpr std::size_t max_queued = 64;

  Chores();
  ~Chores();
  // False: too much waits already, or the thread is being stopped; the job was not taken.
  bool post(Job job);
  // Lets the running job end and drops those that wait.
  void stop();

private:
  void run();

  std::mutex mutex_;  // guards jobs_ and stopping_
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace tessera::proxy
