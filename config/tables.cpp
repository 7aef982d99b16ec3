#include <algorithm>
#include <fmt/core.h>
#include <map>
#include <set>
#include <unordered_map>

#include "config/scalars.hpp"
#include "config/sections.hpp"

namespace tessera::config {
namespace {

using KeyCounts = std::unordered_map<std::string, std::size_t>;

// How many key columns each rule takes.
KeyCounts key_counts(const std::vector<Rule>& rules) {
  KeyCounts counts;
  for (const Rule& rule : rules) {
    const auto* composite = std::get_if<CompositeRule>(&rule.kind);
    counts[rule.name] = composite != nullptr ? composite->of.size() : 1;
  }
  return counts;
}

void check_place(Section& section, const Table& table) {
  std::string given;
  int count = 0;
  for (const std::string_view key : {"rule", "reference", "shard"}) {
    if (section.node().find(key) == nullptr || (key == "reference" && !table.reference)) continue;
    if (count++ > 0) given += " and ";
    given += fmt::format("\"{}\"", key);
  }
  if (count == 1) return;
  section.context().problem(
      section.mark(),
      count == 0 ? "a table needs one of \"rule\", \"reference: true\" and \"shard\""
                 : fmt::format("a table cannot have {} at once", given),
      "rule: rows are spread by key; reference: the same on every shard; shard: lives on that one");
}

void check_key_type(Section& section, const Table& table) {
  if (!section.has("key_type") || table.key.empty()) return;
  const std::vector<std::string> types = table.key_types();
  if (types.size() == table.key.size() && std::ranges::find(types, "") == types.end()) return;
  const auto left_out = static_cast<std::size_t>(std::ranges::count(types, ""));
  const std::size_t given = types.size() - left_out;
  section.problem("key_type",
                  fmt::format("the key has {} column{}, \"key_type\" {} type{}", table.key.size(),
                              table.key.size() == 1 ? "" : "s", given, given == 1 ? "" : "s"),
                  table.key.size() == 1 ? "" : "one type for each column, in their order: \"text, bigint\"");
}

void check_key(Section& section, const Table& table, const KeyCounts& counts) {
  if (section.node().find("rule") == nullptr) {
    for (const std::string_view key : {"key", "key_type", "id", "id_column"}) {
      if (section.has(key)) section.problem(key, fmt::format("\"{}\" is only for tables with a rule", key));
    }
    return;
  }
  if (section.node().find("key") == nullptr || (section.has("key") && table.key.empty())) {
    section.problem("key", "a table with a rule needs \"key\"", "the column, or columns, by which rows are spread");
    return;
  }
  check_key_type(section, table);
  const auto count = counts.find(table.rule);
  if (table.key.empty() || count == counts.end() || count->second == table.key.size()) return;
  section.problem("key", fmt::format("rule \"{}\" takes {} key column{}, here {} {}", section.find("rule")->shown(),
                                     count->second, count->second == 1 ? "" : "s", table.key.size(),
                                     table.key.size() == 1 ? "is given" : "are given"));
}

void check_id(Section& section, const Table& table) {
  if (section.has("id_column") && table.id.empty())
    section.problem("id_column", "\"id_column\" is only for tables with \"id\"", "id: snowflake");
  if (section.has("id") && !table.id.empty() && table.id_column.empty() && table.key.size() > 1)
    section.problem("id", "the key has several columns, and \"id\" is for one", "id_column: which of them, or another");
}

void check_columns(Section& section, const Table& table) {
  const std::set<std::string> columns(table.columns.begin(), table.columns.end());
  for (const std::string_view key : {"columns", "key", "unique"}) {
    std::set<std::string> seen;
    section.each_text(key, [&](const Node& item) {
      if (!seen.insert(item.text).second) {
        section.context().problem(item.mark, fmt::format("column \"{}\" is listed twice", item.shown()));
      } else if (!columns.empty() && !columns.contains(item.text)) {
        section.context().problem(item.mark, fmt::format("column \"{}\" is not among \"columns\"", item.shown()));
      }
    });
  }
}

Table read_table(Section section, const Names& names, const KeyCounts& counts) {
  Table table;
  table.position = section.context().position(section.mark());
  if (auto name = parse_table_name(section.node().key)) {
    if (!name->schema.empty()) table.schema = std::move(name->schema);
    table.name = std::move(name->name);
  } else {
    section.context().problem(
        section.mark(), fmt::format("\"{}\" is not a table's name", section.node().key),
        "table, or schema.table; a part with a dot or a quote in it stands in double quotes, as in SQL");
  }
  if (const Node* rule = section.find("rule")) {
    if (auto name = names.rule(*rule)) table.rule = *std::move(name);
  }
  names.read_shard(section, "shard", table.shard);
  section.read("reference", table.reference);
  section.read("key", table.key);
  section.read("key_type", table.key_type);
  section.read("columns", table.columns);
  IdKind id = IdKind::none;
  section.read("id", id);
  table.id = name_of(id_kinds, id);
  section.read("id_column", table.id_column);
  section.read("unique", table.unique);
  section.finish();
  const auto kind = section.node().kind;
  if (kind != Node::Kind::mapping && kind != Node::Kind::null) return table;  // reported
  check_place(section, table);
  check_key(section, table, counts);
  check_id(section, table);
  check_columns(section, table);
  return table;
}

}  // namespace

void read_tables(Section& database, const Names& names, Database& out) {
  const KeyCounts counts = key_counts(out.rules);
  std::map<std::pair<std::string, std::string>, Mark> seen;
  database.each_named_section("tables", [&](Section section) {
    const Mark where = section.mark();
    Table table = read_table(std::move(section), names, counts);
    const auto [first, fresh] = seen.emplace(std::pair(table.schema, table.name), where);
    if (!fresh && !table.name.empty()) {
      database.context().problem(where, fmt::format("table \"{}.{}\" is listed twice", table.schema, table.name),
                                 database.context().problems.already_at(first->second));
    }
    out.tables.push_back(std::move(table));
  });
}

}  // namespace tessera::config
