// Which prepared statements a server connection holds: least recently used out. Statements are named by their content,
// so that all clients and all workers agree on a name. Pure.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tessera::pool {

// A statement as a client prepared it; immutable, shared by all who prepared the same.
struct PreparedText {
  std::string server_name;  // "tessera_" and 128 bits of SHA-256 over all of the below, in hex
  std::string sql;
  std::vector<std::uint32_t> types;
  // What the session had set, when it was prepared, of the settings that the server applies to literals while it parses
  // (DateStyle, TimeZone, …). Empty without string literals.
  std::string parse_settings;
  // Likewise what decides which tables its names are, and so which types the server has found for its parameters: these
  // it keeps, though it looks the tables up again.
  std::string name_settings;
};
using PreparedTextRef = std::shared_ptr<const PreparedText>;
inline constexpr std::string_view prepared_prefix = "tessera_";

PreparedTextRef make_prepared_text(std::string_view sql, const std::vector<std::uint32_t>& types,
                                   std::string_view parse_settings = {}, std::string_view name_settings = {});

class PreparedCache {
public:
  explicit PreparedCache(std::size_t capacity) : capacity_(capacity) {}
  // Marks it as used.
  bool contains(const std::string& server_name);
  bool knows(const std::string& server_name) const { return by_name_.contains(server_name); }
  // Adds; returns the name of the one that has to be closed on the server to make room.
  std::optional<std::string> insert(const std::string& server_name);
  void erase(const std::string& server_name);
  // The server holds it, but as it was before DDL.
  void erase_stale(const std::string& server_name) {
    erase(server_name);
    stale_.insert(server_name);
  }
  // Must it be closed before it is prepared? (Asked when that is about to happen.)
  bool needs_close(const std::string& server_name) { return stale_.erase(server_name) > 0 || doubtful_; }
  void clear();  // the server holds none
  // A Close or a Parse was skipped by the server: it may hold statements that are not in here. Whoever prepares one
  // closes it first from now on.
  void doubt() { doubtful_ = true; }
  std::size_t size() const { return by_name_.size(); }

private:
  std::size_t capacity_;
  bool doubtful_ = false;
  std::set<std::string> stale_;
  std::list<std::string> by_use_;                                                   // most recent first
  std::unordered_map<std::string_view, std::list<std::string>::iterator> by_name_;  // keys borrow from by_use_
};

}  // namespace tessera::pool
