#include "executor/everywhere.hpp"

#include <fmt/format.h>

#include "wire/postgres/frontend.hpp"

namespace tessera::executor {

using pool::Backend;

class Everywhere::Part final : public Branch {
public:
  Part(Everywhere& everywhere, std::size_t index, const Place& place, const pool::Settings& settings)
      : Branch(everywhere, place, settings), everywhere_(everywhere), index_(index) {}

  bool own() const { return !lent(); }
  std::string_view shard() const { return endpoint()->name; }

  Result<void> send() {
    if (!postgres::append_query(backend_->out(), everywhere_.sql_)) return std::unexpected(too_long());
    backend_->replies().expect({.kind = pool::ReplyKind::query, .delivery = pool::Delivery::ignore});
    backend_->flush();
    return {};
  }

private:
  Result<void> begin(Backend&) override {
    // Those before it may have ended before it has its connection.
    return index_ == everywhere_.done_ || everywhere_.order_ == Order::at_once ? send() : Result<void>();
  }
  void on_relay(std::string_view) override {}
  void on_done(const pool::ExpectedReply&, char type, std::string_view body) override {
    if (index_ != 0 || type != postgres::backend::command_complete || body.empty()) return;
    if (!postgres::append_command_complete(everywhere_.completion_, body.substr(0, body.size() - 1)))
      everywhere_.completion_.clear();
  }
  bool on_ready(const pool::ExpectedReply&, postgres::TransactionStatus) override {
    finished_ = true;
    return false;
  }
  bool on_parameter(std::string_view name, std::string_view value, bool) override {
    if (index_ == 0) everywhere_.events_.parameter(name, value);
    return false;
  }
  bool on_notice(const postgres::ErrorFields& fields, bool) override {
    if (index_ == 0) relay_notice(fields);
    return false;
  }
  void on_backend_turn(Backend&) override {
    if (error_) return everywhere_.part_failed(*error_);
    if (everywhere_.failure_) return everywhere_.failed(*everywhere_.failure_);
    if (!std::exchange(finished_, false)) return;
    check_in();
    everywhere_.part_done();
  }
  bool is_congested() const override { return false; }

  Everywhere& everywhere_;
  const std::size_t index_;
  bool finished_ = false;
};

Everywhere::Everywhere(std::string sql, const std::vector<Place>& places, Order order, const pool::Settings& settings,
                       net::EventLoop& loop, Events events)
    : Execution({}, loop, std::move(events)), sql_(std::move(sql)), order_(order) {
  for (const Place& place : places) {
    auto part = std::make_unique<Part>(*this, parts_.size(), place, settings);
    parts_.push_back(part.get());
    add(std::move(part));
  }
}

void Everywhere::part_done() {
  if (++done_ == parts_.size()) return conclude({});
  if (order_ == Order::at_once || !parts_[done_]->sent()) return;
  if (const Result<void> sent = parts_[done_]->send(); !sent) failed(sent.error());
}

// That what one shard has done another cannot do says that they differ: which one, the server does not know to tell.
void Everywhere::part_failed(Error error) {
  if (order_ == Order::in_turn && done_ > 0) {
    if (!error.detail.empty()) error.detail += '\n';
    error.detail += fmt::format("on shard {}", parts_[done_]->shard());
    if (parts_[done_]->own()) error.detail += "; it has been done on";
    for (std::size_t i = 0; i < done_ && parts_[done_]->own(); ++i)
      error.detail += fmt::format("{} {}", i == 0 ? "" : ",", parts_[i]->shard());
  }
  failed(error);
}

}  // namespace tessera::executor
