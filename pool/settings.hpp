// Session settings under transaction pooling: what a client has SET is kept as a map from the setting's name to the SQL
// that sets it, and replayed on whichever server connection serves the client next. Immutable maps, shared by pointer:
// a connection that already carries the client's map needs nothing. Pure.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::pool {

// Name (lower case, as in pg_settings; "role", "session_authorization") -> one SQL statement without semicolon.
using SettingsMap = std::map<std::string, std::string, std::less<>>;
using Settings = std::shared_ptr<const SettingsMap>;

// The map of a fresh connection.
const Settings& no_settings();

// SQL that turns a connection with `from` into one with `to`; empty: nothing to do. Identity (role,
// session_authorization) is reset first and set last, since the others may depend on its rights.
std::string settings_change(const SettingsMap& from, const SettingsMap& to);

// `SELECT pg_catalog.set_config(…)`: sets from a plain value, as a start-up packet gives it.
std::string set_config_sql(std::string_view name, std::string_view value);
std::string reset_sql(std::string_view name);
std::string quote_literal(std::string_view text);
std::string quote_identifier(std::string_view name);

// What a session has set, transaction by transaction: SET is undone by ROLLBACK, kept by COMMIT, and savepoints nest.
class SettingsTracker {
public:
  // `base`: from the start-up packet; what RESET goes back to.
  explicit SettingsTracker(Settings base = no_settings());
  const Settings& current() const { return current_; }

  void set(const std::string& name, std::string sql);
  void reset(const std::string& name);  // back to the start-up value
  void reset_all();
  void begin();  // a transaction, also the implicit one of a multi-statement query
  void commit();
  void rollback();
  void savepoint(const std::string& name);
  void release(const std::string& name);
  void rollback_to(const std::string& name);

private:
  struct Mark {
    std::string savepoint;
    Settings settings;  // as they were then
  };
  std::size_t find(const std::string& name) const;
  template <typename Change>
  void change(Change&& apply);

  Settings base_;
  Settings current_;
  bool in_transaction_ = false;
  Settings at_begin_;
  std::vector<Mark> marks_;
};

}  // namespace tessera::pool
