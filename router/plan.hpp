// Plans. The planner turns a Statement into a `PlanTemplate`: plain data with slots, cached by fingerprint, valid for
// one catalog version and one set of meaning-changing settings, whatever the literals and parameters are. `bind`
// evaluates the sharding rules over the values of one execution against the current topology and gives a `Plan`. Both
// are comparable and printable; neither holds code or pointers.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/ids.hpp"
#include "parser/fingerprint.hpp"
#include "parser/statement.hpp"
#include "router/ids.hpp"
#include "router/key.hpp"
#include "router/topology.hpp"

namespace tessera::router {

// Where one key value comes from at execution.
struct KeyOperand {
  enum class Kind : std::uint8_t { slot, parameter, null, text };
  Kind kind = Kind::slot;
  std::uint32_t index = 0;  // slot number, or parameter number from 0
  bool negative = false;
  bool array = false;  // the value is an array; each element is a key (= ANY)
  // A parameter. `inferred`: if the client has not declared it, the server surely takes the column's type (or the
  // cast's). `listed`: it stands in a list; declared with a type unlike the column's it would change the others' type.
  bool inferred = true;
  bool listed = false;
  KeyType cast = KeyType::unsupported;
  std::string text;  // kind == text: the literal's token, for templates made without slots (multi-statement text)
  parser::LiteralKind literal = parser::LiteralKind::string;
  friend bool operator==(const KeyOperand&, const KeyOperand&) = default;
};

// One condition that decides shards: any of `rows` (each as long as the table's key), or a range.
struct ShardTerm {
  RuleId rule;
  std::vector<KeyType> key_types;
  std::vector<std::vector<KeyOperand>> rows;
  std::optional<KeyOperand> low, high;  // a range on the single key column, both inclusive (a superset is allowed)
  bool range = false;
  // INSERT only, per key column: the scale of numeric, fractional digits of times, length of varchar; -1: none. A value
  // that the column would round or cut off when storing it is refused, since the stored key is another.
  std::vector<int> modifiers;
  std::vector<std::string> columns;  // INSERT only, per key column: its name
  friend bool operator==(const ShardTerm&, const ShardTerm&) = default;
};

// Tables that are joined on their keys, so that matching rows share a shard; terms restrict them all (intersection).
struct Component {
  std::optional<RuleId> rule;          // sharded…
  std::optional<ShardId> plain_shard;  // …or a plain table's shard
  std::vector<std::string> tables;     // for messages
  std::vector<ShardTerm> terms;        // none: all shards of the rule
  friend bool operator==(const Component&, const Component&) = default;
};

// What the statement needs of where it runs.
enum class Placement : std::uint8_t {
  any_shard,      // touches no table, or reference tables and system catalogs only, and reads
  by_components,  // see components
  every_shard,    // must reach all shards: writes of reference tables, definitions
  session  // the proxy itself or the session's state answers (see StatementKind): BEGIN, SET, LISTEN, SHOW tessera.…
};

struct PlanTemplate {
  parser::StatementKind kind = parser::StatementKind::empty;
  std::string command;
  parser::Effects effects;
  bool read_only = false;  // may run on a replica, may be retried
  Placement placement = Placement::any_shard;
  std::vector<Component> components;
  // The first component's term has the rows to be written: shards are united, and several mean a split.
  bool insert_rows = false;
  // COPY … FROM STDIN into the first component's table: the rows come afterwards, and decide.
  bool copy_rows = false;
  std::optional<ShardId> hinted_shard;  // by hint; overrides the components
  // placement == any_shard: where it runs unless a transaction has chosen a shard already. System catalogs tell what
  // the default shard has: tables that are not listed are nowhere else.
  std::optional<ShardId> preferred_shard;
  bool literals_matter = false;       // the template is for these literals alone: not to be cached by fingerprint
  std::optional<Error> refusal;       // refused whatever the values are
  std::optional<Error> many_refusal;  // refused when more than one shard is concerned; none: rows may be concatenated
  bool merges = false;   // …unless its sorted rows are merged, which depends on the values too (router/merge.hpp)
  bool gathers = false;  // …or unless it is gathered (router/gather.hpp): then this stands for the rest only
  // Several shards do the same, each to its own, for the first one's answer.
  bool replicates = false;
  // every_shard: the reference tables that it concerns, as the statement names them, the one that it writes first.
  std::vector<std::string> copies;
  // An INSERT that does not name its columns: the list that its values stand for, behind that many tokens of the text.
  // Shards get the text with it: their tables may be others by then, and the key's place in a row decides the shard.
  struct ColumnList {
    std::string text;
    std::uint32_t tokens = 0;
    friend bool operator==(const ColumnList&, const ColumnList&) = default;
  };
  std::optional<ColumnList> column_list;
  // It may write on several shards, and a text such as 'now' could mean a moment, which would be another on each.
  bool moment_matters = false;
  // It leaves columns to sequences, or asks what was given last: with values in its text it is planned anew. Whoever
  // cannot do that has a refusal of the former.
  std::optional<GivenIds> ids;
  // Those that an INSERT leaves columns to; if nothing else comes of `ids`, the server it goes to asks its own. Empty
  // names: it is not known which.
  std::vector<std::string> own_sequences;
  std::vector<std::string> notes;  // why, for EXPLAIN
  friend bool operator==(const PlanTemplate&, const PlanTemplate&) = default;
};

enum class Operator : std::uint8_t {
  route,       // one shard, bytes relayed
  any,         // one shard, whichever is at hand
  scatter,     // same SQL to `shards`, rows concatenated in shard order, numbers of rows added up
  merge_sort,  // almost the same SQL to `shards`, their sorted rows merged: router/merge.hpp
  gather,      // rows of `shards` put together on one of them, and the statement run there: router/gather.hpp
  split,       // INSERT of rows, each to its own of `shards`: router/split.hpp
  copy,        // COPY … FROM STDIN, each row to its own of `shards` (one is enough): router/copy.hpp
  replicate,   // a write of a reference table, a definition: the same SQL to `shards`, for the first one's answer
  session      // no shard decided by the plan
};

struct Plan {
  Operator op = Operator::any;
  ShardId shard;                // route
  std::vector<ShardId> shards;  // ascending, at least two; not with route, any, session
  bool writes = false;          // it changes rows
  // scatter, gather: what the servers would say of a key in it, for those who may not ask several.
  std::optional<Error> mistake;
};

// The values of one execution. Borrowed.
struct Values {
  std::string_view sql;
  std::span<const parser::Slot> slots;
  struct Parameter {
    std::string_view bytes;
    bool null = false;
    bool binary = false;
    TypeOid declared = 0;
  };
  std::span<const Parameter> parameters;
  // Whether the client's encoding is the database's. If not, the bytes of a text that is not ASCII are not those that
  // the server hashes or compares: such a key is not decided.
  bool same_encoding = true;
};

// Reused by one worker so that binding does not allocate.
struct BindScratch {
  std::vector<std::string> texts;  // one per key column
  std::string element;             // one element of an array
  std::vector<ShardId> shards;
  std::vector<ShardId> other;
  std::vector<ShardId> term;
  std::vector<KeyValue> key;
};

// Evaluates the template. Errors: the template's refusals, a key that a rule has no place for, a null key in an INSERT.
// Touches nothing but its arguments; cost for one key: tens of nanoseconds.
Result<void> bind(const PlanTemplate& plan, const Topology& topology, const Values& values, BindScratch& scratch,
                  Plan& out);

// The shards of each component, ascending, with the same values; none: no row can match.
Result<std::vector<std::vector<ShardId>>> component_shards(const PlanTemplate& plan, const Topology& topology,
                                                           const Values& values, BindScratch& scratch);

// Of an INSERT of rows: the shard of each row, in their order.
Result<std::vector<ShardId>> row_shards(const PlanTemplate& plan, const Topology& topology, const Values& values,
                                        BindScratch& scratch);

// For EXPLAIN (TESSERA), `tessera explain` and golden tests: one fact per line.
std::string describe(const PlanTemplate& plan, const Topology& topology);
// Where the ids come from that the statement is given; then its own description is that of the text with them.
std::string describe(const GivenIds& ids, const Topology& topology);
std::string describe(const Plan& plan, const PlanTemplate& plan_template, const Topology& topology);

}  // namespace tessera::router
