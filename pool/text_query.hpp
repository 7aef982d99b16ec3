// Runs queries of our own on a connection of a pool, without blocking, and gives their rows as text: the catalog, what
// a server tells a new session, authentication queries. For small answers: rows are held in memory, up to a cap.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pool/pool.hpp"
#include "pool/text_rows.hpp"

namespace tessera::pool {

class TextQuery final : public BackendOwner, public PoolClient {
public:
  using Row = TextRows::Row;
  struct Answer {
    std::vector<std::vector<Row>> results;  // one for each query
    ParameterMap parameters;                // what the server reports to a session with these settings
  };
  using Done = std::move_only_function<void(Result<Answer>)>;
  static constexpr std::size_t max_bytes = 512u << 20;

  // The connection carries `settings` while the queries run.
  TextQuery(Pool& pool, Settings settings, std::vector<std::string> queries, Done done);
  ~TextQuery() override;
  void start();
  bool finished() const { return !done_; }

private:
  void begin(Backend& backend);
  void send_next();
  void finish(Result<void> result);

  void on_checkout(Backend& backend) override { begin(backend); }
  void on_checkout_failed(const Error& reason) override { finish(std::unexpected(reason)); }
  void on_relay(std::string_view bytes) override;
  void on_done(const ExpectedReply&, char, std::string_view) override {}
  bool on_error(const ExpectedReply&, const postgres::ErrorFields& fields) override;
  void on_skipped(const ExpectedReply&) override {}
  bool on_ready(const ExpectedReply&, postgres::TransactionStatus) override;
  void on_copy(const ExpectedReply&, char) override {}
  bool on_parameter(std::string_view, std::string_view, bool) override { return false; }
  bool on_notice(const postgres::ErrorFields&, bool) override { return false; }
  bool on_notification(const postgres::NotificationView&) override { return false; }
  void on_backend_turn(Backend&) override;
  void on_backend_lost(Backend&, const Error& reason) override;
  void on_backend_prepared(Backend&, const Result<void>& result) override;
  void on_backend_drained(Backend&) override {}
  bool is_congested() const override { return false; }

  Pool& pool_;
  Settings settings_;
  std::vector<std::string> queries_;
  Done done_;
  Backend* backend_ = nullptr;
  Answer answer_;
  TextRows rows_;
  std::size_t bytes_ = 0;
  bool ready_ = false;
  std::optional<Error> error_;
};

}  // namespace tessera::pool
