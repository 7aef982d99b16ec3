// CopyIn: COPY … FROM STDIN on several shards. It is begun on all of them; then the client's data is cut into rows, and
// each goes to its shard, in large messages. Runs on connections that a transaction lends. What is held is a row that
// is not complete, and what the servers do not take yet; `congested` says that nothing more should be given to it.
//
// Of several errors the one that comes first in the data is told: the others end their part before, without an error.
// A row of which we can only say that it will not do is shown to a server: that may have better words.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "executor/copy_lines.hpp"
#include "executor/execution.hpp"
#include "parser/copy_splitter.hpp"
#include "router/copy.hpp"

namespace tessera::executor {

class CopyIn final : public Execution {
public:
  struct Data {
    std::vector<Place> places;
    std::vector<ShardId> shards;  // of each place
    std::shared_ptr<const router::CopyPlan> plan;
    std::shared_ptr<const router::Topology> topology;
    std::size_t most_bytes = 0;   // of a row
    std::function<void()> go_on;  // it takes data now, or again
    // Adds what is missing of the numbers for a row. False: not all are there yet; ids_there() tells.
    std::function<bool(std::vector<std::int64_t>&)> ids;
  };
  CopyIn(Request request, Data data, net::EventLoop& loop, Events events);

  // It has begun everywhere, and has neither ended nor failed: only then it takes data.
  bool open() const { return state_ == State::open && !failure_; }
  bool congested() const;
  void data(std::string_view bytes);
  void end();  // CopyDone
  void ids_there(std::int64_t number);
  void give_up(std::string_view reason);  // CopyFail
  // The servers do not look for cancel requests while they wait for data.
  void cancel(const Error& reason) override { failed(reason); }

private:
  class Part;
  enum class State : std::uint8_t { beginning, open, ended };

  Branch* relaying() const override { return nullptr; }
  void pump();
  void take(const parser::CopyRow& row);
  void place(const parser::CopyRow& row);
  void part_begun();
  void part_done(const Part& part);
  void refuse(const Error& error, std::uint64_t line);
  void finish();
  const Error* first_error() const;
  Error placed(Error error, std::uint64_t line) const;

  const Data data_;
  parser::CopySplitter splitter_;
  router::CopyRouter router_;
  std::vector<Part*> parts_;
  std::vector<Part*> part_of_shard_;  // by ShardId
  State state_ = State::beginning;
  std::optional<Error> refusal_;  // our own
  std::uint64_t refusal_line_ = 0;
  std::size_t begun_ = 0, done_ = 0;
  std::vector<std::int64_t> ids_;           // for the row at hand
  std::optional<parser::CopyRow> waiting_;  // for them
  bool complete_ = false;                   // nothing comes behind what is here
};

}  // namespace tessera::executor
