// Commit and Everywhere on connections that are lent, with servers by script: an error, and a loss, at every step.
#include "executor/commit.hpp"

#include <gmock/gmock.h>

#include "executor/everywhere.hpp"
#include "executor/execution_fixture.hpp"
#include "executor/idle_owner.hpp"

namespace tessera::executor {
namespace {

using testing::HasSubstr;

// Who has a transaction open on one connection.
class Participant final : public IdleOwner, public pool::PoolClient {
public:
  void begin(pool::Pool& pool) {
    if (pool::Backend* backend = pool.checkout(*this)) on_checkout(*backend);
  }
  pool::Backend* backend() const { return backend_; }
  bool is_open() const {
    return backend_ != nullptr && backend_->replies().empty() &&
           backend_->transaction_status() == postgres::TransactionStatus::in_transaction;
  }
  void lost() { backend_ = nullptr; }

private:
  void on_checkout(pool::Backend& backend) override {
    backend_ = &backend;
    backend.lease(*this);
    EXPECT_TRUE(postgres::append_query(backend.out(), "BEGIN"));
    backend.replies().expect({.kind = pool::ReplyKind::query, .delivery = pool::Delivery::ignore});
    backend.flush();
  }
  void on_checkout_failed(const Error& reason) override { ADD_FAILURE() << reason.message; }
  void on_backend_lost(pool::Backend&, const Error&) override { backend_ = nullptr; }

  pool::Backend* backend_ = nullptr;
};

class CommitTest : public ExecutionTest {
protected:
  CommitTest() {
    for (FakeServer& server : server_) {
      server.answer("BEGIN", complete("BEGIN") + ready('T'));
      server.answer("COMMIT", complete("COMMIT") + ready());
      server.answer("ROLLBACK", complete("ROLLBACK") + ready());
      server.answer("SAVEPOINT a", complete("SAVEPOINT") + ready('T'));
    }
  }
  ~CommitTest() override { give_back(); }

  void open() {
    lane_.on([this] {
      for (std::size_t i = 0; i < shards; ++i) participant_[i].begin(*pools_[i]);
    });
    ASSERT_TRUE(lane_.eventually([this] { return std::ranges::all_of(participant_, &Participant::is_open); }));
  }
  template <typename Make>
  void run_lent(Make&& make) {
    lane_.on([&] {
      std::vector<Place> places;
      for (Participant& one : participant_) places.push_back({.lent = one.backend(), .lender = &one});
      Events events{.relay = [](std::string_view) {},
                    .flush = [] {},
                    .congested = [] { return false; },
                    .done = [this](const Result<void>& result) { result_ = result; },
                    .stop = [](pool::Backend&) {},
                    .lost =
                        [this](const pool::Backend& backend) {
                          for (Participant& one : participant_)
                            if (one.backend() == &backend) one.lost();
                        },
                    .parameter = [](std::string_view, std::string_view) {}};
      execution_ = make(places, std::move(events));
      execution_->start();
    });
    ASSERT_TRUE(finish());
    completion_ = lane_.on([this] { return execution_->completion(); });
    lane_.on([this] { execution_.reset(); });
  }
  void commit() {
    run_lent([this](const std::vector<Place>& places, Events events) {
      return std::make_unique<Commit>(places, lane_.loop, std::move(events));
    });
  }
  void everywhere(const std::string& sql, Everywhere::Order order) {
    run_lent([&](const std::vector<Place>& places, Events events) {
      return std::make_unique<Everywhere>(sql, places, order, pool::no_settings(), lane_.loop, std::move(events));
    });
  }
  // None is in a transaction: each is idle, or gone.
  bool all_ended() {
    return lane_.on([this] {
      return std::ranges::all_of(participant_, [](const Participant& one) {
        return one.backend() == nullptr || (one.backend()->replies().empty() &&
                                            one.backend()->transaction_status() == postgres::TransactionStatus::idle);
      });
    });
  }
  void give_back() {
    lane_.on([this] {
      execution_.reset();
      for (std::size_t i = 0; i < shards; ++i) {
        if (participant_[i].backend() != nullptr) pools_[i]->discard(*participant_[i].backend(), "the test is over");
        participant_[i].lost();
      }
      result_.reset();
    });
  }
  std::size_t asked(std::size_t shard, std::string_view sql) {
    const auto all = server_[shard].asked();
    return static_cast<std::size_t>(std::ranges::count(all, sql, &FakeServer::Asked::sql));
  }

  Participant participant_[shards];
  std::string completion_;
};

TEST_F(CommitTest, AllCommitInTurn) {
  open();
  commit();
  EXPECT_TRUE(*result_);
  EXPECT_EQ(completion_, complete("COMMIT"));
  EXPECT_TRUE(all_ended());
}

TEST_F(CommitTest, ARefusedCommitRollsBackThoseBehindIt) {
  for (std::size_t failing = 0; failing < shards; ++failing) {
    open();
    server_[failing].answer_once("COMMIT", error("23503") + ready());
    commit();
    ASSERT_FALSE(*result_);
    const Error& told = result_->error();
    if (failing == 0) {
      EXPECT_EQ(told.code.view(), "23503") << "nothing is committed: the server's own error";
    } else {
      EXPECT_EQ(told.code.view(), "08007");
      EXPECT_THAT(told.detail, HasSubstr("committed on \"s0\""));
      EXPECT_THAT(told.detail, HasSubstr("rolled back on"));
    }
    EXPECT_TRUE(all_ended());
    give_back();
  }
}

TEST_F(CommitTest, ALostCommitIsUnknown) {
  for (std::size_t failing = 0; failing < shards; ++failing) {
    open();
    server_[failing].hang_up_on("COMMIT");
    commit();
    server_[failing].hang_up_on("");
    ASSERT_FALSE(*result_);
    EXPECT_EQ(result_->error().code.view(), "08007");
    EXPECT_THAT(result_->error().detail, HasSubstr("perhaps committed on \"s" + std::to_string(failing) + "\""));
    EXPECT_TRUE(all_ended());
    give_back();
  }
}

TEST_F(CommitTest, ACommandRunsOnAllAndTheClientGetsOneAnswer) {
  for (const auto order : {Everywhere::Order::at_once, Everywhere::Order::in_turn}) {
    open();
    everywhere("SAVEPOINT a", order);
    EXPECT_TRUE(*result_);
    EXPECT_EQ(completion_, complete("SAVEPOINT"));
    for (std::size_t i = 0; i < shards; ++i)
      EXPECT_EQ(asked(i, "SAVEPOINT a"), order == Everywhere::Order::at_once ? 1u : 2u);
    give_back();
  }
}

TEST_F(CommitTest, ACommandThatFailsOnOneIsReadToItsEndOnAll) {
  for (std::size_t failing = 0; failing < shards; ++failing) {
    for (const auto order : {Everywhere::Order::at_once, Everywhere::Order::in_turn}) {
      open();
      server_[failing].answer_once("SAVEPOINT a", error("54000") + ready('E'));
      everywhere("SAVEPOINT a", order);
      ASSERT_FALSE(*result_);
      EXPECT_EQ(result_->error().code.view(), "54000");
      EXPECT_TRUE(lane_.on([this] {
        return std::ranges::all_of(participant_,
                                   [](const Participant& one) { return one.backend()->replies().empty(); });
      }));
      give_back();
    }
  }
}

}  // namespace
}  // namespace tessera::executor
