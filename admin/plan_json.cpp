#include "admin/plan_json.hpp"

#include <nlohmann/json.hpp>

#include "proxy/show.hpp"

namespace tessera::admin {

namespace {

using nlohmann::ordered_json;

ordered_json error_json(const Error& error) {
  ordered_json out = {{"sqlstate", error.code.view()}, {"message", error.message}};
  out["detail"] = error.detail.empty() ? ordered_json(nullptr) : ordered_json(error.detail);
  out["hint"] = error.hint.empty() ? ordered_json(nullptr) : ordered_json(error.hint);
  out["position"] = error.position == 0 ? ordered_json(nullptr) : ordered_json(error.position);
  return out;
}

ordered_json or_null(const std::optional<Error>& error) {
  return error ? error_json(*error) : ordered_json(nullptr);
}

std::string_view outcome_name(const proxy::Explained& explained) {
  if (explained.refusal) return "refused";
  if (!explained.plan) return "depends on parameters";
  switch (explained.plan->op) {
    case router::Operator::route:
      return "route";
    case router::Operator::any:
      return "any";
    case router::Operator::merge_sort:
      return "merge sort";
    case router::Operator::gather:
      return "gather";
    case router::Operator::scatter:
      return "scatter";
    case router::Operator::split:
      return "split";
    case router::Operator::copy:
      return "copy";
    case router::Operator::replicate:
      return "replicate";
    case router::Operator::session:
      return "session";
  }
  return "session";
}

ordered_json shards_json(const proxy::Explained& explained, const router::Topology& topology) {
  ordered_json names = ordered_json::array();
  if (!explained.plan) return names;
  if (explained.plan->op == router::Operator::route) names.push_back(topology.shard_name(explained.plan->shard));
  for (const ShardId shard : explained.plan->shards) names.push_back(topology.shard_name(shard));
  return names;
}

std::string_view placement_name(router::Placement placement) {
  switch (placement) {
    case router::Placement::any_shard:
      return "any shard";
    case router::Placement::by_components:
      return "by tables";
    case router::Placement::every_shard:
      return "every shard";
    case router::Placement::session:
      return "session";
  }
  return "session";
}

// Tables that are joined on their keys, and what places them.
ordered_json component_json(const router::Component& component, const router::Topology& topology) {
  ordered_json out = {{"tables", component.tables}};
  out["rule"] = component.rule ? ordered_json(topology.rule_name(*component.rule)) : ordered_json(nullptr);
  out["shard"] =
      component.plain_shard ? ordered_json(topology.shard_name(*component.plain_shard)) : ordered_json(nullptr);
  out["by_key"] = !component.terms.empty();
  return out;
}

ordered_json statement_json(const router::PlanTemplate& plan, const router::Values& values,
                            const router::Topology& topology) {
  const proxy::Explained explained = proxy::explain(plan, values, topology);
  ordered_json tables = ordered_json::array();
  for (const router::Component& component : plan.components) tables.push_back(component_json(component, topology));
  return {{"command", plan.command},
          {"outcome", outcome_name(explained)},
          {"shards", shards_json(explained, topology)},
          {"refusal", or_null(explained.refusal)},
          {"if_several_shards", or_null(plan.many_refusal)},
          {"read_only", plan.read_only},
          {"placement", placement_name(plan.placement)},
          {"tables", std::move(tables)},
          {"notes", plan.notes}};
}

}  // namespace

std::string plan_json(const std::string& database, const router::PlannedText& text, const router::Values& values,
                      const router::Topology& topology) {
  ordered_json statements = ordered_json::array();
  for (const router::PlannedStatement& planned : text.statements)
    statements.push_back(statement_json(planned.plan, values, topology));
  const ordered_json out = {
      {"database", database}, {"error", or_null(text.syntax_error)}, {"statements", std::move(statements)}};
  return out.dump(2, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace tessera::admin
