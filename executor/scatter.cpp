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
class Scatter::Branch final : public pool::BackendOwner, public pool::PoolClient {
public:
  Branch(Scatter& scatter, std::size_t index, pool::Pool& pool)
      : scatter_(scatter), index_(index), pool_(pool), endpoint_(pool.options().endpoint) {
    pool_.hold();
  }
  ~Branch() override {
    pool_.forget(*this);
    if (Backend* backend = std::exchange(backend_, nullptr)) pool_.discard(*backend, "the statement was abandoned");
    pool_.release_hold();
  }

  // True: it has its connection and the statement is on its way.
  bool acquire() {
    Backend* backend = pool_.checkout(*this);
    return backend != nullptr && take(*backend);
  }
  Backend* backend() const { return backend_; }
  bool finished() const { return finished_; }
  std::size_t index() const { return index_; }
  void resume() {
    if (backend_ != nullptr) backend_->resume_reading();
  }
  bool sent() const { return sent_; }
  void stop_waiting() { pool_.forget(*this); }
  // The client has the first part of a message. From now on it gets the rest of that and nothing else.
  bool ends_with_message() {
    if (backend_ == nullptr || !backend_->replies().inside_message()) return false;
    backend_->replies().queue().front().delivery = Delivery::ignore;
    return true;
  }

private:
  bool take(Backend& backend) {
    backend_ = &backend;
    backend.lease(*this);
    if (backend.endpoint_ref() != endpoint_) {
      // A reload has come in between: two shards could turn out to be the same server.
      scatter_.failed({sqlstate::cannot_connect_now,
                       "the shards have moved while the statement was waiting for them",
                       {},
                       "send it again",
                       0});
      return false;
    }
    if (!backend.prepare(scatter_.settings_)) return false;
    return send();
  }

  bool send() {
    const ScatterRequest& request = scatter_.request_;
    std::string& out = backend_->out();
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
    if (!built) {
      scatter_.failed({sqlstate::program_limit_exceeded, "the statement is too long", {}, {}, 0});
      return false;
    }
    postgres::append_sync(out);
    backend_->replies().expect({.kind = ReplyKind::parse, .delivery = Delivery::ignore});
    backend_->replies().expect({.kind = ReplyKind::bind, .delivery = Delivery::ignore});
    backend_->replies().expect({.kind = ReplyKind::describe_portal, .ordered = true});
    backend_->replies().expect({.kind = ReplyKind::execute, .hide_completion = true, .ordered = true});
    backend_->replies().expect({.kind = ReplyKind::sync, .delivery = Delivery::ignore});
    backend_->flush();
    sent_ = true;
    return true;
  }

  void on_checkout(Backend& backend) override {
    if (take(backend)) scatter_.acquire_next();
  }
  void on_checkout_failed(const Error& reason) override { scatter_.failed(reason); }
  void on_backend_prepared(Backend&, const Result<void>& result) override {
    if (!result) return scatter_.failed(result.error());
    if (!scatter_.failure_ && send()) scatter_.acquire_next();
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
      scatter_.branch_described(*this, description_);
    } else if (expected.kind == ReplyKind::execute) {
      tag_ = body.substr(0, body.empty() ? 0 : body.size() - 1);
    }
  }
  bool on_error(const pool::ExpectedReply&, const postgres::ErrorFields& fields) override {
    if (fields.is_fatal()) return false;  // the connection's end is reported by on_backend_lost
    error_ = fields.to_error();
    return false;
  }
  void on_skipped(const pool::ExpectedReply&) override {}
  bool on_ready(const pool::ExpectedReply&, postgres::TransactionStatus) override {
    finished_ = true;
    return false;
  }
  void on_copy(const pool::ExpectedReply&, char) override {}
  bool on_parameter(std::string_view, std::string_view, bool) override { return false; }
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
  bool on_notification(const postgres::NotificationView&) override { return false; }
  void on_backend_turn(Backend&) override {
    if (error_) return scatter_.failed(*error_);
    scatter_.events_.flush();
    if (scatter_.failure_) return scatter_.failed(*scatter_.failure_);
    if (!finished_) return;
    pool_.checkin(*std::exchange(backend_, nullptr), false);
    scatter_.branch_done(*this, tag_);
  }
  void on_backend_lost(Backend& backend, const Error& reason) override {
    backend_ = nullptr;
    // A server that ends the connection right behind its answer has answered.
    if (finished_ && !error_ && !scatter_.failure_) return scatter_.branch_done(*this, tag_);
    scatter_.cut_ |= backend.replies().inside_message();
    scatter_.failed(error_.value_or(reason));
  }
  void on_backend_drained(Backend&) override {}
  // Rows wait for their turn in the kernel; what happens before there are rows (settings) does not.
  bool is_congested() const override {
    return scatter_.concluded_ || (sent_ && (index_ != scatter_.current_ || scatter_.events_.congested()));
  }

  Scatter& scatter_;
  std::size_t index_;
  pool::Pool& pool_;
  const pool::EndpointRef endpoint_;  // as it was when the statement was planned
  Backend* backend_ = nullptr;
  std::string description_;
  bool sent_ = false;
  bool described_ = false;
  bool finished_ = false;
  std::string tag_;
  std::optional<Error> error_;
};

Scatter::Scatter(ScatterRequest request, std::vector<pool::Pool*> pools, pool::Settings settings, net::EventLoop& loop,
                 Events events)
    : request_(std::move(request)), settings_(std::move(settings)), loop_(&loop), events_(std::move(events)) {
  for (std::size_t i = 0; i < pools.size(); ++i) branches_.push_back(std::make_unique<Branch>(*this, i, *pools[i]));
}

Scatter::~Scatter() {
  *alive_ = false;
}

void Scatter::start() {
  acquire_next();
}

void Scatter::acquire_next() {
  while (acquired_ < branches_.size() && !failure_)
    if (!branches_[acquired_++]->acquire()) return;
}

void Scatter::resume() {
  if (current_ < branches_.size()) branches_[current_]->resume();
}

std::vector<Backend*> Scatter::active() const {
  std::vector<Backend*> backends;
  for (const auto& branch : branches_)
    if (branch->backend() != nullptr) backends.push_back(branch->backend());
  return backends;
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

void Scatter::branch_described(Branch& branch, std::string_view description) {
  if (branch.index() == 0) {
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

void Scatter::branch_done(Branch&, std::string_view tag) {
  const std::size_t space = tag.rfind(' ');
  verb_ = tag.substr(0, space);
  std::uint64_t rows = 0;
  if (space != std::string_view::npos) std::from_chars(tag.data() + space + 1, tag.data() + tag.size(), rows);
  rows_ += rows;
  if (++current_ < branches_.size()) return branches_[current_]->resume();
  std::string complete;
  if (postgres::append_command_complete(complete, fmt::format("{} {}", verb_, rows_))) events_.relay(complete);
  conclude({});
}

void Scatter::cancel(const Error& reason) {
  if (!std::ranges::all_of(branches_, &Branch::sent)) failed(reason);
}

// The client hears of it when it has whole messages only; nobody else waits for that.
void Scatter::failed(const Error& reason) {
  if (!failure_) failure_ = reason;
  for (const auto& branch : branches_) branch->stop_waiting();
  if (current_ < branches_.size() && branches_[current_]->ends_with_message()) return;
  conclude(std::unexpected(*failure_));
}

// From the loop: the owner will destroy us.
void Scatter::conclude(Result<void> result) {
  if (std::exchange(concluded_, true)) return;
  loop_->defer([this, alive = alive_, result = std::move(result)] {
    if (*alive) events_.done(result);
  });
}

}  // namespace tessera::executor
