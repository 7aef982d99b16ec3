// `tessera explain`: the plan of a statement, without any server.
#include <cstdio>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "admin/commands.hpp"
#include "admin/plan_json.hpp"
#include "parser/postgres/parse.hpp"
#include "proxy/show.hpp"
#include "router/merge.hpp"
#include "router/planner.hpp"

namespace tessera::admin {

namespace {

const config::Database* choose_database(const config::Config& config, const std::string& name) {
  const config::Database* found =
      name.empty() && config.databases.size() == 1 ? &config.databases.front() : config.find_database(name);
  if (found == nullptr)
    std::fputs(name.empty() ? "tessera: the configuration has several databases: choose one with --database\n"
                            : fmt::format("tessera: there is no database \"{}\"\n", name).c_str(),
               stderr);
  return found;
}

router::SessionView view_of(bool hints) {
  router::SessionView view;
  view.hints_allowed = hints;
  return view;
}

router::PlannedText plan_text(const std::string& sql, const parser::Fingerprint& print, bool hints,
                              const router::Topology& topology, const router::Catalog& catalog) {
  router::PlannedText text;
  Result<std::vector<parser::Statement>> parsed = parser::postgres::parse(sql);
  if (!parsed) {
    text.syntax_error = parsed.error();
    return text;
  }
  const router::SessionView view = view_of(hints);
  const std::string_view hint = std::string_view(sql).substr(print.hint_begin, print.hint_end - print.hint_begin);
  for (const parser::Statement& statement : *parsed) {
    router::PlanTemplate& plan = text.statements.emplace_back().plan;
    plan = router::plan(statement, sql, print.slots, hint, topology, catalog, view);
    if (!plan.refusal) plan.refusal = router::hint_refusal(hint, parsed->size(), view);
  }
  return text;
}

}  // namespace

int explain(const ExplainOptions& options) {
  const config::Loaded loaded = config::load(options.config, config::real_environment());
  complain(loaded.problems);
  if (!loaded.config) return 1;
  const config::Database* database = choose_database(*loaded.config, options.database);
  if (database == nullptr) return 1;
  const router::Catalog catalog = router::Catalog::from_config(*database);
  const auto topology = router::Topology::build(*database, catalog, 1);
  if (!topology) {
    complain(rule_problems(*loaded.config));
    return 1;
  }
  parser::Fingerprint print;
  parser::fingerprint(options.sql, {}, print);
  std::string sql = options.sql;
  router::PlannedText text = plan_text(sql, print, database->hints, **topology, catalog);
  if (text.single() && text.statements.front().plan.ids) {
    // With parameters in place of the ids that it would be given.
    const router::GivenIds ids = *text.statements.front().plan.ids;
    std::vector<router::Moved> moves;
    sql = router::with_ids(sql, {}, ids, router::id_parameters(ids, router::largest_parameter(sql, {}) + 1), moves);
    parser::fingerprint(sql, {}, print);
    text = plan_text(sql, print, database->hints, **topology, catalog);
    if (!text.syntax_error) {
      const std::string told = router::describe(ids, **topology);
      text.statements.front().plan.notes.push_back(told.substr(0, told.find('\n')));
    }
  }
  const router::Values values{sql, print.slots, {}};
  if (options.json) {
    std::fputs((plan_json(database->name, text, values, **topology) + '\n').c_str(), stdout);
  } else {
    const auto rows = [&](const router::Values& of, const router::Plan& plan) {
      const auto parsed = parser::postgres::parse(of.sql);
      if (!parsed) return std::string();
      return router::describe_rows(plan, parsed->front(), of, **topology, catalog, view_of(database->hints), false);
    };
    for (const std::string& line : proxy::explain_lines(text, values, **topology, rows))
      std::fputs((line + '\n').c_str(), stdout);
  }
  bool refused = text.syntax_error.has_value();
  for (const router::PlannedStatement& planned : text.statements)
    refused = refused || proxy::explain(planned.plan, values, **topology).refusal.has_value();
  return refused ? 1 : 0;
}

}  // namespace tessera::admin
