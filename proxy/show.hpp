// What SHOW tessera.… and EXPLAIN (TESSERA) answer inside a session.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/plan.hpp"
#include "router/plan_cache.hpp"

namespace tessera::proxy {

class Session;

// Messages without ReadyForQuery. `what` is the word behind "tessera."; an unknown one is an error that lists the known
// ones.
std::string show_tessera(std::string_view what, const Session& session, std::optional<Error>& error);

// What becomes of one statement with these values: a plan, a refusal, or neither, if it depends on parameters that are
// not known.
struct Explained {
  std::optional<router::Plan> plan;
  std::optional<Error> refusal;
};
Explained explain(const router::PlanTemplate& plan, const router::Values& values, const router::Topology& topology);

// The plan of each statement, bound to these values where they allow it. `rows`: how the rows of the text's only
// statement, over several shards, come together.
using PlanRows = std::function<std::string(const router::Values&, const router::Plan&)>;
std::vector<std::string> explain_lines(const router::PlannedText& text, const router::Values& values,
                                       const router::Topology& topology, const PlanRows& rows);

}  // namespace tessera::proxy
