#include "executor/scatter.hpp"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include "executor/columns.hpp"
#include "executor/sender.hpp"
#include "wire/postgres/error_message.hpp"
#include "wire/postgres/frontend.hpp"

namespace tessera::executor {

using pool::Backend;
using pool::Delivery;
using pool::ReplyKind;

// One shard's part.
class Scatter::Part final : public Branch {
public:
  Part(Scatter& scatter, std::size_t index, Piece piece, const pool::Settings& settings)
      : Branch(scatter, piece.place, settings), scatter_(scatter), index_(index), piece_(std::move(piece)) {}

  const Piece& piece() const { return piece_; }
  // What it is to run, when it is its turn.
  Result<void> send(Backend& backend) {
    if (copy_out_) scatter_.relay_bound();
    const bool built = piece_.sql.empty() ? append_whole(backend.out()) : append_piece(backend.out());
    if (!built) return std::unexpected(too_long());
    postgres::append_sync(backend.out());
    const Delivery delivery = silent() ? Delivery::ignore : Delivery::forward;
    if (!piece_.probe.empty()) {
      backend.replies().expect({.kind = ReplyKind::parse, .delivery = Delivery::ignore});
      backend.replies().expect({.kind = ReplyKind::describe_statement, .ordered = true});
    }
    backend.replies().expect({.kind = ReplyKind::parse, .delivery = Delivery::ignore});
    backend.replies().expect({.kind = ReplyKind::bind, .delivery = Delivery::ignore});
    if (piece_.probe.empty()) backend.replies().expect({.kind = ReplyKind::describe_portal, .ordered = true});
    backend.replies().expect(
        {.kind = ReplyKind::execute, .delivery = delivery, .hide_completion = true, .ordered = true});
    backend.replies().expect({.kind = ReplyKind::sync, .delivery = Delivery::ignore});
    return {};
  }
  bool described() const { return described_; }
  const std::string& description() const { return description_; }
  // Of those that are held, the next one; empty: there is none.
  std::string_view next_row() {
    if (next_row_ == row_ends_.size()) return {};
    const std::size_t begin = next_row_ == 0 ? 0 : row_ends_[next_row_ - 1];
    return std::string_view(rows_).substr(begin, row_ends_[next_row_++] - begin);
  }

private:
  Result<void> begin(Backend& backend) override {
    return index_ == scatter_.done_ || scatter_.order_ == Order::at_once ? send(backend) : Result<void>();
  }

  // The client's own statement and values.
  bool append_whole(std::string& out) {
    const Request& request = scatter_.request_;
    std::string bind("\0\0", 2);  // portal and statement: the unnamed ones
    bind += request.bind.empty() ? std::string(6, '\0') : request.bind;
    const std::string& probe = piece_.probe;
    bool built = probe.empty() ||
                 (postgres::append_parse(out, "", probe, request.types) && postgres::append_describe(out, 'S', ""));
    built = built && postgres::append_parse(out, "", request.sql, request.types);
    built = built && bind.size() <= postgres::max_message_length - 4;
    if (built) {
      const auto length = static_cast<std::uint32_t>(bind.size() + 4);
      out += 'B';
      for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(length >> shift);
      out += bind;
      built = (!probe.empty() || postgres::append_describe(out, 'P', "")) &&
              postgres::append_execute(out, "", request.limit);
    }
    return built;
  }

  // Its own statement, with its own of the values.
  bool append_piece(std::string& out) {
    const Request& request = scatter_.request_;
    std::string buffer;
    postgres::BindView all;
    if (!parse_parameters(request.bind, buffer, all)) return false;
    std::vector<postgres::Oid> types;
    std::vector<postgres::Value> values;
    std::vector<std::int16_t> formats;
    for (const int number : piece_.parameters) {
      const auto index = static_cast<std::size_t>(number - 1);
      types.push_back(index < request.types.size() ? request.types[index] : 0);
      values.push_back(index < all.parameters.size() ? all.parameters[index] : std::nullopt);
      formats.push_back(static_cast<std::int16_t>(
          postgres::format_of(all.parameter_formats, index).value_or(postgres::Format::text)));
    }
    return postgres::append_parse(out, "", piece_.sql, types) &&
           postgres::append_bind(out, "", "", values, {formats, all.result_formats}) &&
           postgres::append_describe(out, 'P', "") && postgres::append_execute(out, "", request.limit);
  }

  // The client gets nothing of its answer.
  bool silent() const { return scatter_.combine_ == Combine::first && index_ != 0; }
  bool in_turn() const {
    return scatter_.combine_ != Combine::concatenate || scatter_.holds() || index_ == scatter_.current_;
  }

  void on_relay(std::string_view bytes) override {
    if (!described_)
      description_.append(bytes);
    else if (scatter_.holds())
      hold(bytes);
    else if (copy_out_)
      relay_copy(bytes);
    else
      scatter_.events_.relay(bytes);
  }
  void on_done(const pool::ExpectedReply& expected, char, std::string_view body) override {
    if (expected.kind == ReplyKind::bind && index_ == 0) {
      scatter_.events_.relay(scatter_.request_.bound);
    } else if (expected.kind == ReplyKind::describe_portal || expected.kind == ReplyKind::describe_statement) {
      if (expected.kind == ReplyKind::describe_statement) drop_parameters();
      described_ = true;
      scatter_.part_described(index_);
    } else if (expected.kind == ReplyKind::execute) {
      tag_ = body.substr(0, body.empty() ? 0 : body.size() - 1);
    }
  }
  bool on_ready(const pool::ExpectedReply&, postgres::TransactionStatus) override {
    finished_ = true;
    return false;
  }
  bool on_notice(const postgres::ErrorFields& fields, bool forwarding) override {
    if (!forwarding || described_) return forwarding;
    relay_notice(fields);  // before the rows: what is relayed now would be taken for a part of their description
    return false;
  }
  void on_backend_turn(Backend&) override {
    if (error_) return scatter_.failed(*error_);
    scatter_.events_.flush();
    if (scatter_.failure_) return scatter_.failed(*scatter_.failure_);
    if (!finished_) return;
    check_in();
    scatter_.part_done(tag_);
  }
  void on_backend_lost(Backend& backend, const Error& reason) override {
    // A server that ends the connection right behind its answer has answered.
    if (finished_ && !lent() && !error_ && !scatter_.failure_) {
      backend_ = nullptr;
      return scatter_.part_done(tag_);
    }
    Branch::on_backend_lost(backend, reason);
  }
  // Rows wait for their turn in the kernel; what happens before there are rows (settings) does not.
  bool is_congested() const override {
    if (lent() && scatter_.failure_) return false;
    // Only who relays waits for the client: only he is resumed when it has read.
    const bool client_is_slow = scatter_.relaying() == this && scatter_.events_.congested();
    return scatter_.concluded_ || (sent() && (!in_turn() || client_is_slow));
  }

  // Of a statement's description: what stands before its columns.
  void drop_parameters() {
    postgres::FrameHeader header;
    if (postgres::peek_frame(description_, postgres::max_message_length, header) == postgres::FrameStatus::complete)
      description_.erase(0, header.total_size());
  }
  bool on_error(const pool::ExpectedReply& expected, const postgres::ErrorFields& fields) override {
    const bool first = !error_;
    Branch::on_error(expected, fields);
    if (!first || !error_) return false;
    if (!piece_.probe.empty()) error_->position = 0;  // perhaps in that
    if (error_->position >= piece_.columns_at + piece_.columns) error_->position -= piece_.columns;
    const auto position = static_cast<std::size_t>(std::max(error_->position, 0));
    error_->position = static_cast<int>(router::position_before(scatter_.request_.moved, position));
    return false;
  }

  void relay_copy(std::string_view bytes) {
    relayed_.clear();
    copy_out_->append(bytes, relayed_);
    if (!relayed_.empty()) scatter_.events_.relay(relayed_);
  }

  // Rows come in runs that may be cut anywhere; what is held is cut into messages.
  void hold(std::string_view bytes) {
    rows_.append(bytes);
    scatter_.held_ += bytes.size();
    postgres::FrameHeader header;
    for (std::size_t at = row_ends_.empty() ? 0 : row_ends_.back();;) {
      const std::string_view rest = std::string_view(rows_).substr(at);
      if (postgres::peek_frame(rest, postgres::max_message_length, header) != postgres::FrameStatus::complete) break;
      row_ends_.push_back(at += header.total_size());
    }
    if (scatter_.held_ > most_bytes && !error_)
      error_ = Error{sqlstate::configuration_limit_exceeded,
                     "the rows that this statement returns are too many to be held",
                     {},
                     "insert fewer rows at once, return less of them, or fetch all rows without a limit",
                     0};
  }

  Scatter& scatter_;
  std::size_t index_;
  const Piece piece_;
  std::optional<CopyOut> copy_out_ = piece_.copy_out;
  std::string relayed_;
  std::string rows_;  // DataRow messages, held
  std::vector<std::size_t> row_ends_;
  std::size_t next_row_ = 0;
  std::string description_;
  bool described_ = false;
  bool finished_ = false;
  std::string tag_;
};

Scatter::Scatter(Request request, std::vector<Piece> pieces, Combine combine, Order order,
                 const pool::Settings& settings, net::EventLoop& loop, Events events)
    : Execution(std::move(request), loop, std::move(events)), combine_(combine), order_(order) {
  for (Piece& piece : pieces) {
    auto part = std::make_unique<Part>(*this, parts_.size(), std::move(piece), settings);
    parts_.push_back(part.get());
    add(std::move(part));
  }
}

Branch* Scatter::relaying() const {
  if (holds()) return nullptr;
  return current_ < parts_.size() ? parts_[current_] : nullptr;
}

void Scatter::part_described(std::size_t index) {
  const Part& first = *parts_.front();
  if (index == 0) {
    const bool none = first.description().starts_with(postgres::backend::no_data);
    if (request_.describe && !(none && request_.simple)) events_.relay(first.description());
  }
  if (!first.described()) return;  // they are compared when it is
  const bool same = std::ranges::all_of(parts_, [&first](const Part* part) {
    return !part->described() || same_columns(first.description(), part->description());
  });
  if (same || failure_) return;
  failed(different_columns());
}

Error Scatter::copies_differ(std::uint64_t rows, std::uint64_t other_rows) {
  return {SqlState("XX001"), "the copies of a reference table differ: shards have changed different numbers of rows",
          fmt::format("{} and {}", rows, other_rows), "compare the copies, and make them the same", 0};
}

void Scatter::part_done(std::string_view tag) {
  const std::size_t space = tag.rfind(' ');
  std::uint64_t rows = 0;
  const char* const number = tag.data() + (space == std::string_view::npos ? tag.size() : space + 1);
  const bool counts = std::from_chars(number, tag.data() + tag.size(), rows).ec == std::errc{};  // not TRUNCATE TABLE
  if (combine_ == Combine::first && done_ > 0 && rows != rows_) {
    return failed(copies_differ(rows_, rows));
  }
  if (!tag.empty()) verb_ = tag.substr(0, space);
  rows_ = combine_ == Combine::first ? rows : rows_ + rows;
  ++done_;
  if (order_ == Order::in_turn && done_ < parts_.size() && parts_[done_]->sent()) {
    Backend& next = *parts_[done_]->backend();
    if (const Result<void> sent = parts_[done_]->send(next); !sent) return failed(sent.error());
    next.flush();
  }
  if (combine_ == Combine::concatenate && !holds() && ++current_ < parts_.size()) return parts_[current_]->resume();
  if (done_ < parts_.size()) return;
  if (holds()) return relay_held();
  const std::string whole = counts ? fmt::format("{} {}", verb_, rows_) : std::string(tag);
  if (!postgres::append_command_complete(completion_, whole)) completion_.clear();
  conclude({});
}

// At most as many rows as were asked for: more may be there, as far as the client is told. What returns none has no
// limit.
void Scatter::relay_held() {
  const std::size_t limit = request_.limit > 0 ? static_cast<std::size_t>(request_.limit) : SIZE_MAX;
  std::size_t relayed = 0;
  const auto relay = [&](Part& part) {
    const std::string_view row = relayed < limit ? part.next_row() : std::string_view();
    if (row.empty()) return false;
    events_.relay(row);
    ++relayed;
    return true;
  };
  for (Part* part : parts_of_rows())
    if (part != nullptr) relay(*part);
  for (Part* part : parts_)  // all of them; or what is not in the text of an INSERT: of a rule, say
    while (relay(*part)) {
    }
  if (relayed == limit)
    postgres::append_portal_suspended(completion_);
  else if (!postgres::append_command_complete(completion_, fmt::format("{} {}", verb_, rows_)))
    completion_.clear();
  conclude({});
}

// Of a Split: where each row has gone. Each that was inserted has returned one.
std::vector<Scatter::Part*> Scatter::parts_of_rows() const {
  std::vector<Part*> part_of_row;
  for (Part* part : parts_) {
    for (const std::uint32_t row : part->piece().rows) {
      if (part_of_row.size() <= row) part_of_row.resize(row + 1);
      part_of_row[row] = part;
    }
  }
  return part_of_row;
}

}  // namespace tessera::executor
