#include "executor/everywhere.hpp"

#include "wire/postgres/frontend.hpp"

namespace tessera::executor {

using pool::Backend;

class Everywhere::Part final : public Branch {
public:
  Part(Everywhere& everywhere, bool first, const Place& place)
      : Branch(everywhere, place, pool::no_settings()), everywhere_(everywhere), first_(first) {}

  Result<void> send() {
    if (!postgres::append_query(backend_->out(), everywhere_.sql_)) return std::unexpected(too_long());
    backend_->replies().expect({.kind = pool::ReplyKind::query, .delivery = pool::Delivery::ignore});
    backend_->flush();
    return {};
  }

private:
  Result<void> begin(Backend&) override {
    return first_ || everywhere_.order_ == Order::at_once ? send() : Result<void>();
  }
  void on_relay(std::string_view) override {}
  void on_done(const pool::ExpectedReply&, char type, std::string_view body) override {
    if (!first_ || type != postgres::backend::command_complete || body.empty()) return;
    if (!postgres::append_command_complete(everywhere_.completion_, body.substr(0, body.size() - 1)))
      everywhere_.completion_.clear();
  }
  bool on_ready(const pool::ExpectedReply&, postgres::TransactionStatus) override {
    finished_ = true;
    return false;
  }
  bool on_parameter(std::string_view name, std::string_view value, bool) override {
    if (first_) everywhere_.events_.parameter(name, value);
    return false;
  }
  bool on_notice(const postgres::ErrorFields& fields, bool) override {
    if (first_) relay_notice(fields);
    return false;
  }
  void on_backend_turn(Backend&) override {
    if (error_) return everywhere_.failed(*error_);
    if (everywhere_.failure_) return everywhere_.failed(*everywhere_.failure_);
    if (std::exchange(finished_, false)) everywhere_.part_done();
  }
  bool is_congested() const override { return false; }

  Everywhere& everywhere_;
  const bool first_;
  bool finished_ = false;
};

Everywhere::Everywhere(std::string sql, const std::vector<Place>& places, Order order, net::EventLoop& loop,
                       Events events)
    : Execution({}, loop, std::move(events)), sql_(std::move(sql)), order_(order) {
  for (const Place& place : places) {
    auto part = std::make_unique<Part>(*this, parts_.empty(), place);
    parts_.push_back(part.get());
    add(std::move(part));
  }
}

void Everywhere::part_done() {
  if (++done_ == parts_.size()) return conclude({});
  if (order_ == Order::at_once) return;
  if (const Result<void> sent = parts_[done_]->send(); !sent) failed(sent.error());
}

}  // namespace tessera::executor
