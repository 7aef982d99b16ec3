// The planner: which shards a statement concerns and whether the operators at hand give one server's answer there.
// Pure: plan(Statement, Topology, Catalog, SessionView) -> PlanTemplate. Right or refused: what is not proved is a
// refusal (0A000) that names the reason, the offending words' position and a hint.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "parser/fingerprint.hpp"
#include "parser/statement.hpp"
#include "router/catalog.hpp"
#include "router/plan.hpp"
#include "router/topology.hpp"

namespace tessera::router {

// What a plan depends on beside the text; all of it is part of the plan cache's key.
struct SessionView {
  std::vector<std::string> search_path = {
      "public"};  // resolved: "$user" replaced, quotes removed; pg_catalog is implied first
  std::string user;
  bool hints_allowed = false;
  std::vector<std::string>
      temporary_tables;       // names that are temporary in this (pinned) session: they belong to its backend
  std::string shard_setting;  // SET tessera.shard; empty: none
};

// `sql` is the text that `statement` was parsed from and `slots` the literals that the lexer found in it: operands that
// coincide with a slot become slots, others `text`. `hint` is the text of a leading hint comment, may be empty.
PlanTemplate plan(const parser::Statement& statement, std::string_view sql, std::span<const parser::Slot> slots,
                  std::string_view hint, const Topology& topology, const Catalog& catalog, const SessionView& session);

// Of a hint before as many statements as the text has: it is for one.
std::optional<Error> hint_refusal(std::string_view hint, std::size_t statements, const SessionView& session);

}  // namespace tessera::router
