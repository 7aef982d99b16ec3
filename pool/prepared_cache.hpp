// Which prepared statements a server connection holds: least recently used out. Statements are named by their content,
// so that all clients and all workers agree on a name. Pure.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tessera::pool {

// A statement as a client prepared it; immutable, shared by all who prepared the same.
struct PreparedText {
  std::string server_name;  // "tessera_" and 128 bits of SHA-256 over text and types, in hex
  std::string sql;
  std::vector<std::uint32_t> types;
};
using PreparedTextRef = std::shared_ptr<const PreparedText>;
inline constexpr std::string_view prepared_prefix = "tessera_";

PreparedTextRef make_prepared_text(std::string_view sql, const std::vector<std::uint32_t>& types);

class PreparedCache {
public:
  explicit PreparedCache(std::size_t capacity) : capacity_(capacity) {}
  // Marks it as used.
  bool contains(const std::string& server_name);
  // Adds; returns the name of the one that has to be closed on the server to make room.
  std::optional<std::string> insert(const std::string& server_name);
  void erase(const std::string& server_name);
  void clear();
  // A Close or a Parse was skipped by the server: it may hold statements that are not in here. Whoever prepares one
  // closes it first from now on.
  void doubt() { doubtful_ = true; }
  bool doubtful() const { return doubtful_; }
  std::size_t size() const { return by_name_.size(); }

private:
  std::size_t capacity_;
  bool doubtful_ = false;
  std::list<std::string> by_use_;                                                   // most recent first
  std::unordered_map<std::string_view, std::list<std::string>::iterator> by_name_;  // keys borrow from by_use_
};

}  // namespace tessera::pool
