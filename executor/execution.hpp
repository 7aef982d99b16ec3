// One statement at work on several shards, whichever way (scatter.hpp, gather.hpp): its connections, how it fails, how
// it ends. The first error ends it; connections that had not finished are destroyed, never reused. Connections are
// taken in ascending order of shards, each after the one before it, so that two statements cannot wait for each other.
// Owned by a session; runs on its thread. After destruction nobody is called any more.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pool/pool.hpp"

namespace tessera::executor {

// As the client sent it.
struct Request {
  std::string sql;
  std::vector<postgres::Oid> types;  // declared parameter types
  std::string bind;   // body of the client's Bind behind the two names (formats, values, result formats); empty: none
  std::string bound;  // for the client when the servers have taken the parameters: BindComplete
  bool describe = true;  // the client wants a RowDescription
  bool simple = false;   // came as a simple query: ReadyForQuery ends the answer
};

struct Events {
  std::function<void(std::string_view)> relay;  // bytes for the client
  std::function<void()> flush;                  // …may be sent now
  std::function<bool()> congested;              // the client is slow
  // Everything was relayed, CommandComplete included; never from inside start().
  std::function<void(const Result<void>&)> done;
};

class Branch;

class Execution {
public:
  virtual ~Execution();

  void start() { acquire_next(); }
  void resume();  // the client can take more
  // A part that is not with its server yet cannot be cancelled there: it is given up, and the statement ends with
  // `reason`. Otherwise the servers will say so.
  void cancel(const Error& reason);
  // The server processes that work for it, for a cancel request.
  std::vector<pool::Backend*> active() const;
  const Request& request() const { return request_; }
  // A connection was lost when the client had the first part of a row: nothing that is sent now would be understood.
  bool cut() const { return cut_; }

protected:
  friend class Branch;
  Execution(Request request, net::EventLoop& loop, Events events);
  void add(std::unique_ptr<Branch> branch);
  std::size_t size() const { return branches_.size(); }
  // Whose answer the client gets at this time; nullptr: nobody's any more.
  virtual Branch* relaying() const = 0;
  virtual void on_acquired() {}  // all have their connections, and their first messages are on their way
  void failed(const Error& reason);
  void conclude(Result<void> result);

  Request request_;
  Events events_;
  std::optional<Error> failure_;  // the first one
  bool concluded_ = false;
  bool cut_ = false;

private:
  void acquire_next();

  net::EventLoop* loop_;
  std::vector<std::unique_ptr<Branch>> branches_;  // ascending shards
  std::size_t acquired_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// One shard's part: a connection that is waited for, brought to the session's settings, and given back or, if its
// answers are not all read, destroyed.
class Branch : public pool::BackendOwner, public pool::PoolClient {
public:
  Branch(Execution& execution, pool::Pool& pool, pool::Settings settings);
  ~Branch() override;

  // True: it has its connection and its first messages are on their way; otherwise that, or failure, comes later.
  bool acquire();
  pool::Backend* backend() const { return backend_; }
  bool sent() const { return sent_; }
  void resume();
  // Nothing is sent that is not yet.
  void give_up();
  // The client has the first part of a message. From now on it gets the rest of that and nothing else.
  bool ends_with_message();

protected:
  virtual Result<void> begin(pool::Backend& backend) = 0;  // the first messages
  void check_in();

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
  pool::Pool& pool_;
  pool::Settings settings_;
  const pool::EndpointRef endpoint_;  // as it was when the statement was planned
  bool sent_ = false;
};

// The refusal of a statement that is longer than a message may be.
Error too_long();

}  // namespace tessera::executor
