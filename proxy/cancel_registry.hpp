// Cancel keys: every client gets a process id and a secret of ours, never a server's. A cancel request finds its
// session here, on whichever worker it lives. Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/clock.hpp"
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
  // Nothing: no such key, or too many wrong ones from this address (if one is given) just now. The comparison's time
  // says nothing about the secret.
  std::optional<Target> find(std::uint32_t pid, std::string_view secret, const std::string& address = {},
                             TimePoint now = {});

private:
  struct Entry {
    std::string secret;
    Target target;
  };
  // Keys are guessed by trying: after this many wrong ones an address has to keep quiet for a moment.
  static constexpr int most_failures = 100;
  static constexpr std::chrono::seconds quiet{1};
  struct Failures {
    int count = 0;
    TimePoint last;
  };
  bool is_guessing(const std::string& address, TimePoint now);
  std::mutex mutex_;  // guards both maps
  std::unordered_map<std::uint32_t, Entry> entries_;
  std::unordered_map<std::string, Failures> failures_;
};

}  // namespace tessera::proxy
