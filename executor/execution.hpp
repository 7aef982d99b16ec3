// One statement at work on several shards, whichever way (scatter.hpp, gather.hpp, everywhere.hpp, commit.hpp): its
// connections, how it fails, how it ends. The first error ends it. Connections are its own, from pools, or lent by the
// transaction that it is part of. Its own are taken in ascending order of shards, each after the one before it, so that
// two statements cannot wait for each other; those that have not finished when it ends are destroyed, never reused.
// Those that are lent go back with nothing unread: what still runs there is cancelled, and its end waited for.
// Owned by a session; runs on its thread. After destruction nobody is called any more.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pool/pool.hpp"
#include "router/ids.hpp"

namespace tessera::executor {

class KeptConnection;  // cursor.hpp

// As the client sent it, but for `moved`.
struct Request {
  std::string sql;
  std::vector<postgres::Oid> types;  // declared parameter types
  std::string bind;   // body of the client's Bind behind the two names (formats, values, result formats); empty: none
  std::string bound;  // for the client when the servers have taken the parameters: BindComplete
  std::int32_t limit = 0;            // of rows; 0: none
  bool describe = true;              // the client wants a RowDescription
  bool simple = false;               // came as a simple query: ReadyForQuery ends the answer
  std::vector<router::Moved> moved;  // places in `sql`, which is not quite what the client wrote
};

// Where a part of the statement runs: on a connection of its own, or on one that `lender` has in its transaction.
struct Place {
  pool::Pool* pool = nullptr;
  pool::Backend* lent = nullptr;
  pool::BackendOwner* lender = nullptr;
};

struct Events {
  std::function<void(std::string_view)> relay;  // bytes for the client
  std::function<void()> flush;                  // …may be sent now
  std::function<bool()> congested;              // the client is slow
  // Everything was relayed but completion(); never from inside start().
  std::function<void(const Result<void>&)> done;
  // For connections that are lent: what runs there is not wanted any more (cancel it); it is gone.
  std::function<void(pool::Backend&)> stop;
  std::function<void(const pool::Backend&)> lost;
  // A setting's value, as the first of the servers reports it.
  std::function<void(std::string_view name, std::string_view value)> parameter;
};

class Branch;

class Execution {
public:
  virtual ~Execution();

  void start() { acquire_next(); }
  virtual void resume();  // the client can take more
  // A part that is not with its server yet cannot be cancelled there: it is given up, and the statement ends with
  // `reason`. Otherwise the servers will say so.
  virtual void cancel(const Error& reason);
  // A cancel request for one of its connections has been delivered.
  void cancel_delivered();
  // Something that it depends on is gone.
  void abort(const Error& reason) { failed(reason); }
  // It goes on for another owner, who is lent from now on what the first one had lent.
  void hand_over(Events events, pool::BackendOwner& lender);
  // What is lent and does not come to its end, though that was asked for, is given up in the end.
  void sweep(TimePoint now);
  // The server processes that work for it, for a cancel request.
  std::vector<pool::Backend*> active() const;
  const Request& request() const { return request_; }
  // CommandComplete, for the client when nothing can go wrong any more; empty: it was relayed.
  const std::string& completion() const { return completion_; }
  // A connection was lost when the client had the first part of a row: nothing that is sent now would be understood.
  bool cut() const { return cut_; }
  // Rows that went from one shard to another, as they were sent.
  std::uint64_t moved_bytes() const { return moved_bytes_; }

protected:
  friend class Branch;
  Execution(Request request, net::EventLoop& loop, Events events);
  void add(std::unique_ptr<Branch> branch);
  std::size_t size() const { return branches_.size(); }
  // Whose answer the client gets at this time; nullptr: nobody's any more.
  virtual Branch* relaying() const = 0;
  virtual void on_acquired() {}  // all have their connections, and their first messages are on their way
  // Goes on to the next part that has none yet.
  void acquire_next();
  // Of a COPY: servers look into it no sooner than they execute it, and it has no columns for a client.
  void relay_bound();
  void failed(const Error& reason);
  void conclude(Result<void> result);

  Request request_;
  Events events_;
  std::string completion_;
  std::optional<Error> failure_;  // the first one
  bool concluded_ = false;
  bool cut_ = false;
  std::uint64_t moved_bytes_ = 0;

private:
  bool is_unsettled() const;

  net::EventLoop* loop_;
  std::optional<Result<void>> outcome_;  // waits for what is lent to be fit to go back
  TimePoint failed_at_ = never;
  std::vector<std::unique_ptr<Branch>> branches_;  // ascending shards
  std::size_t acquired_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// One shard's part: a connection that is waited for and brought to the session's settings, or lent; given back or, if
// its answers are not all read and it is not lent, destroyed.
class Branch : public pool::BackendOwner, public pool::PoolClient {
public:
  Branch(Execution& execution, const Place& place, pool::Settings settings);
  ~Branch() override;

  void hand_over(pool::BackendOwner& lender) { lender_ = &lender; }
  // True: it has its connection and its first messages are on their way; otherwise that, or failure, comes later.
  bool acquire();
  pool::Backend* backend() const { return backend_; }
  const pool::EndpointRef& endpoint() const { return endpoint_; }
  bool sent() const { return sent_; }
  void resume();
  // Nothing is sent that is not yet; what is lent is stopped.
  void give_up();
  // Lent, and not fit to be given back yet.
  bool unsettled() const {
    return lent() && backend_ != nullptr && (!backend_->replies().empty() || backend_->cancel_in_flight());
  }
  // The client has the first part of a message. From now on it gets the rest of that and nothing else.
  bool ends_with_message();

protected:
  virtual Result<void> begin(pool::Backend& backend) = 0;  // the first messages
  // The next part has its turn when this one says so (acquire_next): when it has locked what it locks. All who hold
  // locks on one shard while they wait on another take the shards in ascending order, so none waits for the other.
  virtual bool goes_first() const { return false; }
  bool lent() const { return lender_ != nullptr; }
  // The statement has failed, and what is lent is about to be stopped.
  virtual void on_give_up() {}
  void check_in();
  // Its own connection stays as it is, for a cursor to be read on.
  std::unique_ptr<KeptConnection> keep();
  void relay_notice(const postgres::ErrorFields& fields);

  void on_done(const pool::ExpectedReply&, char, std::string_view) override {}
  void on_skipped(const pool::ExpectedReply&) override {}
  void on_copy(const pool::ExpectedReply&, char) override {}
  bool on_parameter(std::string_view, std::string_view, bool) override { return false; }
  bool on_notice(const postgres::ErrorFields&, bool) override { return false; }
  bool on_notification(const postgres::NotificationView&) override { return false; }
  void on_backend_drained(pool::Backend&) override {}
  // The first error; a fatal one is told when the connection ends.
  bool on_error(const pool::ExpectedReply& expected, const postgres::ErrorFields& fields) override;
  void on_backend_lost(pool::Backend& backend, const Error& reason) override;

  pool::Backend* backend_ = nullptr;
  std::optional<Error> error_;

private:
  bool take(pool::Backend& backend);
  bool start();
  void on_checkout(pool::Backend& backend) override;
  void on_checkout_failed(const Error& reason) override { execution_.failed(reason); }
  void on_backend_prepared(pool::Backend& backend, const Result<void>& result) override;

  Execution& execution_;
  pool::Pool* const pool_;      // of its own connection…
  pool::BackendOwner* lender_;  // …or whose it is
  pool::Settings settings_;
  const pool::EndpointRef endpoint_;  // as it was when the statement was planned
  bool sent_ = false;
};

// The refusal of a statement that is longer than a message may be.
Error too_long();

}  // namespace tessera::executor
