// Who may come in: counts of client connections in total, by address, by database and by user, over all workers. A
// `Ticket` counts until it is destroyed. Thread-safe; touched when a client connects and when it leaves, never for a
// statement.
#pragma once

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "config/config.hpp"
#include "net/socket.hpp"

namespace tessera::proxy {

// `users[].from`. The address of whoever comes through a Unix socket is "local", and in no network.
inline bool may_come_from(const config::User& user, const std::string& address) {
  if (user.from.empty()) return true;
  if (address == config::local_clients) return std::ranges::find(user.from, address) != user.from.end();
  return net::in_networks(address, user.from);
}

class Admission {
public:
  class Ticket {
  public:
    Ticket() = default;
    Ticket(Admission& admission, std::string key) : admission_(&admission), key_(std::move(key)) {}
    Ticket(Ticket&& other) noexcept
        : admission_(std::exchange(other.admission_, nullptr)), key_(std::move(other.key_)) {}
    Ticket& operator=(Ticket&& other) noexcept {
      std::swap(admission_, other.admission_);
      std::swap(key_, other.key_);
      return *this;
    }
    ~Ticket() {
      if (admission_ != nullptr) admission_->leave(key_);
    }

  private:
    Admission* admission_ = nullptr;
    std::string key_;
  };

  // Counts one more under `key` unless there are `limit` already (0: unlimited).
  std::optional<Ticket> enter(const std::string& key, std::uint64_t limit) {
    const std::scoped_lock lock(mutex_);
    std::uint64_t& count = counts_[key];
    if (limit != 0 && count >= limit) return {};
    ++count;
    return Ticket(*this, key);
  }
  std::uint64_t count(const std::string& key) const {
    const std::scoped_lock lock(mutex_);
    const auto found = counts_.find(key);
    return found == counts_.end() ? 0 : found->second;
  }

private:
  void leave(const std::string& key) {
    const std::scoped_lock lock(mutex_);
    const auto found = counts_.find(key);
    if (--found->second == 0) counts_.erase(found);
  }
  mutable std::mutex mutex_;
  std::map<std::string, std::uint64_t> counts_;
};

}  // namespace tessera::proxy
