// Plans as text.
#include <fmt/format.h>

#include "router/gather.hpp"
#include "router/merge.hpp"
#include "router/plan.hpp"
#include "router/split.hpp"

namespace tessera::router {
namespace {

std::string describe(const KeyOperand& operand) {
  std::string text;
  switch (operand.kind) {
    case KeyOperand::Kind::slot:
      text = fmt::format("literal {}", operand.index + 1);
      break;
    case KeyOperand::Kind::parameter:
      text = fmt::format("${}{}", operand.index + 1, operand.inferred ? "" : " if declared");
      break;
    case KeyOperand::Kind::null:
      text = "null";
      break;
    case KeyOperand::Kind::text:
      text = operand.text;
      break;
  }
  if (operand.negative) text = "-" + text;
  if (operand.cast != KeyType::unsupported) text += fmt::format("::{}", name_of(operand.cast));
  return operand.array ? fmt::format("any of {}", text) : text;
}

std::string describe(const ShardTerm& term) {
  if (term.range) {
    std::string text = "key";
    if (term.low) text += fmt::format(" from {}", describe(*term.low));
    if (term.high) text += fmt::format(" to {}", describe(*term.high));
    return text;
  }
  std::string text = term.rows.size() == 1 ? "key = " : "key in ";
  for (std::size_t i = 0; i < term.rows.size(); ++i) {
    if (i > 0) text += ", ";
    std::string row;
    for (const KeyOperand& operand : term.rows[i]) row += (row.empty() ? "" : ", ") + describe(operand);
    text += term.rows[i].size() > 1 ? '(' + row + ')' : row;
  }
  return text;
}

std::string describe(const Component& component, const Topology& topology) {
  std::string text;
  for (const std::string& table : component.tables) text += (text.empty() ? "" : ", ") + table;
  if (component.plain_shard) return fmt::format("{}: on shard {}\n", text, topology.shard_name(*component.plain_shard));
  text +=
      fmt::format(": rule {} ({})\n", topology.rule_name(*component.rule), topology.rule(*component.rule).describe());
  for (const ShardTerm& term : component.terms) text += fmt::format("  {}\n", describe(term));
  if (component.terms.empty()) text += "  all shards of the rule\n";
  return text;
}

std::string describe(std::string_view what, const Error& error) {
  std::string text = fmt::format("{}: {} {}", what, error.code.view(), error.message);
  if (error.position != 0) text += fmt::format(" (at {})", error.position);
  text += '\n';
  if (!error.hint.empty()) text += fmt::format("  hint: {}\n", error.hint);
  return text;
}

std::string names(const std::vector<ShardId>& shards, const Topology& topology) {
  std::string text;
  for (const ShardId shard : shards) text += fmt::format("{}{}", text.empty() ? "" : ", ", topology.shard_name(shard));
  return text;
}

std::string_view placement_text(const PlanTemplate& plan) {
  switch (plan.placement) {
    case Placement::any_shard:
      return "any shard";
    case Placement::every_shard:
      return "every shard";
    case Placement::session:
      return "the session itself";
    case Placement::by_components:
      break;
  }
  if (plan.hinted_shard) return "one shard by hint";
  return plan.components.empty() ? "the only shard" : "by key";
}

}  // namespace

std::string describe(const PlanTemplate& plan, const Topology& topology) {
  std::string text = plan.command;
  if (plan.refusal) return text + '\n' + describe("refused", *plan.refusal);
  text += fmt::format(
      ": {}{}{}{}\n", placement_text(plan),
      plan.preferred_shard ? fmt::format(", rather {}", topology.shard_name(*plan.preferred_shard)) : "",
      plan.read_only ? ", read only" : "", plan.insert_rows || plan.copy_rows ? ", a shard for each row" : "");
  for (const Component& component : plan.components) text += describe(component, topology);
  if (plan.replicates) text += "same on each\n";
  if (!plan.copies.empty()) text += fmt::format("copies: {}\n", fmt::join(plan.copies, ", "));
  for (const std::string& note : plan.notes) text += fmt::format("note: {}\n", note);
  if (plan.merges) text += "if several shards and the order is known: merged\n";
  if (plan.gathers) return text + "if several shards: gathered\n";
  if (plan.many_refusal) text += describe("if several shards", *plan.many_refusal);
  return text;
}

std::string describe(const GivenIds& ids, const Topology& topology) {
  std::string text;
  for (const GivenIds::Column& column : ids.columns) {
    if (column.source == GivenIds::Source::made)
      text += fmt::format("ids: {} for \"{}\" made by Tessera\n",
                          column.count == 1 ? "a number" : fmt::format("{} numbers", column.count), column.name);
    else if (column.is_asked())
      text += fmt::format("ids: {} is what this session was given last\n", column.name);
    else
      text += fmt::format("ids: {} for \"{}\" from the sequence {} of {}\n",
                          column.count == 1 ? "a number" : fmt::format("{} numbers", column.count), column.name,
                          column.sequence, topology.shard_name(topology.default_shard().value_or(ShardId(0))));
  }
  return text;
}

std::string describe(const Plan& plan, const PlanTemplate& plan_template, const Topology& topology) {
  std::string text;
  switch (plan.op) {
    case Operator::route:
      text = fmt::format("route to {}\n", topology.shard_name(plan.shard));
      break;
    case Operator::any:
      text = plan_template.preferred_shard ? fmt::format("route to {}, in a transaction to its shard\n",
                                                         topology.shard_name(*plan_template.preferred_shard))
                                           : "route to any shard\n";
      break;
    case Operator::session:
      text = "answered by the session\n";
      break;
    case Operator::merge_sort:
      text = fmt::format("merge sort of {}\n", names(plan.shards, topology));
      break;
    case Operator::gather:
      text = fmt::format("gather from {}\n", names(plan.shards, topology));
      break;
    case Operator::scatter:
      text = fmt::format("scatter to {}, {}\n", names(plan.shards, topology),
                         plan_template.effects.writes ? "each its own rows" : "rows one shard after another");
      break;
    case Operator::split:
      text = fmt::format("split over {}, each row to its own\n", names(plan.shards, topology));
      break;
    case Operator::copy:
      text = fmt::format("copy to {}, each row to its own\n", names(plan.shards, topology));
      break;
    case Operator::replicate:
      text = fmt::format("the same on {}, each its copy\n", names(plan.shards, topology));
      break;
  }
  for (const std::string& note : plan_template.notes) text += fmt::format("note: {}\n", note);
  return text;
}

std::string describe(const GatherPlan& plan, const Topology& topology) {
  std::string text = fmt::format("gather on {}\n", topology.shard_name(plan.merge));
  for (const GatherFragment& fragment : plan.fragments) {
    const std::string shards = names(fragment.shards, topology);
    text += fmt::format("  {} from {}: {}\n", fragment.table, shards.empty() ? "no shard" : shards, fragment.query);
  }
  return text + fmt::format("  then: {}\n", plan.statement);
}

std::string describe(const MergeKey& key) {
  std::string text = key.text + (key.direction.descending ? " DESC" : "");
  if (key.direction.nulls_first != key.direction.descending)
    text += key.direction.nulls_first ? " NULLS FIRST" : " NULLS LAST";
  return text;
}

std::string describe(const MergePlan& plan) {
  std::string keys;
  for (const MergeKey& key : plan.keys) keys += (keys.empty() ? "" : ", ") + describe(key);
  std::string text = keys.empty() ? "" : fmt::format("  by {}\n", keys);
  if (plan.offset > 0) text += fmt::format("  after the first {} rows\n", plan.offset);
  if (plan.limit) text += fmt::format("  at most {} rows\n", *plan.limit);
  if (!plan.certain) text += "  unless the servers name a type whose order is not known here\n";
  return text + fmt::format("  each shard: {}\n", plan.sql);
}

std::string describe_rows(const Plan& plan, const parser::Statement& statement, const Values& values,
                          const Topology& topology, const Catalog& catalog, const SessionView& session,
                          bool in_transaction) {
  const bool merges = plan.op == Operator::merge_sort;
  if (plan.op == Operator::split) {
    const auto parts = split(statement, values, topology, catalog, session);
    return parts ? describe(*parts, topology) : parts.error().message + '\n';
  }
  if (!merges && plan.op != Operator::gather) return {};
  if (merges)
    if (const auto merged = merge(statement, values, topology, catalog, session)) return describe(*merged);
  const PlanTemplate known = router::plan(statement, values.sql, {}, {}, topology, catalog, session);
  if (!known.gathers) return known.many_refusal ? describe("otherwise", *known.many_refusal) : std::string();
  const auto gathered = gather(statement, values, topology, catalog, session, in_transaction, 0);
  return (merges ? "  but its order or its LIMIT is for a server to tell:\n" : "") +
         (gathered ? describe(*gathered, topology) : gathered.error().message + '\n');
}

std::string describe(const SplitPlan& plan, const Topology& topology) {
  std::string text = fmt::format("split {} rows{}\n", plan.rows, plan.returns_each ? ", each returned" : "");
  for (const SplitPart& part : plan.parts) {
    std::string rows;
    for (const std::uint32_t row : part.rows) rows += fmt::format("{}{}", rows.empty() ? "" : ", ", row + 1);
    text += fmt::format("  {} takes {}: {}\n", topology.shard_name(part.shard), rows, part.sql);
  }
  return text;
}

}  // namespace tessera::router
