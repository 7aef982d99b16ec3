// Cancel keys: every client gets a process id and a secret of ours, never a server's. A cancel request finds its session here,
// on whichever worker it lives. Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/ids.hpp"

namespace tessera::proxy {

class Worker;

struct CancelKey {
  std::uint32_t pid = 0;
  std::string secret;  // 4 bytes
};

class CancelRegistry {
 public:
  struct Target {
    Worker* worker = nullptr;
    SessionId session;
  };
  CancelKey add(Worker& worker, SessionId session);
  void remove(const CancelKey& key);
  // Nothing: no such key. The comparison's time says nothing about the secret.
  std::optional<Target> find(std::uint32_t pid, std::string_view secret) const;

 private:
  struct Entry {
    std::string secret;
    Target target;
  };
  mutable std::mutex mutex_;  // guards entries_
  std::unordered_map<std::uint32_t, Entry> entries_;
};

}  // namespace tessera::proxy
