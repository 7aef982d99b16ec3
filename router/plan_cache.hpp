// Plans by fingerprint, for one worker and one database. A hit costs a hash lookup and never parses. Bounded: when it
// is full, the entries that were not used since the last round go (a clock with one bit). Not shared between threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "parser/fingerprint.hpp"
#include "parser/statement.hpp"
#include "router/plan.hpp"
#include "router/statement_counters.hpp"
#include "router/text.hpp"

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
  bool changes_session = false;
  bool asks_sequences = false;
  bool advances_sequences = false;
  bool sets_sequences = false;
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
  bool names_columns = false;                   // some statement has a column_list
  bool gives_ids = false;                       // it is one statement, with PlanTemplate::ids
  bool session_effects = false;                 // some statement changes or asks the session
  std::shared_ptr<StatementCounters> counters;  // of all texts of this shape; may be null
  bool cacheable = true;                        // false: what it says depends on its literals
  std::string exact_text = {};  // not empty: places in this text are part of it, so it is for no other of its shape
  // Of one shape and of one text but for the case of letters (BEGIN, begin): everything stands at the same place.
  bool is_for(std::string_view sql) const { return exact_text.empty() || equal_ignoring_case(exact_text, sql); }
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
  explicit PlanCache(std::size_t capacity) : capacity_(std::max<std::size_t>(1, capacity)) {}

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
    const auto [place, added] = entries_.try_emplace(key, Entry{text, false});
    if (!added)
      place->second.text = std::move(text);
    else if (clock_.size() < capacity_)
      clock_.push_back(&*place);
    else
      replace(*place);
  }
  void clear() {
    clock_.clear();
    entries_.clear();
    hand_ = 0;
  }
  std::size_t size() const { return entries_.size(); }
  std::size_t capacity() const { return capacity_; }
  std::uint64_t hits() const { return hits_; }
  std::uint64_t misses() const { return misses_; }

private:
  struct Entry {
    PlannedTextRef text;
    bool used;  // since the clock's hand came by: it stays for another round
  };
  struct Hash {
    std::size_t operator()(const Key& key) const {
      return static_cast<std::size_t>(key.low ^ (key.meaning * 0x9E3779B97F4A7C15ull));
    }
  };
  using Entries = std::unordered_map<Key, Entry, Hash>;

  // The next that nobody has used for a round makes room: a step or two for each insert, never a walk over all.
  void replace(Entries::value_type& newcomer) {
    while (std::exchange(clock_[hand_]->second.used, false)) hand_ = (hand_ + 1) % clock_.size();
    const Key leaver = clock_[hand_]->first;
    clock_[hand_] = &newcomer;
    hand_ = (hand_ + 1) % clock_.size();
    entries_.erase(leaver);
  }

  std::size_t capacity_;
  Entries entries_;
  std::vector<Entries::value_type*> clock_;  // all of them, in the order in which the hand comes by
  std::size_t hand_ = 0;
  std::uint64_t hits_ = 0;
  std::uint64_t misses_ = 0;
};

}  // namespace tessera::router
