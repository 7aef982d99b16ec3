// A `Statement` is what Tessera understands of one SQL statement, whichever dialect and parser it came from: the tables
// it touches, the conditions that can decide a shard, which clauses stand where, and what it may do to data and to the
// session. It is plain data without pointers into a syntax tree. Offsets are bytes in the text that was parsed.
//
// Soundness rule for everything here: when the parser does not understand a construct, it says so (`Operand::opaque`,
// a missing condition, `StatementKind::other`), never guesses. A condition that is listed is truly implied by the
// statement; a table, a function or a clause that exists is always listed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tessera::parser {

struct SourceSpan {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;  // exclusive
  friend bool operator==(const SourceSpan&, const SourceSpan&) = default;
};

enum class StatementKind {
  empty,  // nothing but comments and semicolons
  select,
  insert,
  update,
  delete_,
  merge,
  copy,
  begin,
  commit,
  rollback,
  savepoint,
  release_savepoint,
  rollback_to_savepoint,
  prepare_transaction,
  commit_prepared,
  rollback_prepared,
  set,
  set_transaction,
  reset,
  show,
  discard,
  prepare,
  execute,
  deallocate,
  declare_cursor,
  fetch,
  close_cursor,
  listen,
  unlisten,
  notify,
  lock_table,
  truncate,
  explain,
  do_block,
  call,
  ddl,          // changes the catalog (CREATE, ALTER, DROP, GRANT, COMMENT, …)
  maintenance,  // VACUUM, ANALYZE, CHECKPOINT, REINDEX, CLUSTER, LOAD
  other         // parsed, but of a kind that is not known here
};

// A value that a condition compares with, or an INSERT gives to a column.
struct Operand {
  enum class Kind {
    literal,    // stands in the text at `span`
    boolean,    // TRUE or FALSE: a word at `span`, no slot of the fingerprint but part of it
    parameter,  // $n
    null,
    default_,  // DEFAULT in VALUES
    array,     // of `elements`, each a literal, boolean, parameter or null: ARRAY[...], or '{…}' seen as a literal
    opaque     // any other expression
  };
  Kind kind = Kind::opaque;
  SourceSpan span;        // of the literal token alone, as the fingerprint's slot has it: no sign, no cast around it
  bool negative = false;  // a numeric literal with an odd number of minus signs before it
  int parameter = 0;      // n of $n, 1-based
  std::string cast;       // type of an explicit cast, as a canonical name ("bigint", "text", "uuid"); empty: none
  std::vector<Operand> elements;  // kind == array
  friend bool operator==(const Operand&, const Operand&) = default;
};

// Index into Statement::tables or Statement::blocks.
using TableIndex = std::uint32_t;
using BlockIndex = std::uint32_t;
inline constexpr std::uint32_t no_index = ~0u;

// What a table reference is there for.
enum class TableUse {
  read,
  insert_target,
  update_target,
  delete_target,
  merge_target,
  truncate_target,
  copy_from,
  copy_to,
  lock,
  ddl_target
};

struct TableRef {
  std::string schema;  // empty: to be found by search_path
  std::string name;
  std::string alias;  // the name that columns use; equals `name` when there is none
  TableUse use = TableUse::read;
  BlockIndex block = 0;   // no_index: it stands in no query block (DDL, COPY t, LOCK, TRUNCATE, INTO)
  SourceSpan span;        // of the (qualified) name
  bool index = false;     // it names an index (ddl_target)
  bool created = false;   // it is what the statement makes (ddl_target)
  bool only = false;      // ONLY t
  bool aliased = false;   // an alias is written
  bool renamed = false;   // …with names for its columns: t AS a (x, y)
  bool nullable = false;  // stands on the nullable side of an outer join of its block (both sides of a FULL JOIN)
  bool locked = false;    // FOR UPDATE / SHARE locks its rows (or those of a view's tables)
  // Names defined by WITH are resolved by the parser and never appear here.
};

// A column as the text names it, resolved as far as syntax allows: `table` is the one table reference of this block
// (or, for a correlated subquery, of an enclosing one) that it must belong to, or no_index when several could be meant.
struct ColumnRef {
  TableIndex table = no_index;
  std::string qualifier;  // as written, may be empty
  std::string name;
  friend bool operator==(const ColumnRef&, const ColumnRef&) = default;
};

enum class Comparison { equal, in, less, less_equal, greater, greater_equal };

// A condition that every row of `column.table` which can influence the statement's result or effect must fulfil: a
// conjunct of WHERE or of an inner join's ON, or of the ON of an outer join when the table is on its nullable side.
// `column.table` may still be no_index when the name is unqualified and the block has several tables: the planner, who
// knows the columns, resolves it. `restricts` lists the tables of the block for which it is sound.
// ORs of equalities on the same column appear as one `in`.
struct Condition {
  BlockIndex block = 0;
  ColumnRef column;
  Comparison comparison = Comparison::equal;
  std::vector<Operand> operands;  // one; several for `in`; one `array` or parameter operand for = ANY(...)
  bool any_array = false;         // operands[0] is an array value: = ANY($1)
  // The text's column is merged from these by USING, `column` being one: what is compared has their common type. Empty:
  // it is `column` itself.
  std::vector<ColumnRef> merged;
  std::vector<TableIndex> restricts;
};

// a.x = b.y, a conjunct like above. `restricts` are the tables for whose rows it is a filter: in an inner join those of
// both sides; for the ON of `a LEFT JOIN b` only those of b; none of a FULL JOIN. USING and NATURAL… give these too
// (USING by name; NATURAL is `Clauses::natural_join`, since only the catalog knows its columns). Correlation between an
// outer query and a subquery in WHERE … IN / EXISTS / scalar gives equalities too (`x IN (SELECT y …)`: x = y when y is
// a plain column), restricting only the inner block's tables.
struct ColumnEquality {
  BlockIndex block = 0;
  ColumnRef left;
  ColumnRef right;
  std::vector<TableIndex> restricts;
};

// (a, b) IN ((1, 2), (3, 4)) and (a = 1 AND b = 2) OR (a = 3 AND b = 4).
struct RowCondition {
  BlockIndex block = 0;
  std::vector<ColumnRef> columns;
  std::vector<std::vector<Operand>> rows;
  std::vector<TableIndex> restricts;
};

// Where a query block stands. One SELECT core, VALUES list or DML statement is one block; block 0 is the outermost.
enum class BlockRole {
  top,
  set_operand,
  cte,
  from_subquery,
  lateral_subquery,
  expression_subquery,
  exists_subquery,
  in_subquery,
  insert_source
};

struct FunctionCall {
  std::string schema;
  std::string name;  // lower-case as the parser folds it
  SourceSpan span;
  int argument_count = 0;
  std::vector<Operand> arguments;  // literals and parameters among them; others opaque
  bool aggregate_syntax = false;   // count(*), DISTINCT, ORDER BY, FILTER or WITHIN GROUP inside the call
  bool window = false;             // has OVER
};

// `t.name` or `(expression).name`. Where there is no such column, the server takes it for a call of the function `name`
// with the row as its argument: `orders.count` counts.
struct FieldRef {
  TableIndex table = no_index;  // no_index: it cannot be told whose row it is
  std::string name;
  SourceSpan span;
};

// Which clauses the block has, with their text.
struct Clauses {
  std::optional<SourceSpan> distinct, distinct_on, from, where, group_by, having, window, order_by, limit, offset,
      locking, returning, on_conflict, into;
  bool grouping_sets = false;
  bool with_ties = false;
  bool natural_join = false;
  bool join_alias = false;  // (a JOIN b …) AS j, JOIN … USING (…) AS j
  bool outer_join = false;
  bool table_sample = false;
  bool range_function = false;  // a set-returning function in FROM
  bool with_query = false;      // FROM names a query of WITH
};

struct TargetItem {
  SourceSpan span;                  // the expression, without its alias
  std::string name;                 // the alias, else the column's or function's name, else "?column?"
  std::optional<ColumnRef> column;  // a plain column
  bool star = false;                // * or t.*
};

struct Block {
  BlockRole role = BlockRole::top;
  BlockIndex parent = no_index;
  SourceSpan span;
  StatementKind kind = StatementKind::select;  // select, insert, update, delete_, merge
  bool values = false;                         // VALUES (...) without SELECT
  std::vector<TableIndex> tables;
  std::vector<TargetItem> targets;  // select list or RETURNING
  std::vector<FunctionCall> functions;
  std::vector<FieldRef> fields;  // each once; without those that are certainly a subquery's column
  Clauses clauses;
  std::string set_operation;  // on the block that combines: "union", "union all", "intersect", …
  std::string cte_name;       // role == cte
  bool recursive = false;
};

struct Assignment {  // SET of an UPDATE, ON CONFLICT DO UPDATE or MERGE
  std::string column;
  Operand value;
  SourceSpan span;
};

struct Insert {
  std::vector<std::string> columns;        // empty: all, in the table's order
  std::vector<std::vector<Operand>> rows;  // VALUES; empty when the source is a query or DEFAULT VALUES
  std::vector<SourceSpan> row_spans;       // each "( … )"
  BlockIndex source = no_index;            // INSERT … SELECT
  bool default_values = false;
  bool overriding_user_value = false;  // identity columns take the sequence's value, whatever the rows say
  bool overriding_system_value = false;
  bool on_conflict = false;
  std::optional<std::vector<std::string>> conflict_columns;  // ON CONFLICT (a, b): the plain columns among them
  std::string conflict_constraint;                           // ON CONFLICT ON CONSTRAINT
  std::vector<Assignment> conflict_assignments;
};

// Of COPY, in either spelling: (NULL 'x', FORCE_NULL (a)) or NULL AS 'x' FORCE NULL a.
struct CopyOption {
  std::string name;                  // "format", "delimiter", "null", "header", …
  std::string value;                 // a truth value: "true" or "false"; FORCE_QUOTE *: "*"; empty: none
  std::vector<std::string> columns;  // a list's
  friend bool operator==(const CopyOption&, const CopyOption&) = default;
};

struct Copy {
  bool from = false;   // COPY … FROM
  bool stdio = false;  // STDIN / STDOUT; else a file or program on the server
  bool query = false;  // COPY (…) TO: the query is `Statement::inner`
  std::vector<std::string> columns;
  std::string format;  // "text", "csv", "binary"
  std::vector<CopyOption> options;
  bool where = false;  // COPY … FROM … WHERE
};

// What a definition says of a table, which is the statement's first: CREATE TABLE, ALTER TABLE, CREATE UNIQUE INDEX, ….
struct Definition {
  struct Column {
    std::string name;
    std::string type;       // canonical; empty: not told
    std::string collation;  // without its schema; empty: the type's
    friend bool operator==(const Column&, const Column&) = default;
  };
  struct Constraint {
    enum class Kind { unique, primary_key, exclusion, foreign_key };
    Kind kind = Kind::unique;
    std::vector<std::string> columns;     // empty names: expressions. exclusion: those that must be equal
    TableIndex references = no_index;     // foreign_key
    std::vector<std::string> referenced;  // foreign_key; empty: the other table's primary key
    SourceSpan span;                      // its first word
  };
  struct Value {  // what ALTER TABLE gives to the rows that are there: DEFAULT of a new column, TYPE … USING
    std::string column;
    bool sequence = false;  // the next number of one: serial, GENERATED … AS IDENTITY
    Block expression;       // else: what it calls
  };
  std::vector<Column> columns;  // that it adds
  bool typed = false;           // CREATE TABLE … OF: they are those of a type
  std::vector<Value> values;
  std::vector<Constraint> constraints;       // that it adds, unique indexes included
  std::vector<std::string> changed_columns;  // dropped, renamed, or of another type from now on
  std::string new_name, new_schema;          // that it gets: RENAME TO, SET SCHEMA
  TableIndex parent = no_index;              // PARTITION OF, INHERITS: the first parent
};

struct Setting {                    // SET, RESET, SHOW
  std::string name;                 // lower-case; "time zone" is "timezone"; "all" for RESET ALL / SHOW ALL
  std::string value;                // SET: the text of the value as written; empty for DEFAULT
  std::vector<std::string> values;  // SET: each value, unquoted
  bool local = false;
  bool to_default = false;  // SET x TO DEFAULT
};

struct Transaction {    // BEGIN and friends
  std::string name;     // savepoint, or gid
  std::string options;  // the isolation level and modes as written
  bool read_only = false;
  bool chain = false;  // AND CHAIN
};

struct Prepared {    // PREPARE, EXECUTE, EXPLAIN EXECUTE, DEALLOCATE
  std::string name;  // empty with `all`
  SourceSpan name_span;
  bool all = false;  // DEALLOCATE ALL
  SourceSpan body;   // PREPARE … AS <body>
  std::vector<std::string> types;
  std::vector<Operand> arguments;  // EXECUTE
};

struct Cursor {      // DECLARE, FETCH, MOVE, CLOSE
  std::string name;  // empty: CLOSE ALL
  bool hold = false;
  bool scroll = false, binary = false;  // DECLARE, said
  // FETCH, MOVE: NEXT is FORWARD 1, FIRST is ABSOLUTE 1.
  enum class Direction : std::uint8_t { forward, backward, absolute, relative };
  static constexpr std::int64_t all = INT64_MAX;
  Direction direction = Direction::forward;
  std::int64_t count = 1;
};

struct Code {  // DO
  std::string language;
  std::string body;
};

struct Channel {     // LISTEN, UNLISTEN, NOTIFY
  std::string name;  // empty: UNLISTEN *
  std::optional<std::string> payload;
};

// What the statement may do. Decided on the whole tree, never on a prefix; in doubt the graver one.
struct Effects {
  bool writes = false;  // rows or catalog may change (data-modifying CTE, SELECT INTO, DDL, nextval, unknown CALL …)
  bool locks_rows = false;         // FOR UPDATE / SHARE
  bool temporary_objects = false;  // creates or may create a temporary table, view, sequence or function
  bool until_commit = false;       // …with ON COMMIT DROP
  bool session_advisory_lock = false;
  bool changes_settings = false;  // set_config(…, false) or with an argument that is not a literal
  bool hold_cursor = false;
  bool opaque_code = false;  // DO, CALL: anything may have happened to the session
  bool outside_transaction =
      false;  // VACUUM, CREATE DATABASE, CREATE INDEX CONCURRENTLY …: refuses a transaction block
  friend bool operator==(const Effects&, const Effects&) = default;
};

// Where $n stands in the text.
struct ParameterUse {
  int parameter = 0;        // n, 1-based
  std::uint32_t begin = 0;  // of the token
  std::string cast;         // type of a cast right around it, as Operand::cast but without regard to a modifier
  friend bool operator==(const ParameterUse&, const ParameterUse&) = default;
};

// EXPLAIN's options.
struct Explain {
  bool analyze = false;
  bool tessera = false;  // EXPLAIN (TESSERA) x
  std::string beside;    // an option that stands beside TESSERA
  bool timing = true;
  bool summary = true;
  std::string format = "text";  // as it was written
};

struct Statement {
  StatementKind kind = StatementKind::empty;
  SourceSpan span;      // of this statement in a multi-statement text, without the semicolon
  std::string command;  // the words that name it in messages: "CREATE TABLE", "SELECT", "LOCK TABLE"
  Effects effects;
  std::vector<TableRef> tables;
  std::vector<Block> blocks;
  std::vector<Condition> conditions;
  std::vector<ColumnEquality> equalities;
  std::vector<RowCondition> row_conditions;
  std::vector<Assignment> assignments;  // UPDATE … SET of block 0
  int parameter_count = 0;              // largest n of $n
  std::vector<ParameterUse> parameter_uses;

  // At most one of these, by kind.
  std::optional<Insert> insert;
  std::optional<Copy> copy;
  std::optional<Definition> definition;
  std::optional<Setting> setting;
  std::optional<Transaction> transaction;
  std::optional<Prepared> prepared;
  std::optional<Cursor> cursor;
  std::optional<Channel> channel;
  std::optional<Code> code;
  std::vector<Statement> inner;  // EXPLAIN x, PREPARE … AS x, DECLARE … FOR x, COPY (x) TO: the one statement x
  Explain explain;               // EXPLAIN
};

}  // namespace tessera::parser
