#include "admin/commands.hpp"

#include <cstdio>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "config/load.hpp"
#include "parser/postgres/parse.hpp"
#include "proxy/show.hpp"
#include "router/planner.hpp"

namespace tessera::admin {

namespace {

void print(const std::string& text) {
  std::fputs((text + '\n').c_str(), stdout);
}

// Prints the problems to standard error.
std::optional<config::Config> load_or_complain(const std::string& path) {
  config::Loaded loaded = config::load(path, config::real_environment());
  for (const config::Problem& problem : loaded.problems)
    std::fputs((config::to_string(problem) + '\n').c_str(), stderr);
  return std::move(loaded.config);
}

nlohmann::json to_json(const config::Problem& problem) {
  return {{"file", problem.where.file},
          {"line", problem.where.line},
          {"column", problem.where.column},
          {"message", problem.message},
          {"hint", problem.hint}};
}

}  // namespace

int check(const CheckOptions& options) {
  const config::Loaded loaded = config::load(options.config, config::real_environment());
  if (options.json) {
    nlohmann::json problems = nlohmann::json::array();
    for (const config::Problem& problem : loaded.problems) problems.push_back(to_json(problem));
    print(nlohmann::json{{"valid", loaded.config.has_value()}, {"problems", problems}}.dump(2));
    return loaded.config ? 0 : 1;
  }
  for (const config::Problem& problem : loaded.problems)
    std::fputs((config::to_string(problem) + '\n').c_str(), stderr);
  if (!loaded.config) return 1;
  // Rules that are wrong whatever the tables look like show up when they are built.
  for (const config::Database& database : loaded.config->databases) {
    const auto topology = router::Topology::build(database, router::Catalog::from_config(database), 1);
    if (topology) continue;
    std::fputs(fmt::format("{}: error: {}\n", topology.error().detail, topology.error().message).c_str(), stderr);
    return 1;
  }
  print(fmt::format("{}: valid, {} database{}", options.config, loaded.config->databases.size(),
                    loaded.config->databases.size() == 1 ? "" : "s"));
  return 0;
}

int explain(const ExplainOptions& options) {
  const std::optional<config::Config> config = load_or_complain(options.config);
  if (!config) return 1;
  const config::Database* database = options.database.empty() && config->databases.size() == 1
                                         ? &config->databases.front()
                                         : config->find_database(options.database);
  if (database == nullptr) {
    std::fputs(options.database.empty()
                   ? "tessera: the configuration has several databases: choose one with --database\n"
                   : fmt::format("tessera: there is no database \"{}\"\n", options.database).c_str(),
               stderr);
    return 1;
  }
  router::Catalog catalog = router::Catalog::from_config(*database);
  const auto topology = router::Topology::build(*database, catalog, 1);
  if (!topology) {
    std::fputs(fmt::format("{}: error: {}\n", topology.error().detail, topology.error().message).c_str(), stderr);
    return 1;
  }
  parser::Fingerprint print_of;
  parser::fingerprint(options.sql, {}, print_of);
  Result<std::vector<parser::Statement>> parsed = parser::postgres::parse(options.sql);
  router::PlannedText text;
  router::SessionView view;
  view.hints_allowed = database->hints;
  if (!parsed) {
    text.syntax_error = parsed.error();
  } else {
    const std::string_view hint =
        std::string_view(options.sql).substr(print_of.hint_begin, print_of.hint_end - print_of.hint_begin);
    for (const parser::Statement& statement : *parsed)
      text.statements.push_back(
          {router::plan(statement, options.sql, print_of.slots, hint, **topology, catalog, view), nullptr});
  }
  const std::vector<std::string> lines = proxy::explain_lines(text, {options.sql, print_of.slots, {}}, **topology);
  if (options.json)
    print(nlohmann::json{{"plan", lines}}.dump(2));
  else
    for (const std::string& line : lines) print(line);
  return text.syntax_error ? 1 : 0;
}

int print_schema() {
  print(config::json_schema());
  return 0;
}

}  // namespace tessera::admin
