#include <benchmark/benchmark.h>

#include "parser/postgres/parse.hpp"
#include "router/plan.hpp"
#include "router/planner.hpp"

namespace tessera::router {
namespace {

struct Setup {
  config::Database database;
  Catalog catalog;
  std::shared_ptr<const Topology> topology;

  Setup() {
    for (const char* name : {"s0", "s1", "s2", "s3"}) database.shards.push_back({.name = name});
    database.rules.push_back({"by_id", config::HashRule{.shards = {"s0", "s1", "s2", "s3"}}, {}});
    database.tables.push_back({.name = "accounts", .rule = "by_id", .key = {"aid"}, .key_type = "integer"});
    catalog = Catalog::from_config(database);
    topology = *Topology::build(database, catalog, 1);
  }
};

constexpr std::string_view sql = "SELECT abalance FROM accounts WHERE aid = 12345";

PlanTemplate make(const Setup& setup, std::string_view text, const parser::Fingerprint& print) {
  return plan((*parser::postgres::parse(text)).front(), text, print.slots, {}, *setup.topology, setup.catalog, {});
}

void bind_literal(benchmark::State& state) {
  const Setup setup;
  parser::Fingerprint print;
  parser::fingerprint(sql, {}, print);
  const PlanTemplate made = make(setup, sql, print);
  BindScratch scratch;
  Plan out;
  for (auto _ : state) benchmark::DoNotOptimize(bind(made, *setup.topology, {sql, print.slots, {}}, scratch, out));
}
BENCHMARK(bind_literal);

void bind_binary_parameter(benchmark::State& state) {
  const Setup setup;
  constexpr std::string_view text = "SELECT abalance FROM accounts WHERE aid = $1";
  const PlanTemplate made = make(setup, text, {});
  const Values::Parameter parameter{{"\0\0\x30\x39", 4}, false, true, 23};
  BindScratch scratch;
  Plan out;
  for (auto _ : state) benchmark::DoNotOptimize(bind(made, *setup.topology, {text, {}, {&parameter, 1}}, scratch, out));
}
BENCHMARK(bind_binary_parameter);

void plan_lookup(benchmark::State& state) {
  const Setup setup;
  parser::Fingerprint print;
  parser::fingerprint(sql, {}, print);
  const auto statements = *parser::postgres::parse(sql);
  for (auto _ : state) {
    benchmark::DoNotOptimize(plan(statements.front(), sql, print.slots, {}, *setup.topology, setup.catalog, {}));
  }
}
BENCHMARK(plan_lookup);

}  // namespace
}  // namespace tessera::router
