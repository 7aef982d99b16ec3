// Finishes a commit whose client has gone: what was asked for is carried out, as by a server, and its connections go
// back to their pools.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "executor/execution.hpp"

namespace tessera::executor {

class Orphan final : public pool::BackendOwner {
public:
  // `backends`: what the commit was lent. `done`: from the loop, last.
  Orphan(std::unique_ptr<Execution> commit, std::vector<pool::Backend*> backends, std::function<void()> done);
  ~Orphan() override;

private:
  void finished();

  void on_relay(std::string_view) override {}
  void on_done(const pool::ExpectedReply&, char, std::string_view) override {}
  bool on_error(const pool::ExpectedReply&, const postgres::ErrorFields&) override { return false; }
  void on_skipped(const pool::ExpectedReply&) override {}
  bool on_ready(const pool::ExpectedReply&, postgres::TransactionStatus) override { return false; }
  void on_copy(const pool::ExpectedReply&, char) override {}
  bool on_parameter(std::string_view, std::string_view, bool) override { return false; }
  bool on_notice(const postgres::ErrorFields&, bool) override { return false; }
  bool on_notification(const postgres::NotificationView&) override { return false; }
  void on_backend_turn(pool::Backend&) override {}
  void on_backend_lost(pool::Backend& backend, const Error&) override { std::erase(backends_, &backend); }
  void on_backend_prepared(pool::Backend&, const Result<void>&) override {}
  void on_backend_drained(pool::Backend&) override {}
  bool is_congested() const override { return false; }

  std::unique_ptr<Execution> commit_;
  std::vector<pool::Backend*> backends_;
  std::function<void()> done_;
};

}  // namespace tessera::executor
