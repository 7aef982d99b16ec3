// A transaction that has begun for the client and on no server yet: with several shards BEGIN says nothing about where
// it will run. Holds what it has been told so far, for the servers that take it up, and what ROLLBACK TO and AND CHAIN
// go back to. When a server has, it goes on recording, for those that join later. Also the transaction whose connection
// was lost: it has failed, and waits for its ROLLBACK.
//
// Pure: no connection, no answers. Owned by its session.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "pool/settings_map.hpp"

namespace tessera::proxy {

class LazyTransaction {
public:
  // A client may send any number of statements that need no server; each savepoint keeps the settings as they were.
  static constexpr std::size_t most_statements = 1000;
  static constexpr std::size_t most_bytes = 256 * 1024;

  bool none() const { return state_ == State::none; }
  bool open() const { return state_ == State::open; }
  bool failed() const { return state_ == State::failed; }

  // `sql`: the client's BEGIN. `parameters`: ParameterStatus as the client knows them.
  void begin(std::string_view sql, const pool::SettingsMap& parameters);
  // Behind BEGIN, for the server that will take it up. An error: there is no room (54000); nothing has changed.
  Result<void> add(std::string_view sql);
  // Added, and a characteristic of the transaction, which AND CHAIN keeps. One that was set behind a savepoint ends
  // with that.
  void hand_on(std::string_view sql);
  Result<void> savepoint(std::string_view name, std::string_view sql, const pool::SettingsMap& parameters);
  bool has_savepoint(std::string_view name) const;
  std::size_t savepoints() const { return savepoints_.size(); }
  // Of a savepoint that there is.
  Result<void> release(std::string_view name, std::string_view sql);
  // Of a savepoint that there is: nothing behind it has happened, the server need not hear of it, and a failed
  // transaction is open again. The parameters as the client knew them there.
  pool::SettingsMap rollback_to(std::string_view name);
  // COMMIT or ROLLBACK; `chain`: the next one has begun, as this one had.
  void end(bool chain);
  void fail() { state_ = State::failed; }
  // Its connection is lost and with it how it had begun. `untold`: why, if the client has not been told.
  void lose(std::optional<Error> untold);
  // A server takes it up. What it was is kept: should that fail, `reopen` leads back.
  void join() { state_ = State::none; }
  void reopen() { state_ = State::open; }

  // ---- on servers ----
  // Can another one join, told `opening()`? Not if more has happened than could be recorded.
  bool recorded() const { return !opening_.empty(); }
  // What has succeeded on its servers, as the functions above.
  void record(std::string_view sql);
  void record_savepoint(std::string_view name, std::string_view sql, const pool::SettingsMap& parameters);
  void record_release(std::string_view name, std::string_view sql);
  void record_rollback_to(std::string_view name);
  // It has ended on its servers, or nobody knows what they have been told.
  void forget();

  // What a server that takes it up is told: BEGIN and what followed.
  const std::string& opening() const { return opening_; }
  // Can AND CHAIN begin the next one? Not if it was lost.
  bool knows_its_beginning() const { return !chain_.empty(); }
  // As the client knew the parameters at BEGIN; none: nobody knows.
  const std::optional<pool::SettingsMap>& parameters_at_begin() const { return parameters_; }
  // …and where the transaction goes back to when it fails: its last savepoint, or BEGIN. Null: nobody knows.
  const pool::SettingsMap* parameters_before_failure() const;
  bool owes_error() const { return untold_.has_value(); }
  std::optional<Error> take_owed_error();

private:
  enum class State : std::uint8_t { none, open, failed };
  struct Savepoint {
    std::string name;
    std::size_t statements, begin, end;  // behind BEGIN up to it, and where it is in opening_
    pool::SettingsMap parameters;
  };
  using Savepoints = std::vector<Savepoint>;
  Savepoints::const_iterator find(std::string_view name) const;  // the last one of that name

  State state_ = State::none;
  std::string opening_;
  std::size_t statements_ = 0;  // behind BEGIN
  std::string chain_;           // what AND CHAIN begins the next one with; empty: nobody knows
  std::size_t chained_ = 0;     // statements of it behind BEGIN
  Savepoints savepoints_;
  std::optional<pool::SettingsMap> parameters_;
  std::optional<Error> untold_;
};

}  // namespace tessera::proxy
