// What a statement's conditions and column equalities imply for the rows of one table.
//
// The parser lists facts, each with the tables whose rows it restricts: a row of such a table counts only in
// combination with rows for which the fact holds. A fact that links a restricted table t with a table u therefore
// passes on what restricts u: the row of u in that combination counts itself, or t's row would not. `Facts` of a table
// are all facts that restrict it or a table reached that way; within them equality is transitive, whatever columns it
// runs through. Internal to router.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "router/planning.hpp"

namespace tessera::router {

using Node = std::uint32_t;  // one column of one table

// All facts of a statement, with every column resolved; what cannot be resolved for certain is left out.
class FactBase {
public:
  FactBase(const PlanRequest& request, const std::vector<ResolvedTable>& tables);

  struct Equality {
    Node left, right;
    parser::TableIndex left_table, right_table;
    std::vector<parser::TableIndex> restricts;
  };
  struct Constant {  // a Condition
    Node column;
    const parser::Condition* condition;
    std::vector<parser::TableIndex> restricts;
  };
  struct Rows {  // a RowCondition
    std::vector<Node> columns;
    const parser::RowCondition* condition;
    std::vector<parser::TableIndex> restricts;
  };
  const std::vector<Equality>& equalities() const { return equalities_; }
  const std::vector<Constant>& constants() const { return constants_; }
  const std::vector<Rows>& rows() const { return rows_; }
  std::size_t node_count() const { return nodes_.size(); }
  std::size_t table_count() const { return tables_.size(); }
  // Adds the column when it is not there yet; so only while the base is being set up.
  Node node(parser::TableIndex table, const std::string& column);
  const std::string& column_of(Node node) const { return nodes_[node].second; }
  // Unsupported if it is not known.
  KeyType type_of(Node node) const { return type_of(nodes_[node].first, nodes_[node].second); }

private:
  // The table that a column belongs to; no_index: cannot be told.
  parser::TableIndex table_of(const parser::ColumnRef& column, const std::vector<parser::TableIndex>& restricts) const;
  KeyType type_of(parser::TableIndex table, const std::string& column) const;
  void add_equality(const parser::ColumnEquality& equality);
  bool compares_itself(const parser::Condition& condition) const;

  const std::vector<ResolvedTable>& tables_;
  std::vector<std::pair<parser::TableIndex, std::string>> nodes_;
  std::vector<Equality> equalities_;
  std::vector<Constant> constants_;
  std::vector<Rows> rows_;
};

class Facts {
public:
  Facts(const FactBase& base, parser::TableIndex table);

  bool reaches(parser::TableIndex table) const { return reached_[table]; }
  bool equal(Node a, Node b) const { return root(a) == root(b); }
  // Whether a fact with these restrictions is among the table's facts.
  bool hold(const std::vector<parser::TableIndex>& restricts) const;

private:
  Node root(Node node) const;

  std::vector<bool> reached_;
  std::vector<Node> parents_;
};

}  // namespace tessera::router
