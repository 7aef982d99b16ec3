// The facts in Prometheus's text format; docs/observability.md lists the metrics. Pure: made anew at each scrape from
// what the workers counted, so nothing is registered and nothing is kept.
#pragma once

#include <string>

#include "proxy/facts.hpp"

namespace tessera::admin {

std::string metrics_text(const proxy::Facts& facts, const proxy::ProcessFacts& process, const proxy::Server& server);

}  // namespace tessera::admin
