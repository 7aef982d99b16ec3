#include "pool/prepared_cache.hpp"

#include "base/crypto.hpp"

namespace tessera::pool {

PreparedTextRef make_prepared_text(std::string_view sql, const std::vector<std::uint32_t>& types,
                                   std::string_view parse_settings, std::string_view name_settings) {
  // The counts come first and in full, so that no text can be taken for types, or the other way round.
  const std::uint64_t counts[] = {types.size(), parse_settings.size(), name_settings.size()};
  std::string content(reinterpret_cast<const char*>(counts), sizeof counts);
  content.append(reinterpret_cast<const char*>(types.data()), types.size() * sizeof(std::uint32_t));
  content += parse_settings;
  content += name_settings;
  content += sql;
  const Sha256Digest digest = sha256(content);
  auto text = std::make_shared<PreparedText>();
  text->server_name = std::string(prepared_prefix) + hex(as_view(digest).substr(0, 16));
  text->sql = sql;
  text->types = types;
  text->parse_settings = parse_settings;
  text->name_settings = name_settings;
  return text;
}

bool PreparedCache::contains(const std::string& server_name) {
  const auto found = by_name_.find(server_name);
  if (found == by_name_.end()) return false;
  by_use_.splice(by_use_.begin(), by_use_, found->second);
  return true;
}

std::optional<std::string> PreparedCache::insert(const std::string& server_name) {
  if (contains(server_name)) return {};
  std::optional<std::string> evicted;
  if (by_name_.size() >= capacity_ && !by_use_.empty()) {
    evicted = by_use_.back();
    erase(*evicted);
  }
  by_use_.push_front(server_name);
  by_name_.emplace(by_use_.front(), by_use_.begin());
  return evicted;
}

void PreparedCache::erase(const std::string& server_name) {
  const auto found = by_name_.find(server_name);
  if (found == by_name_.end()) return;
  const auto at = found->second;
  by_name_.erase(found);
  by_use_.erase(at);
}

void PreparedCache::clear() {
  stale_.clear();
  by_name_.clear();
  by_use_.clear();
  doubtful_ = false;
}

}  // namespace tessera::pool
