#include "executor/merge_sort.hpp"

#include <algorithm>
#include <fmt/format.h>

#include "executor/columns.hpp"
#include "executor/sender.hpp"
#include "wire/postgres/error_message.hpp"

namespace tessera::executor {

using pool::Backend;
using pool::ReplyKind;

namespace {

constexpr std::size_t block = 32 * 1024;  // of rows, that the client gets at once

// So many rows of each shard, if the client wants no more than some.
std::int32_t row_limit(std::int32_t limit, std::uint64_t offset) {
  const auto rows = offset + static_cast<std::uint64_t>(limit);
  return limit == 0 || rows > INT32_MAX ? 0 : static_cast<std::int32_t>(rows);
}

}  // namespace

// One shard's part.
class MergeSort::Part final : public Branch {
public:
  Part(MergeSort& merge, std::size_t index, const Place& place, const pool::Settings& settings)
      : Branch(merge, place, settings), merge_(merge), index_(index) {}

  std::string_view description() const { return description_; }

  void run() {
    postgres::BindView values;
    std::string buffer;
    running_ = true;
    parse_parameters(merge_.request_.bind, buffer, values);
    Sender sender(*backend_);
    sender.bind(values, merge_.formats_);
    sender.execute({.hide_completion = true, .ordered = true}, row_limit(merge_.request_.limit, merge_.plan_.offset));
    sender.sync(0);
    if (const Result<void> sent = sender.sent(); !sent) return merge_.failed(sent.error());
    backend_->flush();
  }
  // Nothing of it runs.
  void leave() { check_in(); }

private:
  Result<void> begin(Backend& backend) override {
    Sender sender(backend);
    sender.parse(merge_.plan_.sql, merge_.request_.types);
    sender.describe('S');
    sender.sync(0);
    return sender.sent();
  }
  void on_relay(std::string_view bytes) override {
    if (!running_) {
      description_.append(bytes);
    } else if (auto taken = merge_.rows_->take(index_, bytes); !taken && !error_) {
      error_ = taken.error();
    }
  }
  void on_done(const pool::ExpectedReply& expected, char, std::string_view) override {
    if (expected.kind == ReplyKind::bind && index_ == 0) merge_.bound();
    if (expected.kind != ReplyKind::execute) return;
    if (auto ended = merge_.rows_->end(index_); !ended && !error_) error_ = ended.error();
  }
  bool on_ready(const pool::ExpectedReply&, postgres::TransactionStatus) override {
    ready_ = true;
    return false;
  }
  bool on_notice(const postgres::ErrorFields& fields, bool forwarding) override {
    if (forwarding && running_) relay_notice(fields);
    return false;
  }
  bool on_error(const pool::ExpectedReply& expected, const postgres::ErrorFields& fields) override {
    const bool first = !error_;
    Branch::on_error(expected, fields);
    if (first && error_) error_->position = merge_.plan_.position_in(merge_.request_.sql, error_->position);
    return false;
  }
  void on_backend_turn(Backend&) override {
    if (error_) return merge_.failed(*error_);
    if (merge_.failure_) return merge_.failed(*merge_.failure_);
    if (running_) merge_.proceed();
    if (merge_.failure_ || !std::exchange(ready_, false)) return;
    if (!running_) return merge_.all_described();
    check_in();
    merge_.part_done();
  }
  void on_backend_lost(Backend& backend, const Error& reason) override {
    // A server that ends the connection right behind its answer has answered.
    if (running_ && ready_ && !lent() && !error_ && !merge_.failure_) {
      backend_ = nullptr;
      return merge_.part_done();
    }
    Branch::on_backend_lost(backend, reason);
  }
  bool is_congested() const override {
    if (lent() && merge_.failure_) return false;
    return merge_.concluded_ || (running_ && !merge_.rows_->wants(index_));
  }

  MergeSort& merge_;
  const std::size_t index_;
  std::string description_;
  bool running_ = false;
  bool ready_ = false;  // the server, for more
};

MergeSort::MergeSort(Request request, router::MergePlan plan, const std::vector<Place>& places,
                     const pool::Settings& settings, net::EventLoop& loop, Events events)
    : Execution(std::move(request), loop, std::move(events)), plan_(std::move(plan)) {
  for (const Place& place : places) {
    auto part = std::make_unique<Part>(*this, parts_.size(), place, settings);
    parts_.push_back(part.get());
    add(std::move(part));
  }
}

// One more is; all of them must agree.
void MergeSort::all_described() {
  if (++described_ < parts_.size()) return;
  Columns all;
  for (const Part* part : parts_) {
    auto columns = columns_of(part->description());
    if (!columns) return failed(columns.error());
    unknown_order_ = unknown_order_ || columns->keys.size() < plan_.keys.size();
    if (part == parts_.front()) all = *columns;
    if (!same_columns(all.description, columns->description) || all.types != columns->types)
      return failed(different_columns());
  }
  if (unknown_order_) {
    for (Part* part : parts_) part->leave();
    return conclude(std::unexpected(
        Error{sqlstate::feature_not_supported,
              "rows of several shards are not put in order by values of such a type, or under such a collation",
              {},
              "add a condition on the sharding key",
              0}));
  }
  MergeRows::Form form{.columns = static_cast<std::uint16_t>(all.formats.size() - plan_.keys.size()),
                       .keys = std::move(all.keys),
                       .offset = plan_.offset,
                       .limit = plan_.limit.value_or(UINT64_MAX)};
  if (request_.limit > 0) form.limit = std::min(form.limit, static_cast<std::uint64_t>(request_.limit));
  rows_.emplace(parts_.size(), std::move(form));
  description_ = std::move(all.description);
  formats_ = std::move(all.formats);
  for (Part* part : parts_)
    if (!failure_) part->run();
}

// From the description of a shard's statement. With fewer keys than there are: the type of one has no order that is
// known here.
Result<MergeSort::Columns> MergeSort::columns_of(std::string_view description) const {
  constexpr std::int16_t binary = 1;
  postgres::FrameHeader header;
  std::vector<postgres::FieldView> fields;
  postgres::BindView values;
  std::string buffer;
  // What stands before it tells of the parameters.
  if (postgres::peek_frame(description, postgres::max_message_length, header) == postgres::FrameStatus::complete)
    description.remove_prefix(header.total_size());
  if (postgres::peek_frame(description, postgres::max_message_length, header) != postgres::FrameStatus::complete ||
      header.type != postgres::backend::row_description ||
      !postgres::parse_row_description(postgres::frame_body(description, header), fields) ||
      fields.size() <= plan_.keys.size() || !parse_parameters(request_.bind, buffer, values))
    return std::unexpected(postgres::invalid_message("RowDescription"));
  const std::size_t visible = fields.size() - plan_.keys.size();
  if (values.result_formats.size() > 1 && values.result_formats.size() != visible)
    return fail(sqlstate::protocol_violation, fmt::format("bind message has {} result formats but query has {} columns",
                                                          values.result_formats.size(), visible));
  Columns columns;
  for (std::size_t i = 0; i < visible; ++i) {
    const auto& formats = values.result_formats;  // as they are: of wrong ones the server will tell
    fields[i].format = formats.empty() ? std::int16_t{0} : formats[formats.size() == 1 ? 0 : i];
    columns.formats.push_back(fields[i].format);
  }
  for (std::size_t i = 0; i < plan_.keys.size(); ++i) {
    const router::MergeKey& key = plan_.keys[i];
    columns.formats.push_back(binary);
    columns.types.push_back(fields[visible + i].type);
    if (const auto order = router::sort_order_of(columns.types.back(), key.bytewise))
      columns.keys.push_back({*order, key.direction});
  }
  if (!postgres::append_row_description(columns.description, std::span(fields).first(visible)))
    return std::unexpected(postgres::invalid_message("RowDescription"));
  return columns;
}

// The first shard has taken the parameters.
void MergeSort::bound() {
  events_.relay(request_.bound);
  if (request_.describe) events_.relay(description_);
}

// Rows go to the client as long as the next one is certain and the client takes it.
void MergeSort::proceed() {
  if (!rows_ || concluded_ || failure_) return;
  while (true) {
    if (events_.congested()) events_.flush();
    if (events_.congested()) break;
    out_.clear();
    if (auto given = rows_->give(out_, block); !given) return failed(given.error());
    if (out_.empty()) break;
    events_.relay(out_);
  }
  events_.flush();
  for (std::size_t i = 0; i < parts_.size(); ++i)
    if (rows_->wants(i)) parts_[i]->resume();
  finish();
}

void MergeSort::part_done() {
  ++done_;
  finish();
}

// At most as many rows as were asked for: more may be there, as far as the client is told.
void MergeSort::finish() {
  if (done_ < parts_.size() || !rows_->done() || concluded_ || failure_) return;
  if (request_.limit > 0 && rows_->rows() == static_cast<std::uint64_t>(request_.limit))
    postgres::append_portal_suspended(completion_);
  else if (!postgres::append_command_complete(completion_, fmt::format("SELECT {}", rows_->rows())))
    completion_.clear();
  conclude({});
}

}  // namespace tessera::executor
