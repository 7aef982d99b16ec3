#include "pool/settings.hpp"

#include <algorithm>
#include <cctype>
#include <fmt/format.h>
#include <unordered_map>

namespace tessera::pool {

const Settings& no_settings() {
  static const Settings empty = std::make_shared<const SettingsMap>();
  return empty;
}

namespace {
bool is_identity(std::string_view name) {
  return name == "role" || name == "session_authorization";
}
}  // namespace

std::string quote_literal(std::string_view text) {
  const bool backslash = text.find('\\') != std::string_view::npos;
  std::string quoted = backslash ? " E'" : "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += c;
    quoted += c;
  }
  return quoted + '\'';
}

std::string quote_identifier(std::string_view name) {
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"') quoted += c;
    quoted += c;
  }
  return quoted + '"';
}

std::string set_config_sql(std::string_view name, std::string_view value) {
  return fmt::format("SELECT pg_catalog.set_config({}, {}, false)", quote_literal(name), quote_literal(value));
}

std::string reset_sql(std::string_view name) {
  if (name == "session_authorization") return "RESET SESSION AUTHORIZATION";
  if (name == "role") return "RESET ROLE";
  std::string quoted;
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t dot = std::min(name.find('.', at), name.size());
    quoted += (at == 0 ? "" : ".") + quote_identifier(name.substr(at, dot - at));
    at = dot + 1;
  }
  return "RESET " + quoted;
}

std::string settings_change(const SettingsMap& from, const SettingsMap& to) {
  std::string identity_resets, resets, sets, authorization, role;
  for (const auto& [name, before, after] : SettingsMap::differences(from, to)) {
    if (before != nullptr && (after == nullptr || is_identity(name)))
      (is_identity(name) ? identity_resets : resets) += reset_sql(name) + ';';
    if (after == nullptr) continue;
    (name == "session_authorization" ? authorization : name == "role" ? role : sets) += *after + ';';
  }
  // A new session authorization makes the server forget the role, also one that stays the same.
  const bool new_authorization = from.value("session_authorization") != to.value("session_authorization");
  if (const auto* kept = to.find("role"); kept != nullptr && new_authorization) role = kept->second + ';';
  return identity_resets + resets + sets + authorization + role;
}

Settings interned(Settings map) {
  constexpr std::size_t most_known = 10'000;
  thread_local std::unordered_map<std::size_t, std::weak_ptr<const SettingsMap>> known;
  const std::size_t hash = map->hash();
  if (const auto found = known.find(hash); found != known.end())
    if (Settings there = found->second.lock(); there && *there == *map) return there;
  if (known.size() >= most_known) std::erase_if(known, [](const auto& entry) { return entry.second.expired(); });
  if (known.size() < most_known) known[hash] = map;
  return map;
}

SettingsTracker::SettingsTracker(Settings base)
    : base_(interned(std::move(base))), state_{base_, no_settings(), no_settings(), no_settings()} {}

template <typename Change>
void SettingsTracker::change(Settings& map, Change&& apply) {
  auto copy = std::make_shared<SettingsMap>(*map);
  apply(*copy);
  if (*copy == *map) return;
  ++revision_;
  if (*copy == *base_)
    map = base_;
  else
    map = interned(std::move(copy));
}

void SettingsTracker::become(State state) {
  if (state.settings != state_.settings || state.local != state_.local || state.temporary != state_.temporary ||
      state.channels != state_.channels || state.ours != state_.ours)
    ++revision_;
  state_ = std::move(state);
}

std::string_view SettingsTracker::effective(std::string_view name) const {
  if (const auto* found = state_.local->find(name)) return found->second;
  return state_.settings->value(name);
}

void SettingsTracker::set(const std::string& name, std::string sql) {
  change(state_.local, [&](SettingsMap& map) { map.erase(name); });
  change(state_.settings, [&](SettingsMap& map) { map.set(name, sql); });
}

void SettingsTracker::set_local(const std::string& name, std::string sql) {
  if (!in_transaction_) return;  // the server warns, and forgets it with the statement
  change(state_.local, [&](SettingsMap& map) { map.set(name, sql); });
}

void SettingsTracker::set_ours(const std::string& name, std::string value, bool local) {
  if (local) return set_local(name, std::move(value));
  change(state_.local, [&](SettingsMap& map) { map.erase(name); });
  change(state_.ours, [&](SettingsMap& map) { map.set(name, value); });
}

std::string_view SettingsTracker::ours(std::string_view name) const {
  if (const auto* found = state_.local->find(name)) return found->second;
  return state_.ours->value(name);
}

void SettingsTracker::reset(const std::string& name) {
  change(state_.local, [&](SettingsMap& map) { map.erase(name); });
  change(state_.ours, [&](SettingsMap& map) { map.erase(name); });
  change(state_.settings, [&](SettingsMap& map) {
    if (const auto* base = base_->find(name))
      map.set(name, base->second);
    else
      map.erase(name);
    if (name == "session_authorization") map.erase("role");
  });
}

void SettingsTracker::reset_all() {
  // RESET ALL leaves the identity alone (guc.c: GUC_NO_RESET_ALL).
  const auto keep_identity = [](SettingsMap& map, SettingsMap kept) {
    for (const char* name : {"role", "session_authorization"})
      if (const auto* found = map.find(name)) kept.set(name, found->second);
    map = std::move(kept);
  };
  change(state_.local, [&](SettingsMap& map) { keep_identity(map, {}); });
  change(state_.ours, [](SettingsMap& map) { map.clear(); });
  change(state_.settings, [&](SettingsMap& map) { keep_identity(map, *base_); });
}

void SettingsTracker::add_temporary(const std::string& name, bool until_commit) {
  // Outside of a transaction ON COMMIT DROP comes at once.
  if (until_commit && !in_transaction_) return;
  change(state_.temporary, [&](SettingsMap& map) { map.set(name, until_commit ? "commit" : ""); });
}

void SettingsTracker::drop_temporary(const std::string& name) {
  change(state_.temporary, [&](SettingsMap& map) { map.erase(name); });
}

void SettingsTracker::drop_all_temporary() {
  change(state_.temporary, [](SettingsMap& map) { map.clear(); });
}

void SettingsTracker::listen(const std::string& channel) {
  note_channel(channel);
  change(state_.channels, [&](SettingsMap& map) { map.set(channel, ""); });
}

void SettingsTracker::unlisten(const std::string& channel) {
  note_channel(channel);
  change(state_.channels, [&](SettingsMap& map) { map.erase(channel); });
}

void SettingsTracker::unlisten_all() {
  for (const auto& [channel, unused] : channels()) note_channel(channel);
  change(state_.channels, [](SettingsMap& map) { map.clear(); });
}

std::vector<std::string> SettingsTracker::channels_given_up() {
  std::vector<std::string> given_up;
  for (const std::string& channel : std::exchange(unsettled_, {}))
    if (!channels().contains(channel)) given_up.push_back(channel);
  return given_up;
}

std::string SettingsTracker::local_sql() const {
  std::string sql;
  for (const auto& [name, text] : *state_.local) {
    if (is_ours(name) || name.starts_with("transaction_")) continue;
    sql += text.empty() ? "SET LOCAL " + name + " TO DEFAULT; " : text + "; ";
  }
  return sql;
}

void SettingsTracker::begin() {
  if (in_transaction_) return;
  in_transaction_ = true;
  at_begin_ = state_;
}

void SettingsTracker::commit() {
  if (!state_.temporary->empty())
    change(state_.temporary, [](SettingsMap& map) {
      for (const auto& [name, until] : SettingsMap(map))
        if (until == "commit") map.erase(name);
    });
  end();
}

void SettingsTracker::rollback() {
  if (in_transaction_) become(at_begin_);
  end();
}

void SettingsTracker::end() {
  in_transaction_ = false;
  if (!state_.local->empty()) change(state_.local, [](SettingsMap& map) { map.clear(); });
  at_begin_ = {};
  marks_.clear();
}

void SettingsTracker::savepoint(const std::string& name) {
  if (in_transaction_) marks_.push_back({name, state_});
}

std::size_t SettingsTracker::find(const std::string& name) const {
  std::size_t at = marks_.size();
  while (at > 0 && marks_[at - 1].savepoint != name) --at;
  return at;  // one past the mark; 0: none
}

void SettingsTracker::release(const std::string& name) {
  if (const std::size_t at = find(name); at > 0) marks_.resize(at - 1);
}

void SettingsTracker::rollback_to(const std::string& name) {
  const std::size_t at = find(name);
  if (at == 0) return;
  become(marks_[at - 1].state);
  marks_.resize(at);
}

}  // namespace tessera::pool
