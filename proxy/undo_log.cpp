#include "proxy/undo_log.hpp"

#include <algorithm>

namespace tessera::proxy {

Undo& UndoLog::add(std::uint32_t unit, std::uint32_t& tag) {
  tag = next_tag_++;
  if (is_unnamed(next_tag_)) next_tag_ = 1;
  Undo& entry = entries_[tag];
  entry.unit = unit;
  return entry;
}

Undo* UndoLog::find(std::uint32_t tag) {
  const auto found = entries_.find(tag);
  return found == entries_.end() ? nullptr : &found->second;
}

void UndoLog::forget(std::uint32_t tag) {
  const auto found = entries_.find(tag);
  if (found == entries_.end()) return;
  if (found->second.delays_planning) --delaying_;
  bytes_ -= found->second.previous_bytes;
  entries_.erase(found);
}

void UndoLog::clear() {
  entries_.clear();
  bytes_ = delaying_ = 0;
}

void UndoLog::charge(Undo& entry, std::size_t bytes) {
  entry.previous_bytes += bytes;
  bytes_ += bytes;
}

void UndoLog::delay_planning(Undo& entry) {
  if (entry.delays_planning) return;
  entry.delays_planning = true;
  ++delaying_;
}

bool UndoLog::redefines(std::string_view name, std::uint32_t unit) const {
  return std::ranges::any_of(entries_, [&](const auto& entry) {
    const Undo& undo = entry.second;
    return undo.named && undo.unit != unit && undo.name == name;
  });
}

void UndoLog::unnamed_failed(std::uint32_t tag) {
  for (auto& [unused, entry] : entries_)
    if (entry.sent_before == tag) entry.was_on_backend = false;
}

Undo* UndoLog::first_redefinition(std::string_view name) {
  const auto found = std::ranges::find_if(
      entries_, [&](const auto& entry) { return entry.second.named && entry.second.name == name; });
  return found == entries_.end() ? nullptr : &found->second;
}

void UndoLog::drop_redefinitions_behind(std::uint32_t tag, std::string_view name) {
  for (auto entry = entries_.upper_bound(tag); entry != entries_.end(); ++entry)
    if (entry->second.name == name) entry->second.named = false;
}

bool UndoLog::prepares(std::string_view server_name, std::uint32_t tag) const {
  return std::ranges::any_of(
      entries_, [&](const auto& entry) { return entry.first != tag && entry.second.server_name == server_name; });
}

bool UndoLog::prepares_before(std::string_view server_name, std::uint32_t unit) const {
  return std::ranges::any_of(entries_, [&](const auto& entry) {
    return entry.second.unit != unit && entry.second.server_name == server_name;
  });
}

}  // namespace tessera::proxy
