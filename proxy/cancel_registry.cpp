#include "proxy/cancel_registry.hpp"

#include <cstring>

#include "base/crypto.hpp"

namespace tessera::proxy {

CancelKey CancelRegistry::add(Worker& worker, SessionId session) {
  const std::scoped_lock lock(mutex_);
  while (true) {
    const std::string random = random_bytes(8);
    CancelKey key;
    std::memcpy(&key.pid, random.data(), 4);
    key.pid &= 0x7fff'ffff;  // clients take it for a process id: positive
    key.secret = random.substr(4);
    if (key.pid == 0 || !entries_.try_emplace(key.pid, Entry{key.secret, {&worker, session}}).second) continue;
    return key;
  }
}

void CancelRegistry::remove(const CancelKey& key) {
  const std::scoped_lock lock(mutex_);
  entries_.erase(key.pid);
}

std::optional<CancelRegistry::Target> CancelRegistry::find(std::uint32_t pid, std::string_view secret) const {
  const std::scoped_lock lock(mutex_);
  const auto found = entries_.find(pid);
  const bool known = found != entries_.end();
  const bool equal = constant_time_equal(known ? found->second.secret : std::string(4, '\0'), secret);
  return known && equal ? std::optional(found->second.target) : std::nullopt;
}

}  // namespace tessera::proxy
