// A client's prepared statements or portals by name, and how much of the proxy's memory they count for
// (limits.prepared_memory). Owned by its session.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace tessera::proxy {

// Statement::bytes(): the size of its texts and lists.
template <typename Statement>
class PreparedTable {
public:
  static constexpr std::size_t around = 1024;  // an allowance: plan, names on the server, the table itself
  static std::size_t cost(std::string_view name, const Statement& statement) {
    return around + name.size() + statement.bytes();
  }

  Statement* find(std::string_view name) {
    const auto found = entries_.find(name);
    return found == entries_.end() ? nullptr : &found->second.statement;
  }
  const Statement* find(std::string_view name) const {
    const auto found = entries_.find(name);
    return found == entries_.end() ? nullptr : &found->second.statement;
  }
  bool contains(std::string_view name) const { return entries_.contains(name); }
  std::size_t size() const { return entries_.size(); }
  std::size_t bytes() const { return bytes_; }

  // In place of the one of that name, if there is one.
  Statement& put(std::string_view name, Statement statement) {
    erase(name);
    const std::size_t bytes = cost(name, statement);
    bytes_ += bytes;
    return entries_.emplace(std::string(name), Entry{std::move(statement), bytes}).first->second.statement;
  }
  bool erase(std::string_view name) {
    const auto found = entries_.find(name);
    if (found == entries_.end()) return false;
    bytes_ -= found->second.bytes;
    entries_.erase(found);
    return true;
  }
  void clear() {
    entries_.clear();
    bytes_ = 0;
  }
  template <typename Which>
  bool any(Which&& which) const {
    return std::ranges::any_of(entries_, [&](const auto& entry) { return which(entry.second.statement); });
  }
  template <typename Visit>
  void each(Visit&& visit) {
    for (auto& [name, entry] : entries_) visit(entry.statement);
  }
  template <typename Which>
  void erase_if(Which&& which) {
    std::erase_if(entries_, [&](const auto& entry) {
      if (!which(entry.second.statement)) return false;
      bytes_ -= entry.second.bytes;
      return true;
    });
  }

private:
  struct Entry {
    Statement statement;
    std::size_t bytes;  // as it was put: planning anew may change the statement
  };
  std::map<std::string, Entry, std::less<>> entries_;
  std::size_t bytes_ = 0;
};

}  // namespace tessera::proxy
