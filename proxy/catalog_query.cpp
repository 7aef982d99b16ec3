#include "proxy/catalog_query.hpp"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include "parser/postgres/parse.hpp"
#include "router/default_value.hpp"
#include "router/session_code.hpp"
#include "router/view_definition.hpp"

namespace tessera::proxy {

namespace {

using Row = pool::TextQuery::Row;

// One row a column, the first of them with what is the relation's; relations without columns give one row with an empty
// column name. A column of a domain is one of the type beneath it: the server computes and compares with that. Names
// are qualified so that nobody's search_path can put a table of his own in between.
constexpr std::string_view relations_sql = R"(
SELECT n.nspname, c.relname, c.relkind,
       coalesce(a.attname, ''), coalesce(base.type, a.atttypid, 0)::pg_catalog.int8,
       coalesce(pg_catalog.format_type(coalesce(base.type, a.atttypid), coalesce(base.modifier, a.atttypmod)), ''),
       coalesce(a.attnotnull, false), coalesce(co.collprovider = 'c' AND co.collcollate IN ('C', 'POSIX') OR co.collname = 'default' AND
         (SELECT d.datcollate IN ('C', 'POSIX') AND d.datlocprovider = 'c' FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()), true),
       coalesce(co.collisdeterministic, true), coalesce(a.attgenerated <> '', false),
       coalesce((SELECT pg_catalog.string_agg(pn.nspname || '.' || pc.relname, E'\n' ORDER BY i.inhseqno) FROM pg_catalog.pg_inherits i
                 JOIN pg_catalog.pg_class pc ON pc.oid = i.inhparent
                 JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace WHERE i.inhrelid = c.oid), ''),
       CASE WHEN c.relkind IN ('v', 'm') AND a.attnum IS NOT DISTINCT FROM first.attnum THEN coalesce((
         SELECT pg_catalog.string_agg(DISTINCT rn.nspname || '.' || rc.relname, E'\n') FROM pg_catalog.pg_rewrite r
         JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
           AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> c.oid
         JOIN pg_catalog.pg_class rc ON rc.oid = d.refobjid JOIN pg_catalog.pg_namespace rn ON rn.oid = rc.relnamespace
         WHERE r.ev_class = c.oid), '') WHEN c.relkind = 'S' THEN coalesce((
         SELECT pg_catalog.min(on_.nspname || '.' || oc.relname) FROM pg_catalog.pg_depend d
         JOIN pg_catalog.pg_class oc ON oc.oid = d.refobjid JOIN pg_catalog.pg_namespace on_ ON on_.oid = oc.relnamespace
         WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
           AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')), '') ELSE '' END,
       coalesce(a.attidentity <> '', false) OR EXISTS (SELECT FROM pg_catalog.pg_attrdef ad WHERE ad.adrelid = a.attrelid AND ad.adnum = a.attnum
         AND a.attgenerated = '' AND pg_catalog.pg_get_expr(ad.adbin, ad.adrelid) LIKE '%nextval(%'),
       CASE WHEN a.attnum IS NOT DISTINCT FROM first.attnum THEN coalesce((
         SELECT pg_catalog.string_agg(ic.relname || CASE WHEN i.indisexclusion THEN E'\x1f' ELSE (
             SELECT pg_catalog.string_agg(E'\x1f' || coalesce(ia.attname, ''), '' ORDER BY k.n)
             FROM pg_catalog.unnest(i.indkey) WITH ORDINALITY k (attnum, n)
             LEFT JOIN pg_catalog.pg_attribute ia ON ia.attrelid = i.indrelid AND ia.attnum = k.attnum AND k.attnum > 0
             WHERE k.n <= i.indnkeyatts) END, E'\n')
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
         WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion)), '') ELSE '' END,
       CASE WHEN c.relkind IN ('v', 'm') AND a.attnum IS NOT DISTINCT FROM first.attnum THEN pg_catalog.concat(
         pg_catalog.set_config('search_path', '', true), pg_catalog.left(pg_catalog.concat(
           pg_catalog.set_config('datestyle', 'ISO', true), pg_catalog.set_config('intervalstyle', 'iso_8601', true),
           pg_catalog.set_config('extra_float_digits', '1', true), pg_catalog.set_config('bytea_output', 'hex', true),
           pg_catalog.set_config('standard_conforming_strings', 'on', true)), 0),
         pg_catalog.pg_get_viewdef(c.oid),
         pg_catalog.left(pg_catalog.concat(pg_catalog.set_config('search_path', own.path, true),
           pg_catalog.set_config('datestyle', own.dates, true), pg_catalog.set_config('intervalstyle', own.intervals, true),
           pg_catalog.set_config('extra_float_digits', own.floats, true), pg_catalog.set_config('bytea_output', own.bytes, true),
           pg_catalog.set_config('standard_conforming_strings', own.strings, true)), 0)) ELSE '' END,
       EXISTS (SELECT FROM pg_catalog.pg_class s WHERE s.relname = c.relname AND s.relnamespace = 'pg_catalog'::pg_catalog.regnamespace),
       CASE WHEN a.attgenerated <> '' THEN '' ELSE coalesce(
         (SELECT pg_catalog.pg_get_expr(ad.adbin, ad.adrelid) FROM pg_catalog.pg_attrdef ad WHERE ad.adrelid = a.attrelid AND ad.adnum = a.attnum),
         (SELECT t.typdefault FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid AND t.typtype = 'd'), '') END,
       CASE WHEN a.attnum IS NOT DISTINCT FROM first.attnum THEN coalesce((
         SELECT pg_catalog.string_agg(ic.relname, E'\n' ORDER BY ic.relname) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
         WHERE i.indrelid = c.oid), '') ELSE '' END,
       CASE WHEN a.attnum IS NOT DISTINCT FROM first.attnum THEN coalesce((
         SELECT ic.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
         WHERE i.indrelid = c.oid AND i.indisprimary), '') ELSE '' END,
       c.relrowsecurity,
       coalesce((SELECT pg_catalog.min(pg_catalog.format('"%s"."%s"', pg_catalog.replace(sn.nspname, '"', '""'), pg_catalog.replace(sc.relname, '"', '""')))
         FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class sc ON sc.oid = d.objid AND sc.relkind = 'S' JOIN pg_catalog.pg_namespace sn ON sn.oid = sc.relnamespace
         WHERE a.attidentity <> '' AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
           AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'i'),
         (SELECT pg_catalog.min(pg_catalog.format('"%s"."%s"', pg_catalog.replace(sn.nspname, '"', '""'), pg_catalog.replace(sc.relname, '"', '""')))
         FROM pg_catalog.pg_attrdef ad JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = ad.oid
           AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
         JOIN pg_catalog.pg_class sc ON sc.oid = d.refobjid AND sc.relkind = 'S' JOIN pg_catalog.pg_namespace sn ON sn.oid = sc.relnamespace
         WHERE ad.adrelid = a.attrelid AND ad.adnum = a.attnum AND a.attgenerated = ''
           AND pg_catalog.pg_get_expr(ad.adbin, ad.adrelid) ~ '^nextval\(''([^'']|'''')*''::regclass\)$'), ''),
       coalesce(a.attidentity = 'a', false)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN LATERAL (SELECT pg_catalog.min(f.attnum) FROM pg_catalog.pg_attribute f
  WHERE f.attrelid = c.oid AND f.attnum > 0 AND NOT f.attisdropped) first (attnum)
LEFT JOIN (
  WITH RECURSIVE domains AS (
    SELECT t.oid AS domain, t.typbasetype AS type, t.typtypmod AS modifier FROM pg_catalog.pg_type t WHERE t.typtype = 'd'
    UNION ALL
    SELECT d.domain, t.typbasetype, t.typtypmod FROM domains d JOIN pg_catalog.pg_type t ON t.oid = d.type AND t.typtype = 'd')
  SELECT d.* FROM domains d JOIN pg_catalog.pg_type t ON t.oid = d.type AND t.typtype <> 'd') base ON base.domain = a.atttypid
LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
CROSS JOIN (SELECT pg_catalog.current_setting('search_path'), pg_catalog.current_setting('datestyle'), pg_catalog.current_setting('intervalstyle'),
  pg_catalog.current_setting('extra_float_digits'), pg_catalog.current_setting('bytea_output'), pg_catalog.current_setting('standard_conforming_strings')
  OFFSET 0) own (path, dates, intervals, floats, bytes, strings)
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg\_temp\_%'
  AND n.nspname NOT LIKE 'pg\_toast\_temp\_%'
ORDER BY c.oid, a.attnum)";

constexpr std::string_view functions_sql = R"(
SELECT p.proname, pg_catalog.max(CASE p.provolatile WHEN 'v' THEN 3 WHEN 's' THEN 2 ELSE 1 END)::pg_catalog.text,
       pg_catalog.bool_and(n.nspname IN ('pg_catalog', 'information_schema')), pg_catalog.bool_or(p.prokind = 'a'),
       pg_catalog.bool_and(l.lanname IN ('c', 'internal') OR n.nspname IN ('pg_catalog', 'information_schema')),
       pg_catalog.bool_and(l.lanname IN ('c', 'internal', 'sql', 'plpgsql') OR p.provolatile = 'i' OR n.nspname IN ('pg_catalog', 'information_schema')),
       coalesce(pg_catalog.string_agg(coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc), E'\n;\n' ORDER BY p.oid)
         FILTER (WHERE l.lanname IN ('sql', 'plpgsql') AND n.nspname NOT IN ('pg_catalog', 'information_schema')), ''),
       pg_catalog.bool_or(p.proretset)
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang GROUP BY p.proname ORDER BY p.proname)";
constexpr std::size_t relation_columns = 22;
constexpr std::size_t function_columns = 8;

// In the order of the query's rows: that of a relation's columns counts.
std::string digest_of(std::string_view query) {
  return fmt::format(
      "SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(q::pg_catalog.text, E'\\n'), '')) FROM ({}) q", query);
}

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

// A view's dependencies include other views: replaced by what those stand on, however deep. It is no steadier than they
// are.
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
      relation.steady = relation.steady && below->steady;
      relation.runs_code = relation.runs_code || below->runs_code;
      relation.volatile_code = relation.volatile_code || below->volatile_code;
      for (const std::string& next : below->depends_on) {
        if (std::find(seen.begin(), seen.end(), next) != seen.end()) continue;
        seen.push_back(next);
        open.push_back(next);
      }
    }
    relation.depends_on = std::move(found);
  }
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(separator, at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

// Lines of the index's name and its columns.
std::vector<router::UniqueIndex> unique_indexes(const std::string& text) {
  std::vector<router::UniqueIndex> indexes;
  for (const std::string& line : split(text, '\n')) {
    const std::size_t end = std::min(line.find('\x1f'), line.size());
    router::UniqueIndex& index = indexes.emplace_back();
    index.name = line.substr(0, end);
    index.columns = split(line.substr(std::min(end + 1, line.size())), '\x1f');
  }
  return indexes;
}

std::string text(const Row& row, std::size_t column) {
  return row[column].value_or("");
}
bool flag(const Row& row, std::size_t column) {
  return text(row, column) == "t";
}

// Needs the functions.
router::DefaultValue default_value(const std::string& expression, bool sequence, const router::Catalog& catalog) {
  if (sequence) return router::DefaultValue::unsteady;
  if (expression.empty()) return router::DefaultValue::steady;
  const auto parsed = parser::postgres::parse("SELECT " + expression);
  if (!parsed || parsed->size() != 1) return router::DefaultValue::unsteady;
  return router::judge_default(parsed->front(), expression, catalog);
}

void add_relation_row(router::Catalog& catalog, const Row& row) {
  std::vector<router::Relation>& relations = catalog.relations;
  if (relations.empty() || relations.back().schema != text(row, 0) || relations.back().name != text(row, 1)) {
    router::Relation& relation = relations.emplace_back();
    relation.schema = text(row, 0);
    relation.name = text(row, 1);
    relation.kind = kind_of(text(row, 2).empty() ? '?' : text(row, 2)[0]);
    relation.parents = split(text(row, 10), '\n');
    relation.depends_on = split(text(row, 11), '\n');
    relation.unique_indexes = unique_indexes(text(row, 13));
    relation.hidden_by_system = flag(row, 15);
    relation.indexes = split(text(row, 17), '\n');
    relation.row_security = flag(row, 19);
    if (relation.kind == router::Relation::Kind::view) relation.definition = text(row, 14);
    for (router::UniqueIndex& index : relation.unique_indexes) index.primary = index.name == text(row, 18);
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
  column.sequence = flag(row, 12);
  column.default_value = default_value(text(row, 16), column.sequence, catalog);
  column.sequence_name = text(row, 20);
  column.always = flag(row, 21);
}

void add_function_row(router::Catalog& catalog, const Row& row) {
  router::FunctionFacts facts;
  facts.volatility = text(row, 1) == "3" ? 'v' : text(row, 1) == "2" ? 's' : 'i';
  facts.builtin = flag(row, 2);
  facts.aggregate = flag(row, 3);
  facts.native = flag(row, 4);
  facts.set = flag(row, 7);
  catalog.functions.emplace(text(row, 0), facts);
}

// Needs the functions. A materialized view holds what its tables once were, on each shard at another time.
void judge_view_row(router::Catalog& catalog, const Row& row) {
  const std::string query = text(row, 14);
  if (query.empty()) return;
  const auto relation = std::ranges::find_if(catalog.relations, [&row](const router::Relation& candidate) {
    return candidate.schema == text(row, 0) && candidate.name == text(row, 1);
  });
  const auto parsed = parser::postgres::parse(query);
  if (!parsed || parsed->size() != 1 || relation == catalog.relations.end()) return;
  const router::ViewDefinition view = router::judge_view(parsed->front(), catalog);
  relation->steady = view.steady && relation->kind == router::Relation::Kind::view;
  relation->runs_code = view.runs_code;
  relation->volatile_code = view.volatile_code && relation->kind == router::Relation::Kind::view;
}

// Functions that the configuration vouches for change nothing, nor does what calls them.
void judge_code(router::Catalog& catalog, const std::vector<std::vector<Row>>& results,
                const std::vector<std::string>& vouched) {
  std::vector<router::CodeSource> sources;
  for (const Row& row : results.at(1))
    if (text(row, 2) == "v" && row[14])  // a materialized one has run before
      sources.push_back({text(row, 1), true, true, *row[14]});
  for (const Row& row : results.at(2)) {
    if (std::ranges::find(vouched, text(row, 0)) != vouched.end()) continue;
    const bool readable = flag(row, 5);
    if (!readable || (row[6] && !row[6]->empty()))
      sources.push_back({text(row, 0), false, readable, row[6] ? std::string_view(*row[6]) : ""});
  }
  router::find_session_code(sources, catalog);
}

bool has_columns(const std::vector<Row>& rows, std::size_t columns) {
  return std::ranges::all_of(rows, [columns](const Row& row) { return row.size() == columns; });
}

}  // namespace

std::vector<std::string> catalog_queries() {
  const std::string digest = fmt::format("SELECT ({}) || ({})", digest_of(relations_sql), digest_of(functions_sql));
  return {digest, std::string(relations_sql), std::string(functions_sql)};
}

std::string catalog_digest(const std::vector<std::vector<Row>>& results) {
  const std::vector<Row>& rows = results.at(0);
  return rows.empty() || rows[0].empty() ? "" : text(rows[0], 0);
}

Result<std::shared_ptr<router::Catalog>> read_catalog(const std::vector<std::vector<Row>>& results,
                                                      const std::vector<std::string>& read_only_functions) {
  if (results.size() != 3 || !has_columns(results[1], relation_columns) || !has_columns(results[2], function_columns))
    return std::unexpected(Error{sqlstate::protocol_violation,
                                 "the shard's answer about its catalog does not have the columns asked for",
                                 {},
                                 {},
                                 0});
  auto catalog = std::make_shared<router::Catalog>();
  catalog->digest = catalog_digest(results);
  for (const Row& row : results.at(2)) add_function_row(*catalog, row);
  for (const std::string& name : read_only_functions)
    if (const auto found = catalog->functions.find(name);
        found != catalog->functions.end() && found->second.volatility == 'v')
      found->second.volatility = 's';
  catalog->loaded = true;
  for (const Row& row : results.at(1)) add_relation_row(*catalog, row);
  for (const Row& row : results.at(1)) judge_view_row(*catalog, row);
  flatten_views(*catalog);
  judge_code(*catalog, results, read_only_functions);
  catalog->index();
  return catalog;
}

}  // namespace tessera::proxy
