// Where the sharding rules put keys, for comparison with a server's opinion.
//
//   route_keys config.yaml keys  <table>          reads keys from standard input, in COPY's text format, one row of key
//                                                 columns a line; writes the shard's number, or -1 for no place
//   route_keys config.yaml predicates <table>     writes each shard's SQL predicate on a line
//
// The first database of the configuration is used, the table's key_type says the types.
#include <fmt/core.h>
#include <iostream>
#include <string>
#include <vector>

#include "config/load.hpp"
#include "router/quote.hpp"
#include "router/topology.hpp"

namespace {

using namespace tessera;

[[noreturn]] void die(const std::string& message) {
  std::cerr << "route_keys: " << message << '\n';
  std::exit(1);
}

// A line of COPY's text format as columns.
void split(const std::string& line, std::vector<std::string>& columns) {
  columns.assign(1, {});
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\t') {
      columns.emplace_back();
    } else if (line[i] != '\\' || i + 1 == line.size()) {
      columns.back() += line[i];
    } else {
      constexpr std::string_view letters = "bfnrtv";
      const std::size_t known = letters.find(line[++i]);
      columns.back() += known == std::string_view::npos ? line[i] : "\b\f\n\r\t\v"[known];
    }
  }
}

void route(const router::TableRouting& table, const router::Rule& rule) {
  std::vector<std::string> columns;
  std::vector<std::string> scratch(table.key_types.size());
  std::vector<router::KeyValue> key;
  std::string out;
  for (std::string line; std::getline(std::cin, line);) {
    split(line, columns);
    if (columns.size() != table.key_types.size()) die("a row with another number of columns: " + line);
    key.clear();
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const auto value = router::from_text(columns[i], table.key_types[i], scratch[i]);
      if (!value) die(fmt::format("\"{}\" cannot be read as {}", columns[i], name_of(table.key_types[i])));
      key.push_back(*value);
    }
    const auto place = rule.locate(key);
    out += place ? std::to_string(place->shard.value()) : "-1";
    out += '\n';
    if (out.size() > 60000) {
      std::cout << out;
      out.clear();
    }
  }
  std::cout << out;
}

}  // namespace

int main(int argument_count, char** arguments) {
  if (argument_count != 4) die("usage: route_keys config.yaml keys|predicates table");
  std::ios::sync_with_stdio(false);
  const auto loaded = config::load(arguments[1], config::real_environment());
  if (!loaded.config) die(loaded.problems.empty() ? "no configuration" : to_string(loaded.problems.front()));
  const config::Database& database = loaded.config->databases.front();
  const auto topology = router::Topology::build(database, router::Catalog::from_config(database), 1);
  if (!topology) die(topology.error().message);
  const router::TableRouting* table = (*topology)->find_table("public", arguments[3]);
  if (table == nullptr || table->key_types.empty()) die("no such sharded table, or no key_type");
  const router::Rule& rule = (*topology)->rule(table->rule);
  if (std::string_view(arguments[2]) == "keys") {
    route(*table, rule);
    return 0;
  }
  std::vector<router::KeyColumn> columns;
  for (std::size_t i = 0; i < table->key_columns.size(); ++i) {
    columns.push_back({router::quote_identifier(table->key_columns[i]), table->key_types[i]});
  }
  for (std::uint32_t shard = 0; shard < (*topology)->shard_count(); ++shard) {
    std::cout << rule.predicate(ShardId(shard), columns) << '\n';
  }
}
