#include "executor/explain.hpp"

#include <fmt/format.h>

#include "pool/text_rows.hpp"
#include "wire/postgres/frontend.hpp"

namespace tessera::executor {

using pool::Backend;
using pool::Delivery;
using pool::ReplyKind;

class Explain::Part final : public Branch {
public:
  Part(Explain& explain, std::size_t index, const Share& share, const pool::Settings& settings)
      : Branch(explain, share.place, settings), explain_(explain), index_(index), questions_(share.questions) {}

  const std::vector<Answer>& answers() const { return answers_; }

  Result<void> send(Backend& backend) {
    std::string buffer("\0\0", 2);  // portal and statement: the unnamed ones
    buffer += explain_.request_.bind.empty() ? std::string(6, '\0') : explain_.request_.bind;
    postgres::BindView values;
    if (!postgres::parse_bind(buffer, values)) return std::unexpected(postgres::invalid_message("Bind"));
    for (const Question& question : questions_) {
      if (!append(question, values, backend.out())) return std::unexpected(too_long());
      backend.replies().expect({.kind = ReplyKind::parse, .delivery = Delivery::ignore});
      backend.replies().expect({.kind = ReplyKind::bind, .delivery = Delivery::ignore});
      backend.replies().expect({.kind = ReplyKind::execute, .hide_completion = true, .ordered = true});
    }
    postgres::append_sync(backend.out());
    backend.replies().expect({.kind = ReplyKind::sync, .delivery = Delivery::ignore});
    since_ = Clock::now();
    return {};
  }

private:
  Result<void> begin(Backend& backend) override {
    return index_ == explain_.done_ || explain_.order_ == Order::at_once ? send(backend) : Result<void>();
  }

  bool append(const Question& question, const postgres::BindView& all, std::string& out) const {
    const Request& request = explain_.request_;
    const std::string& sql = question.sql.empty() ? request.sql : question.sql;
    if (!question.parameters)
      return postgres::append_parse(out, "", sql, request.types) &&
             postgres::append_bind(out, "", "", all.parameters, {all.parameter_formats, {}}) &&
             postgres::append_execute(out, "");
    constexpr postgres::Oid text = 25;
    std::vector<postgres::Oid> types;
    std::vector<postgres::Value> values;
    std::vector<std::int16_t> formats;
    for (const int number : *question.parameters) {
      const std::size_t index = number > 0 ? static_cast<std::size_t>(number - 1) : SIZE_MAX;
      types.push_back(number == 0 ? text : index < request.types.size() ? request.types[index] : 0);
      values.push_back(index < all.parameters.size() ? all.parameters[index] : std::nullopt);
      const bool given = index < all.parameters.size();
      formats.push_back(static_cast<std::int16_t>(
          given ? postgres::format_of(all.parameter_formats, index).value_or(postgres::Format::text)
                : postgres::Format::text));
    }
    return postgres::append_parse(out, "", sql, types) && postgres::append_bind(out, "", "", values, {formats, {}}) &&
           postgres::append_execute(out, "");
  }

  void on_relay(std::string_view bytes) override {
    rows_.take(bytes, answer_);
    explain_.kept_ += bytes.size();
    if (explain_.kept_ > most_bytes && !error_)
      error_ =
          Error{sqlstate::configuration_limit_exceeded, "the plans of the shards are too long to be held", {}, {}, 0};
  }
  void on_done(const pool::ExpectedReply& expected, char, std::string_view) override {
    if (expected.kind == ReplyKind::bind && index_ == 0)
      explain_.events_.relay(std::exchange(explain_.request_.bound, {}));
    if (expected.kind != ReplyKind::execute) return;
    const TimePoint now = Clock::now();
    Answer& answer = answers_.emplace_back();
    answer.took = now - std::exchange(since_, now);
    for (pool::TextRows::Row& row : std::exchange(answer_, {}))
      if (!row.empty()) answer.lines.push_back(std::move(row.front()).value_or(""));
  }
  bool on_error(const pool::ExpectedReply& expected, const postgres::ErrorFields& fields) override {
    if (error_ || fields.is_fatal()) return Branch::on_error(expected, fields);
    Branch::on_error(expected, fields);
    if (answers_.size() < questions_.size()) error_->position = in_client_text(questions_[answers_.size()], *error_);
    error_ = placed(*error_);
    return false;
  }
  void on_backend_lost(Backend& backend, const Error& reason) override {
    if (!error_) error_ = placed(reason);
    Branch::on_backend_lost(backend, reason);
  }
  static int in_client_text(const Question& question, const Error& error) {
    if (question.sql.empty()) return error.position;
    return question.client_position ? question.client_position(error.position) : 0;
  }
  Error placed(Error error) const {
    error.detail += fmt::format("{}on shard {}", error.detail.empty() ? "" : "\n", endpoint()->name);
    return error;
  }
  bool on_notice(const postgres::ErrorFields& fields, bool forwarding) override {
    if (forwarding) relay_notice(fields);
    return false;
  }
  bool on_ready(const pool::ExpectedReply&, postgres::TransactionStatus) override {
    finished_ = true;
    return false;
  }
  void on_backend_turn(Backend&) override {
    if (error_) return explain_.failed(*error_);
    if (explain_.failure_) return explain_.failed(*explain_.failure_);
    if (!std::exchange(finished_, false)) return;
    check_in();
    explain_.part_done();
  }
  bool is_congested() const override { return false; }

  Explain& explain_;
  const std::size_t index_;
  const std::vector<Question> questions_;
  pool::TextRows rows_;
  std::vector<pool::TextRows::Row> answer_;  // that is coming
  std::vector<Answer> answers_;
  TimePoint since_{};
  bool finished_ = false;
};

Explain::Explain(Request request, const std::vector<Share>& shares, Order order, const pool::Settings& settings,
                 net::EventLoop& loop, Events events)
    : Execution(std::move(request), loop, std::move(events)), order_(order) {
  for (const Share& share : shares) {
    auto part = std::make_unique<Part>(*this, parts_.size(), share, settings);
    parts_.push_back(part.get());
    add(std::move(part));
  }
}

std::vector<std::vector<Explain::Answer>> Explain::answers() const {
  std::vector<std::vector<Answer>> all;
  for (const Part* part : parts_) all.push_back(part->answers());
  return all;
}

void Explain::part_done() {
  if (++done_ == parts_.size()) return conclude({});
  if (order_ == Order::at_once || !parts_[done_]->sent()) return;
  Backend& next = *parts_[done_]->backend();
  if (const Result<void> sent = parts_[done_]->send(next); !sent) return failed(sent.error());
  next.flush();
}

}  // namespace tessera::executor
