#include "parser/postgres/scope.hpp"

#include <algorithm>

namespace tessera::parser::postgres {

namespace {

enum class Found { no, yes, perhaps };  // perhaps: the output may have the column, but it cannot be followed

Found find_output(const Output& output, std::string_view name, Resolution& result) {
  const auto named = [name](const OutputColumn& column) { return column.name == name; };
  const auto count = std::ranges::count_if(output.columns, named);
  if (count > 0) {
    const OutputColumn& column = *std::ranges::find_if(output.columns, named);
    if (count > 1 || !output.transparent || !column.source.known) return Found::perhaps;
    if (column.source.columns[0].table == no_index)
      return Found::perhaps;  // open, and to be settled in its own block only
    result = column.source;
    return Found::yes;
  }
  if (output.star != no_index) {
    if (!output.transparent) return Found::perhaps;
    result = {true, false, true, {{output.star, {}, std::string(name)}}, {output.star}};
    return Found::yes;
  }
  return output.complete ? Found::no : Found::perhaps;
}

bool explicitly(const Range& range, std::string_view name) {
  return std::ranges::any_of(range.output->columns, [name](const OutputColumn& c) { return c.name == name; });
}

Resolution unknown() {
  return {};
}

Resolution correlated(Resolution found) {
  found.outer = true;
  return found;
}

Resolution resolve_qualified(const Scope& scope, std::string_view qualifier, std::string_view name,
                             std::string_view schema) {
  const Range* match = nullptr;
  for (const Range& range : scope.ranges) {
    if (range.alias != qualifier || (!schema.empty() && range.schema != schema)) continue;
    if (match != nullptr) return unknown();
    match = &range;
  }
  if (match == nullptr)
    return scope.outer == nullptr ? unknown() : correlated(resolve_qualified(*scope.outer, qualifier, name, schema));
  if (match->any_column) return unknown();
  if (match->table == no_index) {
    Resolution result;
    return match->output && find_output(*match->output, name, result) == Found::yes ? result : unknown();
  }
  std::string written(qualifier);
  if (!schema.empty()) written = std::string(schema) + "." + written;
  return {true, false, true, {{match->table, written, std::string(name)}}, {match->table}};
}

Resolution resolve_unqualified(const Scope& scope, std::string_view name) {
  for (const Merged& merged : scope.merged) {
    if (merged.name == name) return merged.source;
  }
  std::vector<TableIndex> candidates;
  Resolution only;
  int hits = 0;
  for (const Range& range : scope.ranges) {
    if (range.any_column) return unknown();
    if (range.table != no_index) {
      candidates.push_back(range.table);
      continue;
    }
    Resolution found;
    switch (range.output ? find_output(*range.output, name, found) : Found::perhaps) {
      case Found::no:
        break;
      case Found::perhaps:
        return unknown();
      case Found::yes:
        if (explicitly(range, name)) {
          only = found;
          ++hits;
        } else {
          candidates.push_back(range.output->star);
        }
    }
  }
  if (hits == 1) return only;
  if (hits > 1) return unknown();
  if (candidates.empty())
    return scope.outer == nullptr ? unknown() : correlated(resolve_unqualified(*scope.outer, name));
  // With an enclosing query, the name may be one of its columns, if the table here has none of that name.
  const bool certain = candidates.size() == 1 && scope.outer == nullptr;
  return {true, false, true, {{certain ? candidates[0] : no_index, {}, std::string(name)}}, candidates};
}

}  // namespace

std::vector<TableIndex> Output::tables() const {
  std::vector<TableIndex> result;
  if (!transparent) return result;
  if (star != no_index) result.push_back(star);
  for (const OutputColumn& column : columns) {
    for (const ColumnRef& c : column.source.columns) {
      if (c.table != no_index) result.push_back(c.table);
    }
    result.insert(result.end(), column.source.candidates.begin(), column.source.candidates.end());
  }
  return result;
}

Output Output::renamed(const std::vector<std::string>& names) const {
  if (names.empty()) return *this;
  Output result = *this;
  if (star != no_index || !complete || names.size() > columns.size()) return {};  // positions are not known
  for (std::size_t i = 0; i < names.size(); ++i) result.columns[i].name = names[i];
  return result;
}

const WithQuery* WithScope::find(std::string_view name) const {
  for (const WithScope* scope = this; scope != nullptr; scope = scope->outer) {
    for (const WithQuery& query : scope->queries) {
      if (query.name == name) return &query;
    }
  }
  return nullptr;
}

std::vector<TableIndex> Scope::tables() const {
  std::vector<TableIndex> result;
  for (const Range& range : ranges) {
    if (range.table != no_index) result.push_back(range.table);
    if (range.output) {
      const auto more = range.output->tables();
      result.insert(result.end(), more.begin(), more.end());
    }
  }
  return result;
}

bool names_output_column(const Scope& scope, std::string_view qualifier, std::string_view name) {
  for (const Scope* at = &scope; at != nullptr; at = at->outer) {
    for (const Range& range : at->ranges) {
      if (range.alias == qualifier) return range.output && explicitly(range, name);
    }
  }
  return false;
}

Resolution resolve(const Scope& scope, std::string_view qualifier, std::string_view name, std::string_view schema) {
  return qualifier.empty() ? resolve_unqualified(scope, name) : resolve_qualified(scope, qualifier, name, schema);
}

Resolution resolve(const Scope& scope, const PgQuery__ColumnRef& column) {
  const std::vector<std::string> names = strings(list(column.fields, column.n_fields));
  switch (names.size()) {
    case 1:
      return resolve(scope, {}, names[0]);
    case 2:
      return resolve(scope, names[0], names[1]);
    case 3:
      return resolve(scope, names[1], names[2], names[0]);
    default:
      return unknown();
  }
}

}  // namespace tessera::parser::postgres
