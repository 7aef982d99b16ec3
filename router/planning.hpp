// The planner's parts. A `Planning` lives for one call of plan(): it resolves the tables, then fills a PlanTemplate by
// the kind of statement. Spread over files by theme: planner.cpp (dispatch, hints), tables.cpp (names), facts.cpp (what
// conditions and equalities imply), components.cpp (which tables share a shard), select_plan.cpp (may rows be
// concatenated?), write_plan.cpp, insert_plan.cpp, write_checks.cpp (may several shards write?), replicate_plan.cpp,
// definition_plan.cpp (DDL), utility_plan.cpp. Internal to router.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/copy.hpp"
#include "router/gather.hpp"
#include "router/merge.hpp"
#include "router/planner.hpp"
#include "router/rewrite.hpp"

namespace tessera::router {

struct PlanRequest {
  const parser::Statement& statement;
  std::string_view sql;
  std::span<const parser::Slot> slots;
  std::string_view hint;
  const Topology& topology;
  const Catalog& catalog;
  const SessionView& session;
};

// What a table reference turned out to be.
struct ResolvedTable {
  enum class Kind {
    sharded,
    reference,
    plain,     // on `shard`
    catalog,   // a system catalog: on every shard, each its own
    temporary  // on the session's backend
  };
  Kind kind = Kind::catalog;
  const TableRouting* routing = nullptr;  // sharded; of the partitioned parent, for a partition
  const Relation* relation = nullptr;     // may be null
  ShardId shard;
  bool moody = false;                 // a view whose rows may differ between shards that have the same tables
  std::string name;                   // for messages
  bool index = false;                 // what is named is an index of it
  bool listed = false;                // in the configuration; or it is a partition of one that is
  bool everywhere = false;            // a view over tables that every shard has
  bool expands = false;               // a view over sharded tables whose query can stand in its place
  std::optional<Error> refusal;       // why it is not known where it is, without a position…
  std::optional<Error> rows_refusal;  // …or how statements on its rows can be planned
  bool is_known() const { return listed || relation != nullptr; }
};
// Of an index: its table.
ResolvedTable resolve_table(const parser::TableRef& table, const PlanRequest& request);

// size_plan.cpp: the relation that the first argument names. None: it cannot be told.
std::optional<parser::TableRef> named_relation(const parser::FunctionCall& call, const PlanRequest& request);

// Whether the search path lets types, operators and tables of users hide those of pg_catalog.
bool hides_system(const std::vector<std::string>& search_path);

// 0A000 with the place in the statement.
Error refuse(const PlanRequest& request, std::string message, parser::SourceSpan span, std::string hint);
// "by a hint …", and what that needs where the configuration does not allow hints.
std::string by_hint(const PlanRequest& request);
std::string on_each_shard(const PlanRequest& request);

class ParameterTypes;

// The modifier of a column's type as in ShardTerm::modifiers, from its name.
int modifier_of(std::string_view type_name, KeyType type);

// An operand as it can be evaluated at each execution, when it is compared with, or stored in, a column of type
// `column`; none if it is an expression.
std::optional<KeyOperand> key_operand(const parser::Operand& operand, KeyType column, bool array,
                                      const PlanRequest& request, const ParameterTypes& parameters);
// All operands of a condition: each is a row; the elements of an array are, too. None: something is no constant, or the
// server does not compare it as a value of the column's type.
std::optional<std::vector<KeyOperand>> key_operands(const parser::Condition& condition, KeyType column,
                                                    const PlanRequest& request, const ParameterTypes& parameters);
// Whether the elements of x IN (…) are compared with the column one by one, as if each stood in an equality of its own.
// The server gives the elements of a list one type in common with the column, which can round them.
bool list_keeps_values(const std::vector<parser::Operand>& operands, KeyType column, const PlanRequest& request);

// --- What is known of functions ---
struct FunctionTrait {
  bool aggregate = false;
  bool server_state = false;  // sequences, advisory locks, …: always on the same server
  bool user = false;          // not the server's own, and may read tables (not immutable)
  bool may_write = false;     // a user's volatile function, or one that nothing is known of
  bool unknown = false;       // nothing is known of it: it could even be an aggregate
  bool code = false;          // of those, in SQL or another language for users: could read any table
  bool per_server = false;    // one value for a statement, but another on each server: now(), pg_backend_pid()
  bool by_order = false;      // an aggregate whose result follows the order of its rows, or a user's
};
FunctionTrait trait_of(const parser::FunctionCall& call, const Catalog& catalog);

class Expansion;
struct PreparedBlock;

class Planning {
public:
  explicit Planning(const PlanRequest& request);
  PlanTemplate run();
  // The statement with the queries of views in it, if it must be planned so.
  Result<std::optional<Expansion>> expansion();
  // gather_plan.cpp: of a statement that expands.
  std::optional<Error> view_row_refusal() const;
  // gather_plan.cpp: after run(), of a statement that gathers.
  Result<GatherPlan> gather(const PlanTemplate& plan, const Values& values, bool in_transaction,
                            std::uint32_t spread) const;
  std::optional<Error> transaction_refusal() const;
  // merge_plan.cpp: after run(), of a statement that merges; none: not with these values.
  std::optional<MergePlan> merge(const Values& values) const;
  // copy_plan.cpp: after run(), of a COPY that is not refused.
  Result<CopyPlan> copy_rows() const;

private:
  // planner.cpp
  void dispatch();
  bool apply_hint();
  void inner_statement();
  void explained();
  void key_hint(std::string_view key);
  bool read_only() const;
  std::vector<parser::FunctionCall> calls(const parser::Block& block) const;
  bool resolve_tables();
  bool expands() const;
  void plan_expanded();
  bool is_placed_by_others(const parser::TableRef& table) const;
  void refuse_all(Error error);
  bool uses(ResolvedTable::Kind kind) const;
  const parser::TableRef* first_table(ResolvedTable::Kind kind) const;
  void same_server(std::string_view why, parser::SourceSpan span);
  void server_state();
  bool distributed() const;
  void hidden_code(std::string_view what, parser::SourceSpan span);
  void check_locks();
  void finish_reads();
  std::string key_hint_text() const;
  bool keys_given() const;
  // select_plan.cpp
  void select();
  void query_without_scatter(std::string_view what);
  std::optional<Error> scatter_refusal() const;
  std::optional<Error> rows_refusal() const;
  std::optional<Error> source_refusal(const parser::Block& block, std::span<const parser::BlockIndex> inner) const;
  std::optional<Error> clause_refusal(const parser::Block& block) const;
  std::optional<Error> form_refusal(const parser::Block& block) const;
  Error refuse_clause(std::string_view what, parser::SourceSpan span) const;
  std::optional<Error> table_refusal() const;
  bool outermost_has_no_aggregates() const;
  std::optional<Error> function_refusal(const parser::Block& block, bool top) const;
  std::optional<Error> block_refusal(parser::BlockIndex index) const;
  std::optional<Error> nested_refusal(const parser::Block& block) const;
  // gather_plan.cpp
  // merge_plan.cpp
  bool merges() const;
  // gather_plan.cpp
  std::optional<Error> gather_refusal() const;
  std::optional<Error> ungatherable_function(const parser::Block& block) const;
  std::optional<Error> uncopyable(std::size_t index) const;
  std::optional<Error> whole_rows(const Names& names) const;
  bool stands_alone(const Names& names, std::size_t index) const;
  bool is_nowhere(std::size_t index) const;
  // prepared_block.cpp
  std::optional<PreparedBlock> prepare(parser::BlockIndex index, std::string_view gathered,
                                       const std::function<std::string(parser::TableIndex)>& rows) const;
  std::optional<PreparedBlock> prepare_whole(parser::BlockIndex index, std::string_view gathered) const;
  std::optional<PreparedBlock> prepare_part(parser::BlockIndex index, std::string_view gathered,
                                            parser::TableIndex first,
                                            const std::function<std::string(parser::TableIndex)>& rows) const;
  std::vector<parser::BlockIndex> blind_blocks(parser::BlockIndex index,
                                               std::span<const parser::BlockIndex> besides) const;
  bool stands_by_itself(parser::BlockIndex index) const;
  bool is_blind_to(parser::BlockIndex index, parser::BlockIndex around) const;
  bool adds_up(const parser::Block& block, std::span<const parser::BlockIndex> inner, PreparedBlock& out) const;
  ShardId merge_node(const PlanTemplate& plan, const std::vector<std::vector<ShardId>>& shards,
                     std::uint32_t spread) const;
  // size_plan.cpp
  void check_sizes();
  std::optional<Error> size_refusal(const parser::FunctionCall& call, bool over_catalog);
  // write_plan.cpp
  void update_or_delete();
  void merge();
  bool check_modifying_ctes();
  bool check_target(const parser::TableRef& table, std::string_view command);
  parser::TableIndex target() const;
  // write_checks.cpp
  std::optional<Error> scattered_write_refusal() const;
  std::optional<Error> split_refusal() const;
  std::optional<Error> shared_write_refusal(parser::BlockIndex source) const;
  std::optional<Error> place_refusal() const;
  std::optional<Error> default_value_refusal(DefaultValue gravest) const;
  bool hides_default(const Names& names) const;
  bool moment_possible() const;
  // replicate_plan.cpp
  void replicate();
  std::optional<Error> replicate_refusal() const;
  std::optional<Error> copy_function_refusal(const parser::Block& block) const;
  std::optional<Error> copy_block_refusal(const parser::Block& block) const;
  // insert_plan.cpp
  void insert();
  void insert_values(const TableRouting& routing);
  void insert_query(const TableRouting& routing);
  std::optional<std::vector<std::size_t>> key_positions(const TableRouting& routing);
  void name_columns(parser::TableIndex table);
  std::uint32_t target_tokens(parser::TableIndex table) const;
  // ids.cpp
  std::vector<std::string> own_sequences(const Relation* relation) const;
  bool gives_ids(parser::TableIndex table);
  std::optional<GivenIds> given_ids(parser::TableIndex table);
  std::optional<Error> always_refusal(const Relation& relation) const;
  void made_ids();
  void asked_ids();
  void add_asked(GivenIds& ids);
  std::string named_sequence(const parser::FunctionCall& call) const;
  // insert_checks.cpp
  void check_insert(const TableRouting& routing);
  std::optional<Error> conflict_refusal(const TableRouting& routing, const Relation* relation) const;
  bool leaves_out(const Relation& relation, std::size_t column) const;
  std::optional<Error> sequence_refusal(const ResolvedTable& table) const;
  std::optional<Error> made_refusal(const ResolvedTable& table) const;
  std::optional<Error> generated_key(const ResolvedTable& table, parser::SourceSpan span) const;
  std::optional<Error> default_refusal(const std::vector<parser::Assignment>& assignments,
                                       const ResolvedTable& table) const;
  // definition_plan.cpp
  void definition();
  struct Home;
  std::optional<Error> unreadable() const;
  std::optional<Home> home_of(std::size_t table) const;
  std::optional<Home> home_of_targets();
  std::optional<Home> home_of_view();
  void is_elsewhere(std::size_t table);
  bool on_every_shard();
  void on_one_shard(ShardId shard);
  std::optional<Error> constraint_refusal() const;
  std::optional<Error> like_refusal() const;
  std::optional<Error> unique_refusal(const parser::Definition::Constraint& constraint) const;
  std::optional<Error> foreign_key_refusal(const parser::Definition::Constraint& constraint) const;
  std::optional<Error> key_change_refusal() const;
  std::optional<Error> computed_values() const;
  std::optional<Error> taken_name() const;
  std::optional<Error> misfit() const;
  // copy_plan.cpp
  void copy();
  std::optional<Error> copy_option_refusal() const;
  std::string table_query() const;
  std::optional<Error> made_copy_refusal(const ResolvedTable& table, const parser::TableRef& target) const;
  void made_copy_ids();
  std::vector<CopyId> copy_ids(const ResolvedTable& table) const;
  parser::Copy copy_with_ids(const ResolvedTable& table) const;
  std::optional<Error> copy_from_refusal(const ResolvedTable& table, const parser::TableRef& target) const;
  // utility_plan.cpp
  void whole_tables();
  void code();
  bool place_targets(parser::TableUse use, std::string_view command);

  const PlanRequest& request_;
  const parser::Statement& statement_;
  std::vector<ResolvedTable> tables_;
  std::vector<std::uint32_t> component_of_;  // by table: index of its component, or no_index
  std::vector<bool> driving_;                // by table: its rows decide the component's shards
  PlanTemplate out_;
};

// components.cpp: adds the components of all tables to `plan`; fills component_of and driving as in Planning. `skip`
// (or no_index) is a table that is left out: the target of an INSERT, whose rows do not exist yet.
void add_components(const PlanRequest& request, const std::vector<ResolvedTable>& tables, parser::TableIndex skip,
                    PlanTemplate& plan, std::vector<std::uint32_t>& component_of, std::vector<bool>& driving);

}  // namespace tessera::router
