#include "proxy/show.hpp"

#include <algorithm>
#include <fmt/format.h>

#include "proxy/row_builder.hpp"
#include "proxy/session.hpp"
#include "proxy/version.hpp"

namespace tessera::proxy {

namespace {

RowBuilder show_shards(const WorkerDatabase& database) {
  RowBuilder rows({"shard", "primary", "database", "replicas", "addresses"});
  for (const config::Shard& shard : database.settings().shards) {
    const pool::Endpoint& endpoint = *database.runtime().primaries[rows.size()];
    rows.row({shard.name, shard.primary.text(), endpoint.database, std::to_string(shard.replicas.size()),
              fmt::format("{}", fmt::join(address_texts(endpoint), ", "))});
  }
  return rows;
}

RowBuilder show_topology(const WorkerDatabase& database) {
  RowBuilder rows({"schema", "table", "kind", "key", "rule", "shard"});
  const router::Topology& topology = *database.routing()->topology;
  using Kind = router::TableRouting::Kind;
  for (const router::TableRouting& table : topology.tables()) {
    const bool sharded = table.kind == Kind::sharded;
    rows.row({table.schema, table.name,
              sharded                         ? "sharded"
              : table.kind == Kind::reference ? "reference"
                                              : "plain",
              sharded ? fmt::format("{}", fmt::join(table.key_columns, ", ")) : "",
              !sharded                  ? ""
              : table.key_types.empty() ? "not in force: the type of the key is not known"
                                        : topology.rule(table.rule).describe(),
              table.kind == Kind::plain ? std::string(topology.shard_name(table.shard)) : ""});
  }
  return rows;
}

RowBuilder show_pools(const Session& session) {
  RowBuilder rows({"shard", "user", "idle", "busy", "connecting", "waiting", "open", "limit", "last_error"});
  std::vector<const pool::Pool*> pools;
  session.options().database->each_pool([&](const pool::Pool& pool) {
    // One's own only: other users' pools are the administrator's business.
    if (pool.options().user == session.options().identity->user) pools.push_back(&pool);
  });
  std::ranges::sort(pools, {}, [](const pool::Pool* pool) { return pool->options().endpoint->shard.value(); });
  for (const pool::Pool* pool : pools) {
    const pool::PoolCounts counts = pool->counts();
    rows.row({pool->options().endpoint->name, pool->options().user, std::to_string(counts.idle),
              std::to_string(counts.busy), std::to_string(counts.connecting), std::to_string(counts.waiting),
              std::to_string(pool->budget().open()), std::to_string(pool->budget().limit()), pool->last_error()});
  }
  return rows;
}

RowBuilder show_session(const Session& session) {
  RowBuilder rows({"user", "database", "state", "shard", "pinned", "statements"});
  rows.row({session.options().user, session.options().database->name(), std::string(session.state_name()),
            session.backend() != nullptr ? session.backend()->endpoint().name : "", session.pin_reasons(),
            std::to_string(session.statements())});
  return rows;
}

RowBuilder one_value(const std::string& column, const std::string& value) {
  RowBuilder rows({column});
  rows.row({value});
  return rows;
}

// Whether its shards depend on a parameter beyond those that are known.
bool needs_parameters(const router::PlanTemplate& plan, std::size_t known) {
  const auto unknown = [known](const router::KeyOperand& operand) {
    return operand.kind == router::KeyOperand::Kind::parameter && operand.index >= known;
  };
  const auto in_term = [&](const router::ShardTerm& term) {
    if ((term.low && unknown(*term.low)) || (term.high && unknown(*term.high))) return true;
    return std::any_of(term.rows.begin(), term.rows.end(),
                       [&](const auto& row) { return std::any_of(row.begin(), row.end(), unknown); });
  };
  if (plan.hinted_shard) return false;
  return std::any_of(plan.components.begin(), plan.components.end(), [&](const router::Component& component) {
    return std::any_of(component.terms.begin(), component.terms.end(), in_term);
  });
}

}  // namespace

std::string show_tessera(std::string_view what, const Session& session, std::optional<Error>& error) {
  const WorkerDatabase& database = *session.options().database;
  if (what == "shards") return show_shards(database).all("SHOW");
  if (what == "topology") return show_topology(database).all("SHOW");
  if (what == "pools") return show_pools(session).all("SHOW");
  if (what == "session" || what == "sessions") return show_session(session).all("SHOW");
  if (what == "shard") return one_value("tessera.shard", std::string(session.shard_setting())).all("SHOW");
  if (what == "version") return one_value("tessera.version", std::string(version)).all("SHOW");
  error =
      Error{sqlstate::undefined_object,
            fmt::format("unrecognized configuration parameter \"tessera.{}\"", what),
            {},
            "known: tessera.shards, tessera.topology, tessera.pools, tessera.sessions, tessera.shard, tessera.version",
            0};
  return {};
}

Explained explain(const router::PlanTemplate& plan, const router::Values& values, const router::Topology& topology) {
  Explained made;
  if (!plan.refusal && needs_parameters(plan, values.parameters.size())) return made;
  router::BindScratch scratch;
  const Result<void> done = router::bind(plan, topology, values, scratch, made.plan.emplace());
  if (done) return made;
  made.plan.reset();
  made.refusal = done.error();
  return made;
}

std::vector<std::string> explain_lines(const router::PlannedText& text, const router::Values& values,
                                       const router::Topology& topology, const PlanRows& rows) {
  std::vector<std::string> lines;
  const auto add = [&](const std::string& block) {
    for (std::size_t at = 0; at < block.size();) {
      const std::size_t end = std::min(block.find('\n', at), block.size());
      lines.push_back(block.substr(at, end - at));
      at = end + 1;
    }
  };
  if (text.syntax_error) add(fmt::format("error: {}", text.syntax_error->message));
  for (const router::PlannedStatement& planned : text.statements) {
    const Explained explained = explain(planned.plan, values, topology);
    if (explained.plan) add(router::describe(*explained.plan, planned.plan, topology));
    if (explained.plan && text.single()) add(rows(values, *explained.plan));
    if (explained.plan) continue;
    if (explained.refusal)
      add(fmt::format("refused: {}{}{}", explained.refusal->message,
                      explained.refusal->hint.empty() ? "" : "\nhint: ", explained.refusal->hint));
    else
      add(router::describe(planned.plan, topology));
  }
  return lines;
}

}  // namespace tessera::proxy
