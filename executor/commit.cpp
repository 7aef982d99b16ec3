#include "executor/commit.hpp"

#include <algorithm>
#include <fmt/format.h>

#include "wire/postgres/frontend.hpp"

namespace tessera::executor {

using pool::Backend;

class Commit::Part final : public Branch {
public:
  Part(Commit& commit, std::size_t index, const Place& place)
      : Branch(commit, place, pool::no_settings()),
        commit_(commit),
        index_(index),
        shard_(place.lent->endpoint().name) {}

  enum class State : std::uint8_t { waiting, committing, rolling_back, committed, undone, unknown };
  State state() const { return state_; }
  bool ended() const { return state_ >= State::committed; }
  const std::string& shard() const { return shard_; }
  void commit() { send("COMMIT", State::committing); }
  void roll_back() { send("ROLLBACK", State::rolling_back); }

private:
  Result<void> begin(Backend&) override { return {}; }  // in its turn
  void on_relay(std::string_view) override {}
  bool on_parameter(std::string_view name, std::string_view value, bool) override {
    if (index_ == 0) commit_.events_.parameter(name, value);
    return false;
  }
  bool on_notice(const postgres::ErrorFields& fields, bool) override {
    if (index_ == 0) relay_notice(fields);
    return false;
  }
  bool on_ready(const pool::ExpectedReply&, postgres::TransactionStatus) override {
    finished_ = true;
    return false;
  }
  void on_backend_turn(Backend&) override {
    if (!std::exchange(finished_, false)) return;
    const bool committed = state_ == State::committing && !error_;
    if (!committed && !commit_.reason_ && error_) commit_.reason_ = error_;
    state_ = committed ? State::committed : State::undone;
    commit_.part_ended();
  }
  void on_backend_lost(Backend& backend, const Error& reason) override {
    backend_ = nullptr;
    commit_.events_.lost(backend);
    if (ended()) return;  // its answer was there
    if (!commit_.reason_) commit_.reason_ = error_.value_or(reason);
    state_ = state_ == State::committing ? State::unknown : State::undone;
    commit_.part_ended();
  }
  bool is_congested() const override { return false; }

  void send(std::string_view command, State state) {
    state_ = state;
    if (!postgres::append_query(backend_->out(), command)) return;
    backend_->replies().expect({.kind = pool::ReplyKind::query, .delivery = pool::Delivery::ignore});
    backend_->flush();
  }

  Commit& commit_;
  const std::size_t index_;
  const std::string shard_;
  State state_ = State::waiting;
  bool finished_ = false;
};

Commit::Commit(const std::vector<Place>& places, net::EventLoop& loop, Events events)
    : Execution({}, loop, std::move(events)) {
  for (const Place& place : places) {
    auto part = std::make_unique<Part>(*this, parts_.size(), place);
    parts_.push_back(part.get());
    add(std::move(part));
  }
}

void Commit::part_ended() {
  if (!std::ranges::all_of(parts_, &Part::ended)) return go_on();
  if (reason_) return conclude(std::unexpected(outcome()));
  if (!postgres::append_command_complete(completion_, "COMMIT")) completion_.clear();
  conclude({});
}

// The next COMMIT when the one before has gone well; ROLLBACK for all that wait when one has not.
void Commit::go_on() {
  const bool committing = std::ranges::find(parts_, Part::State::committing, &Part::state) != parts_.end();
  for (Part* part : parts_) {
    if (part->state() != Part::State::waiting) continue;
    if (reason_) {
      part->roll_back();
    } else {
      if (!committing) part->commit();
      return;
    }
  }
}

// What has become of a transaction that could not be completed. Undone everywhere: its error is the server's.
Error Commit::outcome() const {
  const auto shards = [this](Part::State state) {
    std::string names;
    for (const Part* part : parts_)
      if (part->state() == state) names += fmt::format("{}\"{}\"", names.empty() ? "" : ", ", part->shard());
    return names;
  };
  const std::string committed = shards(Part::State::committed), unknown = shards(Part::State::unknown);
  if (committed.empty() && unknown.empty()) return *reason_;
  std::string detail;
  if (!committed.empty()) detail += fmt::format("committed on {}; ", committed);
  if (!unknown.empty()) detail += fmt::format("perhaps committed on {}; ", unknown);
  if (const std::string undone = shards(Part::State::undone); !undone.empty())
    detail += fmt::format("rolled back on {}; ", undone);
  return {sqlstate::transaction_resolution_unknown,
          "the transaction may have been committed on some of its shards only",
          fmt::format("{}reason: {}", detail, reason_->message), "look at the data before repeating it", 0};
}

}  // namespace tessera::executor
