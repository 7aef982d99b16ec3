// Reading and writing the files of golden.hpp.
#include <algorithm>
#include <fmt/core.h>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>

#include "config/load.hpp"
#include "parser/postgres/parse.hpp"
#include "router/builtin_functions.hpp"
#include "router/copy.hpp"
#include "router/gather.hpp"
#include "router/golden.hpp"
#include "router/merge.hpp"
#include "router/quote.hpp"
#include "router/split.hpp"
#include "router/text.hpp"

namespace tessera::router::golden {
namespace {

[[noreturn]] void bad(const std::string& what) {
  throw std::runtime_error(what);
}

// Parts between separators that do not stand in parentheses.
std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    std::size_t end = 0;
    for (int depth = 0; end < text.size() && (text[end] != separator || depth > 0); ++end) {
      depth += text[end] == '(' ? 1 : text[end] == ')' ? -1 : 0;
    }
    parts.emplace_back(trim_space(text.substr(0, end)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

void set_name(Relation& relation, const std::string& full) {
  const std::size_t dot = full.find('.');
  if (dot == std::string::npos) bad("not schema.name: " + full);
  relation.schema = full.substr(0, dot);
  relation.name = full.substr(dot + 1);
}

void add_columns(Relation& relation, std::string_view columns) {
  for (const std::string& text : split(columns, ',')) {
    const std::size_t blank = std::min(text.find(' '), text.size());
    Column column;
    column.name = text.substr(0, blank);
    column.type_name = trim_space(std::string_view(text).substr(blank));
    // "id bigint sequence", "k text generated", "at timestamp unsteady", "name text linguistic"
    for (const auto& [word, value] :
         {std::pair(" per_row", DefaultValue::per_row), std::pair(" unsteady", DefaultValue::unsteady)}) {
      if (!column.type_name.ends_with(word)) continue;
      column.default_value = value;
      column.type_name.resize(column.type_name.size() - std::string_view(word).size());
    }
    for (const auto& [word, flag] : {std::pair(" always", &Column::always), std::pair(" sequence", &Column::sequence),
                                     std::pair(" generated", &Column::generated)}) {
      if (!column.type_name.ends_with(word)) continue;
      column.*flag = true;
      column.type_name.resize(column.type_name.size() - std::string_view(word).size());
    }
    if (constexpr std::string_view word = " linguistic"; column.type_name.ends_with(word)) {
      column.deterministic_c_order = false;
      column.type_name.resize(column.type_name.size() - word.size());
    }
    if (column.sequence)
      column.sequence_name = fmt::format("{}.{}", quote_identifier(relation.schema),
                                         quote_identifier(fmt::format("{}_{}_seq", relation.name, column.name)));
    column.key_type = key_type_of(column.type_name);
    column.type = type_oid_of(column.type_name);
    relation.columns.push_back(std::move(column));
  }
}

// One line of %catalog.
void add_line(const std::string& line, Catalog& catalog) {
  const std::size_t colon = std::min(line.find(':'), line.size());
  const auto words = split(line.substr(0, colon), ' ');
  const std::string rest = line.substr(std::min(colon + 1, line.size()));
  if (words.size() < 2) bad("in %catalog: " + line);
  const std::string& kind = words[0];
  if (kind == "function") {
    const bool native = words.size() > 3 && words[3] == "native";
    catalog.functions[words[1]] = {words.at(2).front(), false, false, native, false};
  } else if (kind == "aggregate") {
    catalog.functions[words[1]] = {'i', false, true, false, false};
  } else if (kind == "unique") {
    for (Relation& relation : catalog.relations) {
      if (relation.schema + '.' + relation.name == words[1])
        relation.unique_indexes.push_back({words.at(2), split(rest, ',')});
    }
  } else if (kind == "index") {
    for (Relation& relation : catalog.relations)
      if (relation.schema + '.' + relation.name == words[1]) relation.indexes.push_back(words.at(2));
  } else if (kind == "definition") {
    for (Relation& relation : catalog.relations)
      if (relation.schema + '.' + relation.name == words[1]) relation.definition = rest;
  } else if (kind == "depends") {
    for (Relation& relation : catalog.relations) {
      if (relation.schema + '.' + relation.name == words[1]) relation.depends_on = split(rest, ',');
    }
  } else {
    Relation relation;
    set_name(relation, words[1]);
    if (kind == "view") {
      relation.kind = Relation::Kind::view;
      relation.steady = words.size() == 2;
      relation.runs_code = words.size() > 2 && words[2] == "code";
    }
    if (kind == "sequence") relation.kind = Relation::Kind::sequence;
    if (kind == "secured") relation.row_security = true;
    if (kind == "partition") relation.parents = {words.at(3)};
    if (kind == "partitioned") relation.kind = Relation::Kind::partitioned_table;
    relation.hidden_by_system = kind == "hidden";
    add_columns(relation, rest);
    catalog.relations.push_back(std::move(relation));
  }
}

Catalog read_catalog(const std::string& text) {
  Catalog catalog;
  catalog.loaded = true;
  for (const BuiltinFunction& function : builtin_functions()) {
    catalog.functions.emplace(function.name,
                              FunctionFacts{function.volatility, true, function.aggregate, true, function.set});
  }
  for (const std::string& line : split(text, '\n')) {
    if (!line.empty() && !line.starts_with('#')) add_line(line, catalog);
  }
  catalog.index();
  return catalog;
}

// The `-- name: value` lines before a statement.
struct Setup {
  SessionView session;
  std::vector<std::pair<std::string, TypeOid>> parameters;  // text, and the type that the client declares or 0
};

Setup read_setup(const std::string& sql) {
  Setup setup;
  std::istringstream lines(sql);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("-- ")) continue;
    const std::size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    const std::string name = line.substr(3, colon - 3);
    const std::string value = line.substr(colon + 2);
    if (name == "search_path") setup.session.search_path = split(value, ',');
    if (name == "temporary") setup.session.temporary_tables = split(value, ',');
    if (name == "shard") setup.session.shard_setting = value;
    if (!name.starts_with('$')) continue;
    const std::size_t blank = name.find(' ');  // "$1 double precision: 5"
    setup.parameters.emplace_back(value, blank == std::string::npos ? 0 : type_oid_of(name.substr(blank + 1)));
  }
  return setup;
}

std::string bound(const PlanTemplate& plan, const Topology& topology, const Values& values) {
  BindScratch scratch;
  Plan out;
  if (const auto done = bind(plan, topology, values, scratch, out); !done) {
    const Error& error = done.error();
    return fmt::format("-> {} {}{}\n", error.code.view(), error.message,
                       error.detail.empty() ? "" : "; " + error.detail);
  }
  std::string text = describe(out, plan, topology);
  return "-> " + text.substr(0, text.find('\n')) + '\n';
}

}  // namespace

config::Database database_from(const std::string& yaml) {
  std::string whole = "listen: {postgres: 127.0.0.1:6432}\ndatabases:\n";
  std::istringstream lines(yaml);
  for (std::string line; std::getline(lines, line);) whole += "  " + line + "\n";
  auto loaded = config::load_text("test.yaml", whole, config::real_environment());
  if (!loaded.config) bad(loaded.problems.empty() ? "no configuration" : to_string(loaded.problems.front()));
  return loaded.config->databases.front();
}

File read(const std::string& path) {
  std::ifstream stream(path);
  if (!stream) bad("cannot read " + path);
  File file{path, {}, {}, {}, {}};
  std::string config;
  std::string catalog;
  std::string* into = nullptr;
  bool cases = false;
  for (std::string line; std::getline(stream, line);) {
    if (line == "%case") {
      file.cases.emplace_back();
      into = &file.cases.back().sql;
      cases = true;
      continue;
    }
    if (line == "%expect" && cases) {
      into = &file.cases.back().expected;
      continue;
    }
    if (!cases) file.head += line + '\n';
    if (line == "%config" || line == "%catalog") {
      into = line == "%config" ? &config : &catalog;
    } else if (into != nullptr) {
      *into += line + '\n';
    }
  }
  for (Case& one : file.cases) {
    while (one.sql.ends_with('\n')) one.sql.pop_back();
    while (one.expected.ends_with("\n\n")) one.expected.pop_back();
  }
  file.database = database_from(config);
  file.catalog = catalog.empty() ? Catalog::from_config(file.database) : read_catalog(catalog);
  return file;
}

void write(const File& file) {
  std::ofstream stream(file.path, std::ios::binary);
  stream << file.head;
  for (const Case& one : file.cases) {
    stream << "%case\n" << one.sql << "\n%expect\n" << one.expected << (&one == &file.cases.back() ? "" : "\n");
  }
}

namespace {

std::string explain_plain(const File& file, const Topology& topology, const std::string& sql, bool with_ids);

// As the text that the ids are put in is answered. Texts without parameters get 1, 2, … as ids.
std::string explain_with_ids(const File& file, const Topology& topology, const std::string& sql, const GivenIds& ids) {
  auto values = id_parameters(ids, largest_parameter(sql, {}) + 1);
  std::size_t number = 0;
  if (largest_parameter(sql, {}) == 0)
    for (std::vector<std::string>& column : values)
      for (std::string& value : column) value = fmt::format("{}", ++number);
  std::vector<Moved> moves;
  const std::string given = with_ids(sql, {}, ids, values, moves);
  const std::string shown = given.substr(given.starts_with("-- ") ? given.find('\n') + 1 : 0);
  return fmt::format("{}as: {}\n{}", describe(ids, topology), shown, explain_plain(file, topology, given, true));
}

std::string explain_plain(const File& file, const Topology& topology, const std::string& sql, bool with_ids) {
  const auto statements = parser::postgres::parse(sql);
  if (statements && statements->empty()) return "no statement\n";
  if (!statements) return "syntax error: " + statements.error().message + '\n';
  Setup setup = read_setup(sql);
  setup.session.hints_allowed = file.database.hints;
  parser::Fingerprint fingerprint;
  parser::fingerprint(sql, {}, fingerprint);
  const auto hint_length = fingerprint.hint_end - fingerprint.hint_begin;
  const std::string_view hint = std::string_view(sql).substr(fingerprint.hint_begin, hint_length);
  std::vector<Values::Parameter> parameters;
  for (const auto& [text, declared] : setup.parameters) parameters.push_back({text, text == "NULL", false, declared});
  std::string text;
  for (const parser::Statement& statement : *statements) {
    const auto made = plan(statement, sql, fingerprint.slots, hint, topology, file.catalog, setup.session);
    if (made.ids && statements->size() == 1 && !with_ids) return explain_with_ids(file, topology, sql, *made.ids);
    text += describe(made, topology);
    const Values values{sql, fingerprint.slots, parameters};
    if (!made.refusal) text += bound(made, topology, values);
    BindScratch scratch;
    if (Plan plan; made.kind == parser::StatementKind::copy && bind(made, topology, values, scratch, plan) &&
                   plan.op != Operator::route && plan.op != Operator::any) {
      const auto rows = copy_plan(statement, values, topology, file.catalog, setup.session);
      text += rows ? describe(*rows, topology) : rows.error().message + '\n';
    }
    if (Plan plan; (made.merges || made.gathers || made.insert_rows) && bind(made, topology, values, scratch, plan))
      text += describe_rows(plan, statement, values, topology, file.catalog, setup.session, false);
  }
  return text;
}

}  // namespace

std::string explain(const File& file, const Topology& topology, const std::string& sql) {
  return explain_plain(file, topology, sql, false);
}

}  // namespace tessera::router::golden
