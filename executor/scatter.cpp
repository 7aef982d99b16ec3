#include "executor/scatter.hpp"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include "wire/postgres/error_message.hpp"
#include "wire/postgres/frontend.hpp"

namespace tessera::executor {

using pool::Backend;
using pool::Delivery;
using pool::ReplyKind;

// One shard's part.
class Scatter::Part final : public Branch {
public:
  Part(Scatter& scatter, std::size_t index, pool::Pool& pool, const pool::Settings& settings)
      : Branch(scatter, pool, settings), scatter_(scatter), index_(index) {}

private:
  Result<void> begin(Backend& backend) override {
    const Request& request = scatter_.request_;
    std::string& out = backend.out();
    std::string bind("\0\0", 2);  // portal and statement: the unnamed ones
    bind += request.bind.empty() ? std::string(6, '\0') : request.bind;
    bool built = postgres::append_parse(out, "", request.sql, request.types);
    built = built && bind.size() <= postgres::max_message_length - 4;
    if (built) {
      const auto length = static_cast<std::uint32_t>(bind.size() + 4);
      out += 'B';
      for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(length >> shift);
      out += bind;
      built = postgres::append_describe(out, 'P', "") && postgres::append_execute(out, "");
    }
    if (!built) return std::unexpected(too_long());
    postgres::append_sync(out);
    backend.replies().expect({.kind = ReplyKind::parse, .delivery = Delivery::ignore});
    backend.replies().expect({.kind = ReplyKind::bind, .delivery = Delivery::ignore});
    backend.replies().expect({.kind = ReplyKind::describe_portal, .ordered = true});
    backend.replies().expect({.kind = ReplyKind::execute, .hide_completion = true, .ordered = true});
    backend.replies().expect({.kind = ReplyKind::sync, .delivery = Delivery::ignore});
    return {};
  }

  void on_relay(std::string_view bytes) override {
    if (described_)
      scatter_.events_.relay(bytes);
    else
      description_.append(bytes);
  }
  void on_done(const pool::ExpectedReply& expected, char, std::string_view body) override {
    if (expected.kind == ReplyKind::bind && index_ == 0) {
      scatter_.events_.relay(scatter_.request_.bound);
    } else if (expected.kind == ReplyKind::describe_portal) {
      described_ = true;
      scatter_.part_described(index_, description_);
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
    // Before the rows: what is relayed now would be taken for a part of their description.
    std::string message;
    std::vector<postgres::ErrorField> all;
    for (postgres::ErrorFields rest = fields; const std::optional<postgres::ErrorField> field = rest.next();)
      all.push_back(*field);
    if (postgres::append_error_fields(message, postgres::backend::notice_response, all))
      scatter_.events_.relay(message);
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
    if (finished_ && !error_ && !scatter_.failure_) {
      backend_ = nullptr;
      return scatter_.part_done(tag_);
    }
    Branch::on_backend_lost(backend, reason);
  }
  // Rows wait for their turn in the kernel; what happens before there are rows (settings) does not.
  bool is_congested() const override {
    return scatter_.concluded_ || (sent() && (index_ != scatter_.current_ || scatter_.events_.congested()));
  }

  Scatter& scatter_;
  std::size_t index_;
  std::string description_;
  bool described_ = false;
  bool finished_ = false;
  std::string tag_;
};

Scatter::Scatter(Request request, const std::vector<pool::Pool*>& pools, const pool::Settings& settings,
                 net::EventLoop& loop, Events events)
    : Execution(std::move(request), loop, std::move(events)) {
  for (std::size_t i = 0; i < pools.size(); ++i) {
    auto part = std::make_unique<Part>(*this, i, *pools[i], settings);
    parts_.push_back(part.get());
    add(std::move(part));
  }
}

namespace {

// The columns as far as they must agree between shards: table oids differ.
bool same_columns(std::string_view a, std::string_view b) {
  std::vector<postgres::FieldView> left, right;
  if (a.size() < postgres::frame_header_size || b.size() < postgres::frame_header_size || a[0] != b[0]) return a == b;
  if (!postgres::parse_row_description(a.substr(postgres::frame_header_size), left) ||
      !postgres::parse_row_description(b.substr(postgres::frame_header_size), right) || left.size() != right.size())
    return false;
  for (std::size_t i = 0; i < left.size(); ++i)
    if (left[i].name != right[i].name || left[i].type != right[i].type ||
        left[i].type_modifier != right[i].type_modifier || left[i].format != right[i].format)
      return false;
  return true;
}

}  // namespace

void Scatter::part_described(std::size_t index, std::string_view description) {
  if (index == 0) {
    description_ = description;
    if (request_.describe) events_.relay(description_);
  } else if (!same_columns(description_, description)) {
    failed({sqlstate::feature_not_supported,
            "the shards answer this statement with different columns",
            {},
            "give the tables the same columns on all shards",
            0});
  }
}

void Scatter::part_done(std::string_view tag) {
  const std::size_t space = tag.rfind(' ');
  verb_ = tag.substr(0, space);
  std::uint64_t rows = 0;
  if (space != std::string_view::npos) std::from_chars(tag.data() + space + 1, tag.data() + tag.size(), rows);
  rows_ += rows;
  if (++current_ < parts_.size()) return parts_[current_]->resume();
  std::string complete;
  if (postgres::append_command_complete(complete, fmt::format("{} {}", verb_, rows_))) events_.relay(complete);
  conclude({});
}

}  // namespace tessera::executor
