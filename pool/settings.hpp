// Session settings under transaction pooling: what a client has SET is kept as a map from the setting's name to the SQL
// that sets it, and replayed on whichever server connection serves the client next. Immutable maps, shared by pointer:
// a connection that already carries the client's map needs nothing. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "pool/settings_map.hpp"

namespace tessera::pool {

// Name (lower case, as in pg_settings; "role", "session_authorization") -> one SQL statement without semicolon.
using Settings = std::shared_ptr<const SettingsMap>;

// ParameterStatus values by name.
using ParameterMap = std::map<std::string, std::string, std::less<>>;

// The map of a fresh connection.
const Settings& no_settings();

// The same map for all of this thread who have the same settings, so that comparing pointers is mostly enough.
Settings interned(Settings map);

// SQL that turns a connection with `from` into one with `to`; empty: nothing to do. Identity (role,
// session_authorization) is reset first and set last, since the others may depend on its rights.
std::string settings_change(const SettingsMap& from, const SettingsMap& to);

// `SELECT pg_catalog.set_config(…)`: sets from a plain value, as a start-up packet gives it.
std::string set_config_sql(std::string_view name, std::string_view value);
std::string reset_sql(std::string_view name);
std::string quote_literal(std::string_view text);
std::string quote_identifier(std::string_view name);

// A setting of Tessera's own, which no server knows.
inline bool is_ours(std::string_view setting) {
  return setting.starts_with("tessera.");
}

// What a session has changed, transaction by transaction: SET is undone by ROLLBACK, kept by COMMIT, and savepoints
// nest. The same holds for the names of temporary objects and for the channels that it listens to.
class SettingsTracker {
public:
  // `base`: from the start-up packet; what RESET goes back to.
  explicit SettingsTracker(Settings base = no_settings());
  // What has to be replayed on another connection. (Not what set_ours has set.)
  const Settings& current() const { return state_.settings; }
  // …and where the transaction at hand has not begun yet.
  const Settings& at_begin() const { return in_transaction_ ? at_begin_.settings : state_.settings; }
  // The SQL that set it last, SET LOCAL included. Empty: the server's default, or the start-up packet's value is gone.
  std::string_view effective(std::string_view name) const;
  // SET LOCAL statements, each with its semicolon, that tell another transaction what this one has been told. (Not what
  // the transaction itself is: isolation, read only.)
  std::string local_sql() const;
  // Something of it goes with the transaction: SET LOCAL, ON COMMIT DROP.
  bool ends_with_transaction() const { return !state_.local->empty() || !state_.temporary->empty(); }
  // Grows with every change, SET LOCAL and temporary names included.
  std::uint64_t revision() const { return revision_; }
  // Names of temporary objects that exist now.
  const SettingsMap& temporary() const { return *state_.temporary; }

  void set(const std::string& name, std::string sql);
  void set_local(const std::string& name, std::string sql);  // empty: to the default
  // A setting that the proxy keeps for itself: begins and ends like any other, and no server hears of it.
  void set_ours(const std::string& name, std::string value, bool local);
  std::string_view ours(std::string_view name) const;
  void reset(const std::string& name);  // back to the start-up value
  void reset_all();
  // A temporary object was made; `until_commit`: ON COMMIT DROP.
  void add_temporary(const std::string& name, bool until_commit);
  void drop_temporary(const std::string& name);
  void drop_all_temporary();
  // LISTEN. The channels as they will be if the transaction at hand commits; the values mean nothing.
  const SettingsMap& channels() const { return *state_.channels; }
  void listen(const std::string& channel);
  void unlisten(const std::string& channel);
  void unlisten_all();
  // Somebody was asked to hear the channel for this session, whether its LISTEN comes about or not.
  void note_channel(const std::string& channel) { unsettled_.insert(channel); }
  // Channels that may have to be given up now, when no transaction is open: those that were noted or changed since the
  // last call, and are not listened to. All others are as they were: a transaction that has none of this costs nothing.
  std::vector<std::string> channels_given_up();
  void begin();  // a transaction, also the implicit one of a multi-statement query
  void commit();
  void rollback();
  void savepoint(const std::string& name);
  void release(const std::string& name);
  void rollback_to(const std::string& name);

private:
  struct State {
    Settings settings;
    Settings local;      // SET LOCAL
    Settings temporary;  // name -> "commit" if it goes then
    Settings channels;
    Settings ours = no_settings();
  };
  struct Mark {
    std::string savepoint;
    State state;  // as it was then
  };
  std::size_t find(const std::string& name) const;
  template <typename Change>
  void change(Settings& map, Change&& apply);
  void become(State state);
  void end();

  Settings base_;
  State state_;
  std::uint64_t revision_ = 0;
  bool in_transaction_ = false;
  State at_begin_;
  std::vector<Mark> marks_;
  std::set<std::string> unsettled_;  // channels
};

}  // namespace tessera::pool
