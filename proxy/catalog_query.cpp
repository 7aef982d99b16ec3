#include "proxy/catalog_query.hpp"

#include <algorithm>
#include <charconv>

namespace tessera::proxy {

namespace {

using Row = pool::TextQuery::Row;

// One row a column; relations without columns give one row with an empty column name. Names are qualified so that
// nobody's search_path can put a table of his own in between.
constexpr std::string_view relations_sql = R"(
SELECT n.nspname, c.relname, c.relkind,
       coalesce(a.attname, ''), coalesce(a.atttypid, 0)::pg_catalog.int8, coalesce(pg_catalog.format_type(a.atttypid, a.atttypmod), ''),
       coalesce(a.attnotnull, false), coalesce(co.collprovider = 'c' AND co.collcollate IN ('C', 'POSIX') OR co.collname = 'default' AND
         (SELECT d.datcollate IN ('C', 'POSIX') AND d.datlocprovider = 'c' FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()), true),
       coalesce(co.collisdeterministic, true), coalesce(a.attgenerated <> '', false),
       coalesce((SELECT pn.nspname || '.' || pc.relname FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class pc ON pc.oid = i.inhparent
                 JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace WHERE i.inhrelid = c.oid ORDER BY i.inhseqno LIMIT 1), ''),
       CASE WHEN c.relkind IN ('v', 'm') AND coalesce(a.attnum, 1) = 1 THEN coalesce((
         SELECT pg_catalog.string_agg(DISTINCT rn.nspname || '.' || rc.relname, E'\n') FROM pg_catalog.pg_rewrite r
         JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
           AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> c.oid
         JOIN pg_catalog.pg_class rc ON rc.oid = d.refobjid JOIN pg_catalog.pg_namespace rn ON rn.oid = rc.relnamespace
         WHERE r.ev_class = c.oid), '') ELSE '' END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg\_temp\_%'
  AND n.nspname NOT LIKE 'pg\_toast\_temp\_%'
ORDER BY c.oid, a.attnum)";

constexpr std::string_view functions_sql = R"(
SELECT p.proname, pg_catalog.max(CASE p.provolatile WHEN 'v' THEN 3 WHEN 's' THEN 2 ELSE 1 END)::pg_catalog.text,
       pg_catalog.bool_and(n.nspname = 'pg_catalog'), pg_catalog.bool_or(p.prokind = 'a')
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace GROUP BY p.proname)";

router::Relation::Kind kind_of(char relkind) {
  using Kind = router::Relation::Kind;
  switch (relkind) {
    case 'r':
      return Kind::table;
    case 'p':
      return Kind::partitioned_table;
    case 'v':
      return Kind::view;
    case 'm':
      return Kind::materialized_view;
    case 'f':
      return Kind::foreign_table;
    case 'S':
      return Kind::sequence;
    default:
      return Kind::other;
  }
}

// A view's dependencies include other views: replaced by what those stand on, however deep.
void flatten_views(router::Catalog& catalog) {
  catalog.index();
  const auto is_view = [](const router::Relation* relation) {
    return relation != nullptr && (relation->kind == router::Relation::Kind::view ||
                                   relation->kind == router::Relation::Kind::materialized_view);
  };
  for (router::Relation& relation : catalog.relations) {
    if (relation.depends_on.empty()) continue;
    std::vector<std::string> found;
    std::vector<std::string> open = relation.depends_on;
    std::vector<std::string> seen = open;
    while (!open.empty()) {
      const std::string name = open.back();
      open.pop_back();
      const std::size_t dot = name.find('.');
      const router::Relation* below = catalog.find(name.substr(0, dot), name.substr(dot + 1));
      if (!is_view(below)) {
        found.push_back(name);
        continue;
      }
      for (const std::string& next : below->depends_on) {
        if (std::find(seen.begin(), seen.end(), next) != seen.end()) continue;
        seen.push_back(next);
        open.push_back(next);
      }
    }
    relation.depends_on = std::move(found);
  }
}

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

std::string text(const Row& row, std::size_t column) {
  return row[column].value_or("");
}
bool flag(const Row& row, std::size_t column) {
  return text(row, column) == "t";
}

void add_relation_row(router::Catalog& catalog, const Row& row) {
  std::vector<router::Relation>& relations = catalog.relations;
  if (relations.empty() || relations.back().schema != text(row, 0) || relations.back().name != text(row, 1)) {
    router::Relation& relation = relations.emplace_back();
    relation.schema = text(row, 0);
    relation.name = text(row, 1);
    relation.kind = kind_of(text(row, 2).empty() ? '?' : text(row, 2)[0]);
    relation.parent = text(row, 10);
    relation.depends_on = split_lines(text(row, 11));
  }
  if (text(row, 3).empty()) return;
  router::Column& column = relations.back().columns.emplace_back();
  column.name = text(row, 3);
  const std::string oid = text(row, 4);
  std::from_chars(oid.data(), oid.data() + oid.size(), column.type);
  column.type_name = text(row, 5);
  column.key_type = router::key_type_of(column.type);
  column.not_null = flag(row, 6);
  column.deterministic_c_order = flag(row, 7);
  column.deterministic = flag(row, 8);
  column.generated = flag(row, 9);
}

void add_function_row(router::Catalog& catalog, const Row& row) {
  router::FunctionFacts facts;
  facts.volatility = text(row, 1) == "3" ? 'v' : text(row, 1) == "2" ? 's' : 'i';
  facts.builtin = flag(row, 2);
  facts.aggregate = flag(row, 3);
  catalog.functions.emplace(text(row, 0), facts);
}

}  // namespace

std::vector<std::string> catalog_queries() {
  return {std::string(relations_sql), std::string(functions_sql)};
}

std::shared_ptr<router::Catalog> read_catalog(const std::vector<std::vector<Row>>& results,
                                              const std::vector<std::string>& read_only_functions) {
  auto catalog = std::make_shared<router::Catalog>();
  for (const Row& row : results.at(0))
    if (row.size() == 12) add_relation_row(*catalog, row);
  for (const Row& row : results.at(1))
    if (row.size() == 4) add_function_row(*catalog, row);
  for (const std::string& name : read_only_functions)
    if (const auto found = catalog->functions.find(name);
        found != catalog->functions.end() && found->second.volatility == 'v')
      found->second.volatility = 's';
  flatten_views(*catalog);
  catalog->loaded = true;
  return catalog;
}

}  // namespace tessera::proxy
