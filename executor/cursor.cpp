#include "executor/cursor.hpp"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include "executor/columns.hpp"
#include "executor/sender.hpp"
#include "wire/postgres/backend.hpp"

namespace tessera::executor {

using pool::Backend;
using pool::Delivery;
using pool::ReplyKind;
using Direction = parser::Cursor::Direction;

// ---- KeptConnection -------------------------------------------------------------------------------------------------

KeptConnection::KeptConnection(pool::Pool& pool, Backend& backend) : pool_(pool), backend_(&backend) {
  pool_.hold();
  backend.lease(*this);
}

KeptConnection::~KeptConnection() {
  if (backend_ != nullptr) pool_.roll_back(*backend_);
  pool_.release_hold();
}

// ---- Cursor ---------------------------------------------------------------------------------------------------------

std::string Cursor::declaration(std::string_view query) const {
  return fmt::format("DECLARE {} {}SCROLL CURSOR FOR {}", name, scroll ? "" : "NO ", query);
}

// ---- OpenCursor -----------------------------------------------------------------------------------------------------

class OpenCursor::Part final : public Branch {
public:
  Part(OpenCursor& open, const Place& place)
      : Branch(open, place, pool::no_settings()), open_(open), first_(open.parts_.empty()) {}

  const std::string& description() const { return description_; }

private:
  Result<void> begin(Backend& backend) override {
    const Request& request = open_.request_;
    postgres::BindView values;
    std::string buffer;
    if (!parse_parameters(request.bind, buffer, values)) return std::unexpected(postgres::invalid_message("Bind"));
    Sender sender(backend);
    sender.parse(open_.cursor_.declaration(request.sql), request.types);
    sender.bind(values, {});
    sender.execute({.delivery = Delivery::ignore});
    sender.describe('P', open_.cursor_.name);
    sender.sync(0);
    return sender.sent();
  }
  void on_relay(std::string_view bytes) override { description_.append(bytes); }
  void on_done(const pool::ExpectedReply& expected, char, std::string_view) override {
    if (expected.kind == ReplyKind::bind && first_) open_.events_.relay(open_.request_.bound);
  }
  bool on_error(const pool::ExpectedReply& expected, const postgres::ErrorFields& fields) override {
    Branch::on_error(expected, fields);
    const int before = static_cast<int>(open_.cursor_.declaration({}).size());
    if (error_) error_->position = std::max(0, error_->position - before);
    return false;
  }
  bool on_notice(const postgres::ErrorFields& fields, bool) override {
    if (first_) relay_notice(fields);
    return false;
  }
  bool on_ready(const pool::ExpectedReply&, postgres::TransactionStatus) override {
    finished_ = true;
    return false;
  }
  void on_backend_turn(Backend&) override {
    if (error_) return open_.failed(*error_);
    if (open_.failure_) return open_.failed(*open_.failure_);
    if (std::exchange(finished_, false)) open_.part_done();
  }
  bool is_congested() const override { return false; }

  OpenCursor& open_;
  const bool first_;
  std::string description_;
  bool finished_ = false;
};

OpenCursor::OpenCursor(Request request, Cursor& cursor, const std::vector<Place>& places, net::EventLoop& loop,
                       Events events)
    : Execution(std::move(request), loop, std::move(events)), cursor_(cursor) {
  for (const Place& place : places) {
    auto part = std::make_unique<Part>(*this, place);
    parts_.push_back(part.get());
    add(std::move(part));
  }
}

void OpenCursor::part_done() {
  if (++done_ < parts_.size()) return;
  const std::string& columns = parts_.front()->description();
  const auto same = [&columns](const Part* part) { return same_columns(columns, part->description()); };
  if (!std::ranges::all_of(parts_, same)) return failed(different_columns());
  cursor_.description = columns;
  if (!postgres::append_command_complete(completion_, "DECLARE CURSOR")) completion_.clear();
  conclude({});
}

// ---- ReadCursor -----------------------------------------------------------------------------------------------------

namespace {

std::string_view name_of(Direction direction) {
  switch (direction) {
    case Direction::forward:
      return "FORWARD";
    case Direction::backward:
      return "BACKWARD";
    case Direction::absolute:
      return "ABSOLUTE";
    case Direction::relative:
      return "RELATIVE";
  }
  return {};
}

std::int64_t rows_of(std::string_view tag) {
  std::int64_t rows = 0;
  const std::size_t digits = tag.find_last_not_of("0123456789") + 1;
  std::from_chars(tag.data() + digits, tag.data() + tag.size(), rows);
  return rows;
}

}  // namespace

class ReadCursor::Part final : public Branch {
public:
  Part(ReadCursor& read, const Place& place) : Branch(read, place, pool::no_settings()), read_(read) {}

  void ask(std::int64_t count) {
    const Portion& portion = read_.portion_;
    const std::string how_many = count == parser::Cursor::all ? "ALL" : std::to_string(count);
    postgres::BindView values;
    std::string buffer;
    parse_parameters(read_.request_.bind, buffer, values);
    Sender sender(*backend_);
    sender.parse(fmt::format("{} {} {} FROM {}", portion.by == Portion::By::move ? "MOVE" : "FETCH",
                             name_of(portion.direction), how_many, read_.cursor_.name),
                 {});
    sender.bind({}, values.result_formats);
    sender.describe('P');
    sender.execute({.hide_completion = true, .ordered = true});
    sender.sync(0);
    if (const Result<void> sent = sender.sent(); !sent) return read_.failed(sent.error());
    backend_->flush();
  }

private:
  Result<void> begin(Backend&) override { return {}; }
  void on_relay(std::string_view bytes) override {
    if (described_)
      read_.events_.relay(bytes);
    else
      description_.append(bytes);
  }
  void on_done(const pool::ExpectedReply& expected, char, std::string_view body) override {
    if (expected.kind == ReplyKind::describe_portal) {
      described_ = true;
      read_.part_described(description_);
    } else if (expected.kind == ReplyKind::execute) {
      rows_ = rows_of(body.substr(0, body.empty() ? 0 : body.size() - 1));
    }
  }
  bool on_error(const pool::ExpectedReply& expected, const postgres::ErrorFields& fields) override {
    Branch::on_error(expected, fields);
    if (error_) error_->position = 0;
    return false;
  }
  bool on_notice(const postgres::ErrorFields& fields, bool) override {
    relay_notice(fields);
    return false;
  }
  bool on_ready(const pool::ExpectedReply&, postgres::TransactionStatus) override {
    finished_ = true;
    return false;
  }
  void on_backend_turn(Backend&) override {
    if (error_) return read_.failed(*error_);
    read_.events_.flush();
    if (read_.failure_) return read_.failed(*read_.failure_);
    if (std::exchange(finished_, false)) read_.part_done(rows_);
  }
  bool is_congested() const override { return !read_.failure_ && read_.current_ == this && read_.events_.congested(); }

  ReadCursor& read_;
  std::string description_;
  bool described_ = false;
  bool finished_ = false;
  std::int64_t rows_ = 0;
};

ReadCursor::ReadCursor(Request request, Cursor& cursor, Portion portion, const std::vector<Place>& places,
                       net::EventLoop& loop, Events events)
    : Execution(std::move(request), loop, std::move(events)), cursor_(cursor), portion_(portion) {
  for (const Place& place : places) {
    auto part = std::make_unique<Part>(*this, place);
    parts_.push_back(part.get());
    add(std::move(part));
  }
}

Branch* ReadCursor::relaying() const {
  return current_;
}

// A shard that has no more rows says so once more to whom asks for them.
void ReadCursor::read_next() {
  current_ = parts_[std::min(cursor_.current, parts_.size() - 1)];
  current_->ask(unlimited() ? parser::Cursor::all : portion_.count - rows_);
}

void ReadCursor::part_described(std::string_view description) {
  const bool none = description.starts_with(postgres::backend::no_data);
  if (std::exchange(request_.describe, false) && !(none && request_.simple)) events_.relay(description);
}

void ReadCursor::part_done(std::int64_t rows) {
  rows_ += rows;
  const bool full = !unlimited() && rows_ >= portion_.count;
  if (!full && !cursor_.merged && cursor_.current < parts_.size() && ++cursor_.current < parts_.size())
    return read_next();
  current_ = nullptr;
  constexpr std::string_view verbs[] = {"SELECT", "FETCH", "MOVE"};
  const std::string tag = fmt::format("{} {}", verbs[static_cast<std::size_t>(portion_.by)], rows_);
  if (full && portion_.by == Portion::By::execute)
    postgres::append_portal_suspended(completion_);
  else if (!postgres::append_command_complete(completion_, tag))
    completion_.clear();
  conclude({});
}

}  // namespace tessera::executor
