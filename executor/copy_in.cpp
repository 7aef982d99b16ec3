#include "executor/copy_in.hpp"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <functional>
#include <numeric>
#include <utility>

#include "wire/postgres/error_message.hpp"
#include "wire/postgres/frontend.hpp"

namespace tessera::executor {

using parser::CopyRow;
using pool::Backend;
using pool::ReplyKind;

namespace {
constexpr std::size_t message_bytes = 64 * 1024;      // of CopyData
constexpr std::size_t line_bytes = 16 * 1024 * 1024;  // for all shards' CopyLines

// Of "COPY 5".
std::uint64_t count_of(std::string_view tag) {
  std::uint64_t rows = 0;
  const std::size_t space = tag.rfind(' ');
  if (space != std::string_view::npos) std::from_chars(tag.data() + space + 1, tag.data() + tag.size(), rows);
  return rows;
}
}  // namespace

class CopyIn::Part final : public Branch {
public:
  Part(CopyIn& copy, const Place& place, std::size_t most_line_bytes)
      : Branch(copy, place, pool::no_settings()), copy_(copy), lines_(most_line_bytes) {}

  const std::string& response() const { return response_; }
  bool congested() const { return backend_ != nullptr && backend_->pending() > net::Stream::high_water; }

  void put(const CopyRow& row) {
    if (row.line > 0) lines_.add(row);
    put(row.bytes);
  }
  void put(std::string_view bytes) {
    rows_ += bytes;
    if (rows_.size() >= message_bytes) send();
  }
  bool ended() const { return ended_; }
  const std::string& tag() const { return tag_; }
  const std::optional<Error>& error() const { return error_; }
  std::optional<std::uint64_t> error_line() const { return error_line_; }
  void finish() {
    if (ended_ || error_ || backend_ == nullptr) return;
    send();
    if (backend_ == nullptr) return;
    ended_ = true;
    postgres::append_copy_done(backend_->out());
    backend_->replies().end_copy_in();
    backend_->flush();
  }

private:
  void send() {
    if (rows_.empty() || backend_ == nullptr) return;
    const bool fits = postgres::append_copy_data(backend_->out(), rows_);
    rows_.clear();
    if (!fits) return copy_.failed(too_long());
    backend_->flush();
  }

  Result<void> begin(Backend& backend) override {
    copy_.relay_bound();
    if (!postgres::append_query(backend.out(), copy_.data_.plan->sql)) return std::unexpected(too_long());
    backend.replies().expect({.kind = ReplyKind::query, .hide_completion = true, .ordered = true});
    return {};
  }
  bool goes_first() const override { return true; }
  void on_give_up() override {
    if (ended_ || error_) return;
    ended_ = true;
    if (!postgres::append_copy_fail(backend_->out(), "given up")) return;
    backend_->replies().end_copy_in();
    backend_->flush();
  }
  void on_relay(std::string_view bytes) override { response_.append(bytes); }
  void on_copy(const pool::ExpectedReply&, char) override { begun_ = true; }
  void on_done(const pool::ExpectedReply&, char, std::string_view body) override {
    tag_ = body.substr(0, body.empty() ? 0 : body.size() - 1);
  }
  bool on_ready(const pool::ExpectedReply&, postgres::TransactionStatus) override {
    finished_ = true;
    return false;
  }
  bool on_error(const pool::ExpectedReply& expected, const postgres::ErrorFields& fields) override {
    const bool first = !error_;
    Branch::on_error(expected, fields);
    if (!first || !error_) return false;
    const router::CopyPlan& plan = *copy_.data_.plan;
    if (!copy_.router_.indifferent()) error_->context = lines_.translate(error_->context, plan.table, error_line_);
    error_->context += fmt::format("{}shard \"{}\"", error_->context.empty() ? "" : "\n", endpoint()->name);
    if (plan.rewritten) error_->position = 0;
    return false;
  }
  bool on_notice(const postgres::ErrorFields& fields, bool forwarding) override {
    if (forwarding) relay_notice(fields);
    return false;
  }
  void on_backend_turn(Backend&) override {
    copy_.events_.flush();
    if (copy_.failure_) return copy_.failed(*copy_.failure_);
    if (std::exchange(begun_, false)) {
      copy_.acquire_next();
      copy_.part_begun();
    }
    if (std::exchange(finished_, false)) copy_.part_done(*this);
  }
  void on_backend_drained(Backend&) override {
    if (copy_.open() && !copy_.congested()) copy_.data_.go_on();
  }
  bool is_congested() const override { return false; }

  CopyIn& copy_;
  CopyLines lines_;
  std::string response_;
  std::string rows_;  // for the next message
  std::string tag_;
  std::optional<std::uint64_t> error_line_;
  bool begun_ = false;
  bool ended_ = false;  // the server knows that no more data comes
  bool finished_ = false;
};

CopyIn::CopyIn(Request request, Data data, net::EventLoop& loop, Events events)
    : Execution(std::move(request), loop, std::move(events)),
      data_(std::move(data)),
      splitter_(data_.plan->format, data_.most_bytes),
      router_(*data_.plan, data_.topology) {
  for (std::size_t i = 0; i < data_.places.size(); ++i) {
    auto part = std::make_unique<Part>(*this, data_.places[i], line_bytes / data_.places.size());
    const std::size_t shard = data_.shards[i].value();
    part_of_shard_.resize(std::max(part_of_shard_.size(), shard + 1));
    part_of_shard_[shard] = part.get();
    parts_.push_back(part.get());
    add(std::move(part));
  }
}

bool CopyIn::congested() const {
  return waiting_ || std::ranges::any_of(parts_, &Part::congested);
}

void CopyIn::part_begun() {
  if (++begun_ < parts_.size()) return;
  const std::string& response = parts_.front()->response();
  if (!std::ranges::all_of(parts_, [&](const Part* part) { return part->response() == response; })) {
    return failed({sqlstate::feature_not_supported,
                   "the shards answer this COPY with different columns",
                   {},
                   "give the table the same columns on all shards",
                   0});
  }
  postgres::CopyResponseView columns;
  std::string told;
  const std::size_t ids = data_.plan->ids.size();
  const bool read =
      ids > 0 && postgres::parse_copy_response(std::string_view(response).substr(postgres::frame_header_size), columns);
  if (read && columns.column_formats.size() >= ids) {
    columns.column_formats.resize(columns.column_formats.size() - ids);
    if (!postgres::append_copy_response(told, postgres::backend::copy_in_response, columns)) told.clear();
  }
  events_.relay(told.empty() ? response : told);
  events_.flush();
  state_ = State::open;
  data_.go_on();
}

// ---- data -----------------------------------------------------------------------------------------------------------

void CopyIn::data(std::string_view bytes) {
  if (!open()) return;
  if (router_.indifferent()) {
    for (Part* part : parts_) part->put(bytes);
    return;
  }
  splitter_.feed(bytes);
  pump();
}

void CopyIn::pump() {
  while (open() && !waiting_) {
    const Result<std::optional<CopyRow>> row = splitter_.next();
    if (!row) return refuse(row.error(), splitter_.line());
    if (!*row) return;
    take(**row);
  }
}

void CopyIn::take(const CopyRow& row) {
  if (data_.plan->ids.empty() || row.kind == CopyRow::Kind::broken) return place(row);
  if (row.kind == CopyRow::Kind::row && !data_.ids(ids_)) {
    waiting_ = row;
    return;
  }
  const std::string bytes = router::with_copy_ids(*data_.plan, row, ids_);
  if (row.kind == CopyRow::Kind::row) ids_.clear();
  if (bytes.empty()) return place(row);
  CopyRow longer = row;
  longer.content = std::string_view(bytes).substr(0, bytes.size() - (row.bytes.size() - row.content.size()));
  longer.bytes = bytes;
  place(longer);
}

void CopyIn::ids_there(std::int64_t number) {
  ids_.push_back(number);
  if (!open() || !waiting_) return;
  take(*std::exchange(waiting_, std::nullopt));
  pump();
  if (complete_ && open() && !waiting_) finish();
  if (!waiting_) data_.go_on();
}

void CopyIn::place(const CopyRow& row) {
  Result<std::optional<ShardId>> shard;
  if (row.kind == CopyRow::Kind::row) shard = router_.shard_of(row);
  if (row.kind == CopyRow::Kind::broken) shard = fail(SqlState("22P04"), "the data of this COPY cannot be read");
  if (shard && *shard) return part_of_shard_[(*shard)->value()]->put(row);
  if (shard) {
    for (Part* part : parts_) part->put(row);
    return;
  }
  parts_.front()->put(row);
  refuse(shard.error(), row.kind == CopyRow::Kind::row ? row.line : UINT64_MAX);
}

// A row will not do, or what separates it from others. The servers may have better words, or something to say of an
// earlier one.
void CopyIn::refuse(const Error& error, std::uint64_t line) {
  refusal_ = placed(error, std::min(line, splitter_.line()));
  refusal_line_ = line;
  finish();
}

void CopyIn::finish() {
  state_ = State::ended;
  for (Part* part : parts_) part->finish();
}

void CopyIn::end() {
  if (!open()) return;
  splitter_.end();
  if (!router_.indifferent()) pump();
  complete_ = true;
  if (open() && !waiting_) finish();
}

void CopyIn::give_up(std::string_view reason) {
  if (!open()) return;
  failed(placed({sqlstate::query_canceled, fmt::format("COPY from stdin failed: {}", reason), {}, {}, 0},
                splitter_.line()));
}

// What comes first in the data is told, as one server would. (Errors without a line come at the end of its work.)
const Error* CopyIn::first_error() const {
  const Error* first = nullptr;
  std::uint64_t line = UINT64_MAX;
  for (const Part* part : parts_) {
    if (!part->error() || (first != nullptr && part->error_line().value_or(UINT64_MAX) >= line)) continue;
    first = &*part->error();
    line = part->error_line().value_or(UINT64_MAX);
  }
  return refusal_ && (first == nullptr || refusal_line_ < line) ? &*refusal_ : first;
}

void CopyIn::part_done(const Part& part) {
  ++done_;
  if (part.error() && begun_ < parts_.size()) return failed(Error(*part.error()));  // the next ones wait for it
  if (part.error()) finish();
  if (done_ < parts_.size()) return;
  if (const Error* error = first_error()) return failed(Error(*error));
  const bool copies = !data_.plan->rule;
  std::vector<std::uint64_t> rows;
  for (const Part* one : parts_) rows.push_back(count_of(one->tag()));
  if (copies && std::ranges::adjacent_find(rows, std::not_equal_to()) != rows.end()) {
    return failed({SqlState("XX001"),
                   "the copies of a reference table differ: shards have taken different numbers of rows",
                   {},
                   "compare the copies, and make them the same",
                   0});
  }
  const std::uint64_t all = copies ? rows.front() : std::accumulate(rows.begin(), rows.end(), std::uint64_t(0));
  if (!postgres::append_command_complete(completion_, fmt::format("COPY {}", all))) completion_.clear();
  conclude({});
}

// As a server would say it.
Error CopyIn::placed(Error error, std::uint64_t line) const {
  error.context = fmt::format("COPY {}", data_.plan->table);
  if (!router_.indifferent()) error.context += fmt::format(", line {}", line);
  return error;
}

}  // namespace tessera::executor
