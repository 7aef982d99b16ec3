// Views over sharded tables. Each shard's view has the rows of that shard only, so the statement is planned, and where
// it is gathered also run, with the views' queries in their place. Internal to router.
#pragma once

#include <string>
#include <vector>

#include "router/planning.hpp"

namespace tessera::router {

// A statement as it is with the queries of its views. Those may read views again.
class Expansion {
public:
  // An error: the views' queries cannot stand there.
  static Result<Expansion> of(const PlanRequest& request, const std::vector<ResolvedTable>& tables);

  std::string sql;
  parser::Statement statement;
  std::vector<parser::Slot> slots;  // as many as before; those of other statements of the text are nowhere
  std::vector<std::string> views;   // qualified and quoted
  // Where a place in `sql` is in the text before, both as PostgreSQL counts them; what is in a view is at its name.
  int position_before(int position) const;

private:
  struct Moved {
    parser::SourceSpan before, now;
  };
  void move_slots(const PlanRequest& request);
  std::uint32_t moved(std::uint32_t offset) const;

  std::string before_;
  parser::SourceSpan span_;  // of the statement in it
  std::vector<Moved> moved_;
};

}  // namespace tessera::router
