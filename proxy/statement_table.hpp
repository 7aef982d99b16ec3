// The counters of one worker's statements in one database, by fingerprint. Looked up only when a plan is made, never
// when one is found in the cache. Bounded: when it is full, the place of a statement that no plan holds any more is
// given to the new one; if there is none at hand, the new one shares the entry of all others. Entries are never freed
// while the table lives, so a reply that comes late finds its counters, or at worst those of the successor.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "parser/fingerprint.hpp"
#include "parser/normalize.hpp"
#include "router/statement_counters.hpp"

namespace tessera::proxy {

class StatementTable {
public:
  using Counters = std::shared_ptr<router::StatementCounters>;
  static constexpr std::size_t capacity = 2'000;
  static constexpr std::size_t longest_text = 2'048;
  static constexpr std::string_view others = "(other statements)";

  explicit StatementTable(std::size_t shards) : words_((shards + 63) / 64) {}

  Counters find(const parser::Fingerprint& print, std::string_view sql, parser::LexerMode mode) {
    const Key key{print.high, print.low};
    if (const auto known = index_.find(key); known != index_.end()) return entries_[known->second].counters;
    if (entries_.size() < capacity) {
      entries_.push_back({key, std::make_shared<router::StatementCounters>()});
      hand_ = entries_.size() - 1;
    } else if (!find_free()) {
      if (!others_) {
        others_ = std::make_shared<router::StatementCounters>();
        others_->text = others;
        others_->shards.resize(words_);
      }
      return others_;
    }
    Entry& entry = entries_[hand_];
    entry.key = key;
    *entry.counters = {};
    entry.counters->text = parser::normalize(sql.substr(0, longest_text), mode);
    entry.counters->shards.resize(words_);
    index_.insert_or_assign(key, hand_);
    return entry.counters;
  }

  template <typename Visit>
  void each(Visit&& visit) const {
    for (const Entry& entry : entries_) visit(*entry.counters);
    if (others_) visit(*others_);
  }

private:
  struct Key {
    std::uint64_t high = 0, low = 0;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const { return static_cast<std::size_t>(key.low); }
  };
  struct Entry {
    Key key;
    Counters counters;
  };

  // A few at a time: a new shape of statement must not pay for a walk through all.
  bool find_free() {
    constexpr int tries = 16;
    for (int i = 0; i < tries; ++i) {
      hand_ = (hand_ + 1) % entries_.size();
      if (entries_[hand_].counters.use_count() > 1) continue;
      index_.erase(entries_[hand_].key);
      return true;
    }
    return false;
  }

  std::size_t words_;
  std::vector<Entry> entries_;
  std::unordered_map<Key, std::size_t, Hash> index_;
  std::size_t hand_ = 0;
  Counters others_;
};

}  // namespace tessera::proxy
