#include "pool/key_derivation.hpp"

#include "base/crypto.hpp"

namespace tessera::pool {

namespace {
std::string cache_key_of(const postgres::KeyRequest& request) {
  const std::string iterations = std::to_string(request.iterations);
  return std::string(as_view(hmac_sha256(request.salt + '/' + iterations, request.password)));
}
}  // namespace

KeyDerivation::KeyDerivation() : thread_([this] { run(); }) {}

KeyDerivation::~KeyDerivation() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

bool KeyDerivation::derive(postgres::KeyRequest request, net::EventLoop& loop, Done done) {
  std::string key = cache_key_of(request);
  {
    const std::scoped_lock lock(mutex_);
    const auto found = cache_.find(key);
    if (found == cache_.end()) {
      if (jobs_.size() >= max_queued) return false;
      jobs_.push_back({std::move(key), std::move(request), &loop, std::move(done)});
      wake_.notify_one();
      return true;
    }
    // Through the loop as well: the caller may rely on `done` not being called from inside `derive`.
    loop.post([keys = found->second, done = std::move(done)]() mutable { done(keys); });
  }
  return true;
}

void KeyDerivation::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    postgres::ScramKeys keys;
    if (const auto found = cache_.find(job.cache_key); found != cache_.end()) {
      keys = found->second;
    } else {
      lock.unlock();
      keys = postgres::derive_scram_keys(job.request);
      lock.lock();
      if (cache_.size() >= max_cached) cache_.clear();
      cache_.emplace(job.cache_key, keys);
    }
    job.loop->post([keys, done = std::move(job.done)]() mutable { done(keys); });
  }
}

}  // namespace tessera::pool
