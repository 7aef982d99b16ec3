// A query block of a statement that is gathered, whose rows the shards aggregate before they are moved. Internal to
// router.
#pragma once

#include <vector>

#include "router/partial_aggregates.hpp"

namespace tessera::router {

struct PreparedBlock {
  PartialAggregates parts;
  std::vector<parser::TableIndex> tables;  // that the shards' query reads, those of subqueries in it included
  parser::TableIndex decides = 0;          // the one whose rows' shards are asked
};

}  // namespace tessera::router
