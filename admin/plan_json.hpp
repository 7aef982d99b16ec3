// Plans as JSON, for `tessera explain --json`. Pure.
#pragma once

#include <string>

#include "router/plan.hpp"
#include "router/plan_cache.hpp"

namespace tessera::admin {

// {"database", "error": null or an error, "statements": [{"command", "outcome", "shards", …}]}; docs/operations.md says
// what each key means.
std::string plan_json(const std::string& database, const router::PlannedText& text, const router::Values& values,
                      const router::Topology& topology);

}  // namespace tessera::admin
