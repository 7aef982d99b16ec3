#include "proxy/lazy_transaction.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

namespace tessera::proxy {

void LazyTransaction::begin(std::string_view sql, const pool::SettingsMap& parameters) {
  state_ = State::open;
  opening_ = chain_ = sql;
  statements_ = chained_ = 0;
  savepoints_.clear();
  parameters_ = parameters;
}

Result<void> LazyTransaction::add(std::string_view sql) {
  if (statements_ >= most_statements || opening_.size() + sql.size() >= most_bytes)
    return std::unexpected(Error{
        sqlstate::program_limit_exceeded, "too many savepoints and settings before the transaction's first statement",
        fmt::format("they are kept until a statement says on which shard the transaction runs: at most {}, of {} bytes",
                    most_statements, most_bytes),
        "roll back, to one of the savepoints or all of it, and send a statement with a sharding key before so many",
        0});
  opening_ += fmt::format(";{}", sql);
  ++statements_;
  return {};
}

void LazyTransaction::hand_on(std::string_view sql) {
  if (savepoints() > 0) return;
  chain_ += fmt::format(";{}", sql);
  ++chained_;
}

Result<void> LazyTransaction::savepoint(std::string_view name, std::string_view sql,
                                        const pool::SettingsMap& parameters) {
  const std::size_t begin = opening_.size();
  if (auto added = add(sql); !added) return added;
  savepoints_.push_back({std::string(name), statements_, begin, opening_.size(), parameters});
  return {};
}

LazyTransaction::Savepoints::const_iterator LazyTransaction::find(std::string_view name) const {
  const auto found = std::ranges::find(savepoints_.rbegin(), savepoints_.rend(), name, &Savepoint::name);
  return found == savepoints_.rend() ? savepoints_.end() : std::prev(found.base());
}

bool LazyTransaction::has_savepoint(std::string_view name) const {
  return find(name) != savepoints_.end();
}

Result<void> LazyTransaction::release(std::string_view name, std::string_view sql) {
  if (auto added = add(sql); !added) return added;
  savepoints_.erase(find(name), savepoints_.cend());
  return {};
}

pool::SettingsMap LazyTransaction::rollback_to(std::string_view name) {
  const auto found = find(name);
  opening_.resize(found->end);
  statements_ = found->statements;
  state_ = State::open;
  pool::SettingsMap parameters = found->parameters;
  savepoints_.erase(std::next(found), savepoints_.cend());
  return parameters;
}

void LazyTransaction::end(bool chain) {
  savepoints_.clear();
  untold_.reset();  // the client has heard of it, or has given the transaction up
  state_ = chain ? State::open : State::none;
  opening_ = chain ? chain_ : std::string();
  statements_ = chained_;
}

void LazyTransaction::lose(std::optional<Error> untold) {
  state_ = State::failed;
  opening_.clear();
  chain_.clear();
  savepoints_.clear();
  parameters_.reset();
  if (untold) untold_ = std::move(untold);
}

void LazyTransaction::record(std::string_view sql) {
  if (recorded() && !add(sql)) forget();
}

void LazyTransaction::record_savepoint(std::string_view name, std::string_view sql,
                                       const pool::SettingsMap& parameters) {
  if (recorded() && !savepoint(name, sql, parameters)) forget();
}

// Who joins later need not hear of a savepoint that was released with nothing behind it: there may be any number.
void LazyTransaction::record_release(std::string_view name, std::string_view sql) {
  const auto found = find(name);
  if (!recorded() || found == savepoints_.end()) return forget();
  if (found->end != opening_.size()) {
    if (!release(name, sql)) forget();
    return;
  }
  opening_.resize(found->begin);
  statements_ = found->statements - 1;
  savepoints_.erase(found, savepoints_.cend());
}

void LazyTransaction::record_rollback_to(std::string_view name) {
  if (!recorded() || !has_savepoint(name)) return forget();
  const State state = state_;
  rollback_to(name);
  state_ = state;
}

void LazyTransaction::forget() {
  opening_.clear();
  chain_.clear();
  savepoints_.clear();
  parameters_.reset();
}

const pool::SettingsMap* LazyTransaction::parameters_before_failure() const {
  if (!savepoints_.empty()) return &savepoints_.back().parameters;
  return parameters_ ? &*parameters_ : nullptr;
}

std::optional<Error> LazyTransaction::take_owed_error() {
  return std::exchange(untold_, std::nullopt);
}

}  // namespace tessera::proxy
