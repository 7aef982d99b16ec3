// Who has leased connections on which nothing runs, or nothing that it is told of: every event but their loss is
// passed over.
#pragma once

#include "pool/backend.hpp"

namespace tessera::executor {

class IdleOwner : public pool::BackendOwner {
protected:
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
  void on_backend_prepared(pool::Backend&, const Result<void>&) override {}
  void on_backend_drained(pool::Backend&) override {}
  bool is_congested() const override { return false; }
};

}  // namespace tessera::executor
