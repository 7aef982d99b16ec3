#include "executor/inquiry.hpp"

#include "wire/postgres/frontend.hpp"

namespace tessera::executor {

using pool::Backend;

class Inquiry::Part final : public Branch {
public:
  Part(Inquiry& inquiry, const Place& place) : Branch(inquiry, place, pool::no_settings()), inquiry_(inquiry) {}

private:
  Result<void> begin(Backend& backend) override {
    const std::string& query = inquiry_.queries_[inquiry_.results_.size()];
    inquiry_.results_.emplace_back();
    if (!postgres::append_query(backend.out(), query)) return std::unexpected(too_long());
    backend.replies().expect({.kind = pool::ReplyKind::query});
    return {};
  }
  void on_relay(std::string_view bytes) override { rows_.take(bytes, inquiry_.results_.back()); }
  bool on_ready(const pool::ExpectedReply&, postgres::TransactionStatus) override {
    finished_ = true;
    return false;
  }
  void on_backend_turn(Backend& backend) override {
    if (error_) return inquiry_.failed(*error_);
    if (inquiry_.failure_) return inquiry_.failed(*inquiry_.failure_);
    if (!std::exchange(finished_, false)) return;
    if (inquiry_.results_.size() == inquiry_.queries_.size()) return inquiry_.conclude({});
    if (const Result<void> begun = begin(backend); !begun) return inquiry_.failed(begun.error());
    backend.flush();
  }
  bool is_congested() const override { return false; }

  Inquiry& inquiry_;
  pool::TextRows rows_;
  bool finished_ = false;
};

Inquiry::Inquiry(std::vector<std::string> queries, const Place& place, net::EventLoop& loop, Events events)
    : Execution({}, loop, std::move(events)), queries_(std::move(queries)) {
  add(std::make_unique<Part>(*this, place));
}

}  // namespace tessera::executor
