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

// Every request counts while an address is over the limit, so that hammering on does not help.
bool CancelRegistry::is_guessing(const std::string& address, TimePoint now) {
  const auto found = failures_.find(address);
  if (found == failures_.end()) return false;
  if (now - found->second.last >= quiet) {
    failures_.erase(found);
    return false;
  }
  if (found->second.count < most_failures) return false;
  found->second.last = now;
  return true;
}

std::optional<CancelRegistry::Target> CancelRegistry::find(std::uint32_t pid, std::string_view secret,
                                                           const std::string& address, TimePoint now) {
  const std::scoped_lock lock(mutex_);
  if (is_guessing(address, now)) return {};
  const auto found = entries_.find(pid);
  const bool known = found != entries_.end();
  const bool equal = constant_time_equal(known ? found->second.secret : std::string(4, '\0'), secret);
  if (known && equal) return found->second.target;
  if (address.empty()) return {};
  constexpr std::size_t most_addresses = 10'000;
  if (failures_.size() >= most_addresses) failures_.clear();
  Failures& failures = failures_[address];
  ++failures.count;
  failures.last = now;
  return {};
}

}  // namespace tessera::proxy
