// Scatter and Concat: one read-only statement runs on several shards at the same time, and the client gets the rows of
// one shard after the other, in shard order. Nothing is buffered: shards whose turn has not come wait with their rows
// in the kernel. The first error ends it; connections that had not finished are destroyed, never reused. Connections
// are taken in ascending order of shards, each after the one before it, so that two scatters cannot wait for each
// other. Owned by a session; runs on its thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pool/pool.hpp"

namespace tessera::executor {

struct ScatterRequest {
  std::string sql;
  std::vector<postgres::Oid> types;  // declared parameter types
  std::string bind;   // body of the client's Bind behind the two names (formats, values, result formats); empty: none
  std::string bound;  // for the client when the servers have taken the parameters: BindComplete
  bool describe = true;  // the client wants a RowDescription
  bool simple = false;   // came as a simple query: ReadyForQuery ends the answer
};

class Scatter {
public:
  struct Events {
    std::function<void(std::string_view)> relay;  // bytes for the client
    std::function<void()> flush;                  // …may be sent now
    std::function<bool()> congested;              // the client is slow
    std::function<void(const Result<void>&)>
        done;  // everything was relayed, CommandComplete included; never from inside start()
  };
  Scatter(ScatterRequest request, std::vector<pool::Pool*> pools, pool::Settings settings, net::EventLoop& loop,
          Events events);
  ~Scatter();

  void start();
  void resume();  // the client can take more
  // A part that is not with its server yet cannot be cancelled there: it is given up, and the statement ends with
  // `reason`. Otherwise the servers will say so.
  void cancel(const Error& reason);
  // The server processes that work for it, for a cancel request.
  std::vector<pool::Backend*> active() const;
  const ScatterRequest& request() const { return request_; }
  // A connection was lost when the client had the first part of a row: nothing that is sent now would be understood.
  bool cut() const { return cut_; }

private:
  class Branch;
  void acquire_next();
  void branch_described(Branch& branch, std::string_view description);
  void branch_done(Branch& branch, std::string_view tag);
  void failed(const Error& reason);
  void conclude(Result<void> result);

  ScatterRequest request_;
  pool::Settings settings_;
  net::EventLoop* loop_;
  Events events_;
  std::vector<std::unique_ptr<Branch>> branches_;
  std::size_t acquired_ = 0;
  std::size_t current_ = 0;  // whose rows go to the client
  std::string description_;  // the first shard's
  std::uint64_t rows_ = 0;
  std::string verb_;              // "SELECT"
  std::optional<Error> failure_;  // the first one
  bool concluded_ = false;
  bool cut_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace tessera::executor
