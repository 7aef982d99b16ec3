// Tests only: a pool on a lane of its own with a server by script, and a client that leases from it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pool/fake_server.hpp"
#include "pool/pool.hpp"
#include "wire/postgres/frontend.hpp"

namespace tessera::pool::script {

using namespace std::chrono_literals;

// A client of the pool that leases what it gets and writes down what it hears.
struct Client : BackendOwner, PoolClient {
  Backend* backend = nullptr;
  std::vector<std::string> events;
  std::string relayed;
  std::optional<Error> failure;
  bool congested = false;  // until its turn, as if it could send then what it has
  std::size_t congested_above = SIZE_MAX;

  bool checkout(Pool& pool) {
    Backend* got = pool.checkout(*this);
    if (got == nullptr) return false;
    got->lease(*this);
    backend = got;
    return true;
  }
  void query(std::string_view sql) {
    EXPECT_TRUE(postgres::append_query(backend->out(), sql));
    backend->replies().expect({.kind = ReplyKind::query});
    backend->flush();
  }
  bool idle() const { return backend != nullptr && backend->replies().empty(); }

  void on_checkout(Backend& got) override {
    got.lease(*this);
    backend = &got;
    events.push_back("checkout");
  }
  void on_checkout_failed(const Error& reason) override {
    failure = reason;
    events.push_back("failed");
  }
  void on_relay(std::string_view bytes) override {
    relayed.append(bytes);
    congested = relayed.size() > congested_above;
  }
  void on_done(const ExpectedReply&, char, std::string_view) override {}
  bool on_error(const ExpectedReply&, const postgres::ErrorFields&) override { return true; }
  void on_skipped(const ExpectedReply&) override {}
  bool on_ready(const ExpectedReply&, postgres::TransactionStatus) override { return true; }
  void on_copy(const ExpectedReply&, char) override {}
  bool on_parameter(std::string_view, std::string_view, bool) override { return false; }
  bool on_notice(const postgres::ErrorFields&, bool) override { return false; }
  bool on_notification(const postgres::NotificationView&) override { return false; }
  void on_backend_turn(Backend&) override { congested = false; }
  void on_backend_lost(Backend&, const Error& reason) override {
    backend = nullptr;
    events.push_back("lost: " + reason.message);
  }
  void on_backend_prepared(Backend&, const Result<void>& result) override {
    events.push_back(result ? "prepared" : "not prepared: " + result.error().message);
  }
  void on_backend_drained(Backend&) override {}
  bool is_congested() const override { return congested; }
};

inline config::Pool default_limits() {
  config::Pool limits;
  limits.size = 2;
  limits.reconnect_min = 50ms;
  limits.reconnect_max = 200ms;
  return limits;
}

inline Settings settings_of(SettingsMap map) {
  return std::make_shared<const SettingsMap>(std::move(map));
}

class PoolTest : public testing::Test {
protected:
  ~PoolTest() override {
    lane_.on([this] { pool_.reset(); });
    lane_.settle();
  }
  void make(config::Pool limits = default_limits(), EndpointRef endpoint = nullptr) {
    if (!endpoint) endpoint = server_.endpoint();
    identity_ = std::make_shared<const Identity>(Identity{"alice", {}});
    budget_ = std::make_shared<Budget>(limits.size, nullptr);
    lane_.on([&] {
      pool_ = std::make_unique<Pool>(Pool::Options{"db", "alice", endpoint, identity_, limits}, budget_, lane_.loop,
                                     derivation_);
    });
  }
  bool checkout(Client& client) {
    return lane_.on([&] { return client.checkout(*pool_); });
  }
  // Leases a connection, waiting for it if need be.
  void obtain(Client& client) {
    checkout(client);
    ASSERT_TRUE(lane_.eventually([&] { return client.backend != nullptr; }))
        << (client.failure ? client.failure->message : "");
  }
  void checkin(Client& client, bool reset = false) {
    lane_.on([&] { pool_->checkin(*std::exchange(client.backend, nullptr), reset); });
  }
  PoolCounts counts() {
    return lane_.on([this] { return pool_->counts(); });
  }
  PoolTotals totals() {
    return lane_.on([this] { return pool_->totals(); });
  }
  // As if `later` had passed.
  void sweep(Duration later = Duration::zero()) {
    lane_.on([&] { pool_->sweep(lane_.loop.now() + later); });
    lane_.settle();
  }
  bool eventually_counts(int idle, int busy, int connecting = 0) {
    return lane_.eventually([&] {
      const PoolCounts now = pool_->counts();
      return now.idle == idle && now.busy == busy && now.connecting == connecting;
    });
  }

  FakeServer server_;
  KeyDerivation derivation_;
  Lane lane_;
  IdentityRef identity_;
  std::shared_ptr<Budget> budget_;
  std::unique_ptr<Pool> pool_;
};

}  // namespace tessera::pool::script
