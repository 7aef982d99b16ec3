// Turns the syntax tree of one statement into a `Statement`. One `Builder` lives for one statement; its member
// functions follow the grammar and are spread over files by theme: utility.cpp (dispatch), sessions.cpp, definition.cpp
// and table_definition.cpp (DDL), select.cpp, from.cpp, modify.cpp (INSERT, UPDATE, DELETE, MERGE), expressions.cpp,
// conditions.cpp. Not included from outside the folder. Recursion is bounded by `nesting_bound`, which the entry point
// checks first.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "parser/postgres/layout.hpp"
#include "parser/postgres/scope.hpp"
#include "parser/postgres/tokens.hpp"
#include "parser/postgres/tree.hpp"
#include "parser/statement.hpp"

namespace tessera::parser::postgres {

// What one entry of FROM added to the scope.
struct JoinSide {
  std::size_t first = 0;           // its ranges are scope.ranges[first, …)
  std::vector<TableIndex> tables;  // the tables whose rows come through it, those behind subqueries included
  std::vector<Merged> merged;
};

// What the name of an object names.
enum class Named { nothing, relation, index, part_of_relation };

class Builder {
public:
  // `span` is the statement's place in the text, from its first token to its last.
  Builder(const TokenList& tokens, SourceSpan span) : tokens_(tokens), layout_(tokens, span) { out_.span = span; }

  Statement build(const Node* statement);

private:
  struct Query {  // a built query block
    BlockIndex block = no_index;
    std::shared_ptr<const Output> output;
  };
  struct Place {  // where a query stands
    BlockRole role = BlockRole::top;
    BlockIndex parent = no_index;
    const Scope* outer = nullptr;
    const WithScope* with = nullptr;
  };

  // utility.cpp: statements by kind
  void statement(const Node* node);
  bool query(const Node* node);  // SELECT and the modifying statements
  bool maintenance(const Node* node);
  bool code(const Node* node);  // DO, CALL, LOAD
  bool rows(const Node* node);  // COPY, TRUNCATE, LOCK
  void explain(const PgQuery__ExplainStmt& node);
  void copy(const PgQuery__CopyStmt& node);
  void nested(const Node* node, TokenIndex first);  // into out_.inner; `first` is its first token
  void nested(const Node* node, TokenIndex first, TokenIndex behind);
  void arguments(NodeList nodes);  // expressions of a statement that has no query block of its own
  TokenIndex first_token() const { return tokens_.at(out_.span.begin); }
  TokenIndex behind_token() const { return tokens_.at(out_.span.end); }
  std::string rest(TokenIndex from) const;  // the text from here to the statement's end
  // sessions.cpp
  bool transaction(const Node* node);
  bool prepared(const Node* node);
  bool cursor(const Node* node);
  bool channel(const Node* node);
  bool setting(const Node* node);
  void set(const PgQuery__VariableSetStmt& node);
  std::string setting_value(const PgQuery__VariableSetStmt& node) const;
  // definition.cpp
  void definition(const Node* node);
  void create_table_as(const PgQuery__CreateTableAsStmt& node);
  void defined_tables(const Message& message, TableUse use);
  void object_table(const Node* object, Named named);
  void dropped_tables(const PgQuery__DropStmt& node);
  SourceSpan find_name(std::string_view name) const;
  bool names_temporary_schema() const;
  std::string definition_command() const;  // the server's command tag: "CREATE TABLE"
  // table_definition.cpp
  void define_column(const PgQuery__ColumnDef& node);
  void define_constraint(const PgQuery__Constraint& node);
  void define_unique_index(const PgQuery__IndexStmt& node);
  void alter_column(const PgQuery__AlterTableCmd& node);
  void new_values(const PgQuery__AlterTableCmd& node, const PgQuery__ColumnDef& column);
  Block block_of(NodeList expressions) const;
  void rename(const PgQuery__RenameStmt& node);
  // select.cpp
  Query select(const SelectNode& node, const Place& place);
  void with_clause(const PgQuery__WithClause* node, BlockIndex block, const Scope* outer, WithScope& with);
  Query with_query(const PgQuery__CommonTableExpr& cte, BlockIndex block, const Scope* outer, const WithScope& with);
  Query set_operation(const SelectNode& node, Query query, const Place& place, const WithScope& with);
  Query values(const SelectNode& node, Query query, Scope& scope);
  void select_core(const SelectNode& node, BlockIndex block, Scope& scope);
  void tail(const SelectNode& node, BlockIndex block, const Scope& scope);
  void clauses(const SelectNode& node, BlockIndex block);
  void modification_clauses(BlockIndex block, std::string_view word, int target, const PgQuery__WithClause* with,
                            bool from, bool where, bool returning);
  void targets(NodeList nodes, BlockIndex block, const Scope& scope, SourceSpan within);
  Output output(const SelectNode& node, BlockIndex block, const Scope& scope) const;
  bool transparent(const SelectNode& node, BlockIndex block) const;
  BlockIndex add_block(const Place& place, StatementKind kind);
  void lock_rows(const SelectNode& node, BlockIndex block, const Scope& scope);
  void lock_block(BlockIndex block);
  // from.cpp
  void from_list(NodeList nodes, Scope& scope);
  JoinSide from_item(const Node* node, Scope& scope);
  JoinSide from_table(const PgQuery__RangeVar& node, Scope& scope);
  JoinSide from_subquery(const PgQuery__RangeSubselect& node, Scope& scope);
  JoinSide from_function(const Message& node, const PgQuery__Alias* alias, Scope& scope);
  JoinSide join(const PgQuery__JoinExpr& node, Scope& scope);
  void join_using(const PgQuery__JoinExpr& node, const JoinSide& left, const JoinSide& right, JoinSide& both,
                  const Scope& scope);
  TableIndex add_table(const PgQuery__RangeVar& node, TableUse use, BlockIndex block);
  // modify.cpp
  BlockIndex insert(const PgQuery__InsertStmt& node, const Place& place);
  void insert_source(const PgQuery__InsertStmt& node, BlockIndex block, const WithScope& with, Insert& insert);
  void on_conflict(const PgQuery__OnConflictClause& node, BlockIndex block, const Scope& scope, Insert& insert);
  BlockIndex update(const PgQuery__UpdateStmt& node, const Place& place);
  BlockIndex delete_rows(const PgQuery__DeleteStmt& node, const Place& place);
  BlockIndex merge(const PgQuery__MergeStmt& node, const Place& place);
  void merge_action(const PgQuery__MergeWhenClause& node, const Scope& scope, bool only_insert);
  TableIndex add_target(const PgQuery__RangeVar& node, TableUse use, Scope& scope);
  Assignment assignment(const PgQuery__ResTarget& node, SourceSpan within) const;
  // expressions.cpp
  void expression(const Node* node, const Scope& scope);
  void expressions(NodeList nodes, const Scope& scope);
  void expression(const Message& message, const Scope& scope);
  void function(const PgQuery__FuncCall& node, const Scope& scope);
  void sub_link(const PgQuery__SubLink& node, const Scope& scope);
  void column_field(const PgQuery__ColumnRef& node, const Scope& scope);
  void row_fields(const PgQuery__AIndirection& node, const Scope& scope);
  void add_field(FieldRef field, BlockIndex block);
  Operand operand(const Node* node) const;
  Operand constant(const PgQuery__AConst& node) const;
  Operand cast(const PgQuery__TypeCast& node) const;
  Operand signed_operand(const PgQuery__AExpr& node) const;
  SourceSpan call_span(int location) const;
  // conditions.cpp
  struct Filter;
  struct Fact;
  void conjunct(const Node* node, const Filter& filter);
  void comparison(const PgQuery__AExpr& node, const Filter& filter);
  void equality(const Node* left, const Node* right, const Filter& filter);
  void row_equality(const PgQuery__RowExpr& left, const PgQuery__RowExpr& right, const Filter& filter);
  void in_list(const PgQuery__AExpr& node, const Filter& filter);
  void row_in_list(const PgQuery__RowExpr& row, NodeList rows, const Filter& filter);
  void any_array(const PgQuery__AExpr& node, const Filter& filter);
  void in_subquery(const PgQuery__SubLink& node, const Filter& filter);
  void alternatives(const PgQuery__BoolExpr& node, const Filter& filter);
  void arm_facts(const Node* node, const Filter& filter, std::vector<Fact>& facts) const;
  void row_alternatives(const std::vector<std::vector<Fact>>& arms, const Filter& filter);
  void compare(const Resolution& column, Comparison how, std::vector<Operand> operands, const Filter& filter);
  void equate(const Resolution& left, const Resolution& right, const Filter& filter);
  bool column_and_values(const Node* left, NodeList right, const Scope& scope, Resolution& column,
                         std::vector<Operand>& operands) const;

  const TokenList& tokens_;
  Layout layout_;
  Statement out_;
  std::map<std::string, int, std::less<>> name_uses_;  // how often the tree names a relation, for WITH queries
  std::unordered_map<const PgQuery__SubLink*, Query> sub_queries_;
  std::string column_;                // the one that is being defined
  const Message* parent_ = nullptr;   // of the table that is being defined
  const Message* created_ = nullptr;  // what names it
};

// What a filter expression is a filter of: the rows of `tables`. `full_join`: of none, but equalities are still told.
struct Builder::Filter {
  const Scope& scope;
  std::vector<TableIndex> tables;
  bool full_join = false;
};

// effects.cpp
void note_function(const PgQuery__FuncCall& node, Effects& effects);
bool has_side_effects(const FunctionCall& function);
// types.cpp: the canonical name of a type without a length or precision, arrays with []; empty: not told.
std::string type_name(const PgQuery__TypeName& type);
// A type that has a length, a precision or an interval's fields: a cast to it may change the value.
bool has_modifier(const PgQuery__TypeName& type);
// names.cpp: the name that the server gives to a result column without an alias (FigureColname), and of CURRENT_DATE
// and its kin.
std::string column_name(const Node* node);
const char* keyword_name(PgQuery__SQLValueFunctionOp op);
// transactions.cpp: whether the server refuses this statement inside a transaction block.
bool needs_no_transaction(const Node* node);
// utility.cpp: the value of an option such as EXPLAIN's; one without a value is on.
bool option_is_on(const PgQuery__DefElem& option);

}  // namespace tessera::parser::postgres
