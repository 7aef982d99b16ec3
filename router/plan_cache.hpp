// Plans by fingerprint, for one worker and one database. A hit costs a hash lookup and never parses. Bounded: when it
// is full, the entries that were not used since the last round go (a clock with one bit). Not shared between threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "parser/fingerprint.hpp"
#include "parser/statement.hpp"
#include "router/plan.hpp"
#include "router/statement_counters.hpp"

namespace tessera::router {

// set_config('name', value, local) with a name and a flag that are literals.
struct SettingCall {
  std::string name;
  parser::Operand value;
  bool local = false;
};

struct PlannedStatement {
  PlanTemplate plan;
  // Only for statements that concern the session (SET, BEGIN, LISTEN, PREPARE, …): what they say.
  std::shared_ptr<const parser::Statement> statement;
  // What it may do to its connection beyond what it says (proxy/hidden_state.hpp).
  bool changes_hidden_state = false;
  bool asks_sequences = false;
  bool loads_library = false;
  bool uses_temporary = false;  // names a temporary object of the session
  bool names_tables = false;
  bool changes_planning = false;  // if it succeeds, later statements may mean something else
  std::vector<SettingCall> setting_calls = {};
  bool opaque_settings = false;  // calls set_config in some other way
};

// All statements of one text.
struct PlannedText {
  std::vector<PlannedStatement> statements;
  std::optional<Error> syntax_error;            // then `statements` is empty
  bool session_effects = false;                 // some statement changes or asks the session
  std::shared_ptr<StatementCounters> counters;  // of all texts of this shape; may be null
  bool cacheable = true;                        // false: what it says depends on its literals
  bool single() const { return statements.size() == 1; }
};
using PlannedTextRef = std::shared_ptr<const PlannedText>;

class PlanCache {
public:
  struct Key {
    std::uint64_t high = 0, low = 0;
    std::uint64_t meaning = 0;  // settings that change what names mean; the cache is emptied with every new topology
    friend bool operator==(const Key&, const Key&) = default;
  };
  explicit PlanCache(std::size_t capacity) : capacity_(capacity) {}

  const PlannedTextRef* find(const Key& key) {
    const auto found = entries_.find(key);
    if (found == entries_.end()) {
      ++misses_;
      return nullptr;
    }
    ++hits_;
    found->second.used = true;
    return &found->second.text;
  }
  void insert(const Key& key, PlannedTextRef text) {
    if (entries_.size() >= capacity_) evict();
    entries_.insert_or_assign(key, Entry{std::move(text), true});
  }
  void clear() { entries_.clear(); }
  std::size_t size() const { return entries_.size(); }
  std::size_t capacity() const { return capacity_; }
  std::uint64_t hits() const { return hits_; }
  std::uint64_t misses() const { return misses_; }

private:
  struct Entry {
    PlannedTextRef text;
    mutable bool used;  // the clock's bit; std::erase_if shows entries as const
  };
  struct Hash {
    std::size_t operator()(const Key& key) const {
      return static_cast<std::size_t>(key.low ^ (key.meaning * 0x9E3779B97F4A7C15ull));
    }
  };
  void evict() {
    const std::size_t before = entries_.size();
    std::erase_if(entries_, [](const auto& entry) { return !std::exchange(entry.second.used, false); });
    // Everything was in use: an eighth goes, so that the cost of this walk is spread over many inserts.
    if (entries_.size() == before)
      for (auto it = entries_.begin(); entries_.size() > capacity_ - capacity_ / 8 - 1;) it = entries_.erase(it);
  }

  std::size_t capacity_;
  std::unordered_map<Key, Entry, Hash> entries_;
  std::uint64_t hits_ = 0;
  std::uint64_t misses_ = 0;
};

}  // namespace tessera::router
