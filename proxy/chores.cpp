#include "proxy/chores.hpp"

namespace tessera::proxy {

Chores::Chores() : thread_([this] { run(); }) {}

Chores::~Chores() {
  stop();
}

bool Chores::post(Job job) {
  const std::scoped_lock lock(mutex_);
  if (stopping_ || jobs_.size() >= max_queued) return false;
  jobs_.push_back(std::move(job));
  wake_.notify_one();
  return true;
}

void Chores::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Chores::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    lock.lock();
  }
}

}  // namespace tessera::proxy
