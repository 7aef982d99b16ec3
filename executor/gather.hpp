// Gather (router/gather.hpp): fragments go from the shards into temporary tables on the merge node, and the rest of the
// statement runs there. In one transaction on each server, so that all fragments of a shard are of one moment. Nothing
// is kept here but what one read brings: shards whose turn has not come wait with their rows in the kernel.
//
// On the merge node:  BEGIN · the client's statement, prepared and described, for its errors, its parameters' types and
// its columns · CREATE TEMPORARY TABLE for each fragment, with the node's own rows · COPY FROM for each · the rewritten
// statement, whose rows the client gets · COMMIT.
// On the other shards: BEGIN READ ONLY · the fragments' queries, in binary · COMMIT.
#pragma once

#include <vector>

#include "executor/execution.hpp"
#include "router/gather.hpp"

namespace tessera::executor {

struct Cursor;

class Gather final : public Execution {
public:
  // `sources`: for each of plan.sources(), but without the merge node's own shard unless they are lent. `local`: SET
  // LOCAL statements, for the merge node of a query inside a transaction.
  // `cursor`: to be opened for the statement, instead of giving its rows; outlives the execution.
  Gather(Request request, router::GatherPlan plan, const Place& merge, const std::vector<Place>& sources,
         const pool::Settings& settings, std::string local, net::EventLoop& loop, Events events,
         Cursor* cursor = nullptr);

  // Of each source, what it has sent of each fragment.
  struct Moved {
    ShardId shard;
    std::size_t fragment = 0;
    std::uint64_t rows = 0, bytes = 0;
  };
  std::vector<Moved> moved() const;

private:
  class Part;
  class Merge;
  class Source;
  struct Fragment {
    std::vector<Source*> sources;  // besides the merge node
  };

  Branch* relaying() const override;
  void on_acquired() override;
  void next_fragment();
  void copy_on();
  Source* current() const { return fragments_[fragment_].sources[source_]; }
  void part_done();

  router::GatherPlan plan_;
  std::string local_;
  Cursor* const cursor_;
  Merge* merge_ = nullptr;
  std::vector<Source*> sources_;
  std::vector<Fragment> fragments_;
  std::size_t next_ = 0;      // fragment to be copied,
  std::size_t fragment_ = 0;  // that is being copied,
  std::size_t source_ = 0;    // from which of its sources
  bool copying_ = false;
  std::size_t done_ = 0;  // parts
};

}  // namespace tessera::executor
