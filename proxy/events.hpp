// The last events of the process: what the log says from severity `info` on, whatever log.level is, but for statements.
// Bounded twice: in total, and for each message, so that a flood of failed logins does not wash the rest away. Holds
// what the log may hold, so no secrets. Thread-safe; never touched by a statement.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tessera::proxy {

struct Event {
  std::uint64_t id = 0;  // from 1, ascending
  std::chrono::system_clock::time_point time;
  std::string_view severity;  // info, warn, error
  std::string text;
  std::vector<std::pair<std::string, std::string>> fields;
};

class Events {
public:
  static constexpr std::size_t most = 1'000, most_of_a_kind = 200;

  void add(std::string_view severity, std::string_view text,
           std::initializer_list<std::pair<std::string_view, std::string_view>> fields);
  // Those after `id`, oldest first.
  std::vector<Event> after(std::uint64_t id) const;

private:
  mutable std::mutex mutex_;
  std::deque<Event> events_;
  std::unordered_map<std::string, std::size_t> of_a_kind_;
  std::uint64_t next_ = 1;
};

// The process's.
Events& events();

}  // namespace tessera::proxy
