// Which table a column name means. A `Scope` holds what one query block's FROM shows: tables, subqueries and WITH
// queries with the columns that they are known to give, and things that could give any column (functions). Names are
// resolved as far as the text alone allows; what needs a catalog stays open, with the tables that come into question.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "parser/postgres/tree.hpp"
#include "parser/statement.hpp"

namespace tessera::parser::postgres {

// What a column name can mean. `columns` has more than one entry for a column merged by USING: they are equal in every
// row that passes a condition on it.
struct Resolution {
  bool known = false;  // false: not a base table's column, or it cannot be told
  bool outer = false;  // of an enclosing query, not of this one
  bool equal = true;   // the column is exactly columns[0]; false for the merged column of a FULL JOIN
  std::vector<ColumnRef> columns;
  std::vector<TableIndex> candidates;  // when columns[0].table is no_index: the tables that can be meant
};

struct OutputColumn {
  std::string name;
  Resolution source;  // not known: an expression
};

// The columns of a subquery or WITH query.
struct Output {
  std::vector<OutputColumn> columns;
  TableIndex star = no_index;  // every name that is not in `columns` is this base table's column
  bool complete = false;       // there are no other columns than `columns` and those of `star`
  bool transparent = false;    // a filter on an output column may be applied to the base table's rows instead

  // The base tables that a filter on this output can reach.
  std::vector<TableIndex> tables() const;
  // As `FROM (…) AS s (a, b)` renames them.
  Output renamed(const std::vector<std::string>& names) const;
};

struct Range {
  std::string alias;   // empty: cannot be named
  std::string schema;  // of a table without an alias
  TableIndex table = no_index;
  bool any_column = false;  // could have a column of any name: functions, renamed tables, aliased joins
  std::shared_ptr<const Output> output;
};

struct Merged {  // a column of JOIN … USING
  std::string name;
  Resolution source;
};

struct WithQuery {
  std::string name;
  std::shared_ptr<const Output> output;
};

// The WITH queries in sight; innermost first.
struct WithScope {
  const WithScope* outer = nullptr;
  std::vector<WithQuery> queries;

  const WithQuery* find(std::string_view name) const;
};

struct Scope {
  const Scope* outer = nullptr;  // of the enclosing query, when its columns can be meant too
  const WithScope* with = nullptr;
  BlockIndex block = 0;
  std::vector<Range> ranges;
  std::vector<Merged> merged;

  // The tables whose rows a filter in WHERE can concern.
  std::vector<TableIndex> tables() const;
};

Resolution resolve(const Scope& scope, std::string_view qualifier, std::string_view name, std::string_view schema = {});
Resolution resolve(const Scope& scope, const PgQuery__ColumnRef& column);
// Whether `qualifier` is a subquery or WITH query whose output column `name` is written in the text.
bool names_output_column(const Scope& scope, std::string_view qualifier, std::string_view name);

}  // namespace tessera::parser::postgres
