// What the outcome of each message that was sent to a server changes in its session: an error undoes what was already
// noted, a success confirms it. Kept under tags, which travel through the reply queue. Pure; owned by its session.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/session_records.hpp"

namespace tessera::proxy {

// What an error must undo, or what a success confirms.
struct Undo {
  bool named = false;  // the client's statement `name` was (re)defined or closed; an empty name: the unnamed one
  std::string name;
  std::optional<PreparedStatement> previous;
  bool was_on_backend = false;     // the unnamed one
  std::uint32_t sent_before = 0;   // …by the Parse of this tag
  std::size_t previous_bytes = 0;  // what it counts for in UndoLog::bytes()
  std::uint32_t unit = 0;          // of the client's messages
  std::string sql_prepared;        // PREPARE of this name was sent
  std::string sql_given;           // likewise, to a server that has not seen it, for the EXECUTE of tag…
  std::uint32_t given_for = 0;     // …this
  bool told = false;               // that EXECUTE: why it fails is known to the client
  std::optional<Renamed> renamed;
  std::string server_name;             // was added to the connection's prepared statements, or taken from them
  router::PlannedTextRef effects;      // statements whose success changes the session
  std::string sql;                     // their text
  std::vector<SettingChange> changes;  // by set_config
  std::size_t next_effect = 0;
  bool delays_planning = false;  // what comes next must wait for it
};

class UndoLog {
public:
  // Tags of Parse messages of the unnamed statement, which need no entry: so marked, and counted by the session.
  static constexpr std::uint32_t unnamed_tag = 1u << 31;
  static constexpr bool is_unnamed(std::uint32_t tag) { return (tag & unnamed_tag) != 0; }

  // A new entry, and its tag. `unit`: of the client's messages.
  Undo& add(std::uint32_t unit, std::uint32_t& tag);
  Undo* find(std::uint32_t tag);
  void forget(std::uint32_t tag);
  void clear();
  bool empty() const { return entries_.empty(); }

  // The entry holds a text of that many bytes.
  void charge(Undo& entry, std::size_t bytes);
  std::size_t bytes() const { return bytes_; }
  void delay_planning(Undo& entry);
  bool delays_planning() const { return delaying_ > 0; }
  // Does what the name means depend on messages of another unit than this?
  bool redefines(std::string_view name, std::uint32_t unit) const;
  // The Parse of that tag, of the unnamed statement, has failed or was skipped: entries that would go back to it, go
  // back to none.
  void unnamed_failed(std::uint32_t tag);
  // The first entry that redefines the name; null: none does.
  Undo* first_redefinition(std::string_view name);
  // What redefines the name behind `tag` will be skipped, too: it has nothing to bring back.
  void drop_redefinitions_behind(std::uint32_t tag, std::string_view name);
  // Is it still open whether the connection holds this statement, but for what `tag` says?
  bool prepares(std::string_view server_name, std::uint32_t tag) const;
  // Likewise, for messages of that unit: what skips its Parse there skips these, too.
  bool prepares_before(std::string_view server_name, std::uint32_t unit) const;

private:
  std::map<std::uint32_t, Undo> entries_;
  std::uint32_t next_tag_ = 1;
  std::size_t bytes_ = 0;
  std::size_t delaying_ = 0;
};

}  // namespace tessera::proxy
