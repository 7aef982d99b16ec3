// libpg_query's syntax tree as this folder uses it: short names for the node types, safe access to a node's content,
// and a walk over any node's children that knows no node types, so that nothing is overlooked when the grammar has a
// construct that the rest of this folder has never heard of. Not included from outside the folder.
#pragma once

#include <memory>
#include <memory_resource>
#include <pg_query/pg_query.pb-c.h>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/error.hpp"

namespace tessera::parser::postgres {

using Message = ProtobufCMessage;
using Node = PgQuery__Node;
using SelectNode = PgQuery__SelectStmt;
using NodeList = std::span<Node* const>;

inline NodeList list(Node** items, std::size_t count) {
  return {items, count};
}

// The message inside a node, whatever its type; null for an empty node.
const Message* content(const Node* node);

// The content if it is of this type, else null: `as<PgQuery__ColumnRef>(node)`.
template <typename T>
const T* as(const Node* node);

// Calls `visit(const Message&)` on each direct child, content of nodes in place of the nodes themselves.
template <typename F>
void for_each_child(const Message& message, F&& visit);

// The strings of a list of String nodes; a list with anything else in it (a star) is empty.
std::vector<std::string> strings(NodeList names);
// The one name in it, or the name behind "pg_catalog"; empty for any other list.
std::string builtin_name(NodeList names);

// A parsed text. Owns the tree.
class Tree {
public:
  // Needs `sql` with a terminating zero and without one inside. Errors: what the grammar says, as SQLSTATE and
  // position.
  static Result<Tree> parse(const std::string& sql);

  std::span<PgQuery__RawStmt* const> statements() const { return {root_->stmts, root_->n_stmts}; }

private:
  Tree() : arena_(std::make_unique<std::pmr::monotonic_buffer_resource>(16 * 1024)) {}

  std::unique_ptr<std::pmr::monotonic_buffer_resource> arena_;
  PgQuery__ParseResult* root_ = nullptr;
};

// The smallest source location in the tree below, or -1.
int leftmost(const Message& message);
int leftmost(NodeList nodes);

// --- implementation

template <typename T>
struct Descriptor;
#define TESSERA_NODE(type, descriptor)               \
  template <>                                        \
  struct Descriptor<PgQuery__##type> {               \
    static const ProtobufCMessageDescriptor& get() { \
      return descriptor;                             \
    }                                                \
  };
TESSERA_NODE(SelectStmt, pg_query__select_stmt__descriptor)
TESSERA_NODE(RangeVar, pg_query__range_var__descriptor)
TESSERA_NODE(RangeSubselect, pg_query__range_subselect__descriptor)
TESSERA_NODE(RangeFunction, pg_query__range_function__descriptor)
TESSERA_NODE(RangeTableFunc, pg_query__range_table_func__descriptor)
TESSERA_NODE(RangeTableSample, pg_query__range_table_sample__descriptor)
TESSERA_NODE(JoinExpr, pg_query__join_expr__descriptor)
TESSERA_NODE(ColumnRef, pg_query__column_ref__descriptor)
TESSERA_NODE(ParamRef, pg_query__param_ref__descriptor)
TESSERA_NODE(AConst, pg_query__a__const__descriptor)
TESSERA_NODE(AExpr, pg_query__a__expr__descriptor)
TESSERA_NODE(AArrayExpr, pg_query__a__array_expr__descriptor)
TESSERA_NODE(AStar, pg_query__a__star__descriptor)
TESSERA_NODE(BoolExpr, pg_query__bool_expr__descriptor)
TESSERA_NODE(TypeCast, pg_query__type_cast__descriptor)
TESSERA_NODE(TypeName, pg_query__type_name__descriptor)
TESSERA_NODE(FuncCall, pg_query__func_call__descriptor)
TESSERA_NODE(SubLink, pg_query__sub_link__descriptor)
TESSERA_NODE(RowExpr, pg_query__row_expr__descriptor)
TESSERA_NODE(ResTarget, pg_query__res_target__descriptor)
TESSERA_NODE(SetToDefault, pg_query__set_to_default__descriptor)
TESSERA_NODE(SQLValueFunction, pg_query__sqlvalue_function__descriptor)
TESSERA_NODE(GroupingFunc, pg_query__grouping_func__descriptor)
TESSERA_NODE(GroupingSet, pg_query__grouping_set__descriptor)
TESSERA_NODE(CommonTableExpr, pg_query__common_table_expr__descriptor)
TESSERA_NODE(InsertStmt, pg_query__insert_stmt__descriptor)
TESSERA_NODE(UpdateStmt, pg_query__update_stmt__descriptor)
TESSERA_NODE(DeleteStmt, pg_query__delete_stmt__descriptor)
TESSERA_NODE(MergeStmt, pg_query__merge_stmt__descriptor)
TESSERA_NODE(MergeWhenClause, pg_query__merge_when_clause__descriptor)
TESSERA_NODE(List, pg_query__list__descriptor)
TESSERA_NODE(String, pg_query__string__descriptor)
TESSERA_NODE(DefElem, pg_query__def_elem__descriptor)
TESSERA_NODE(CoalesceExpr, pg_query__coalesce_expr__descriptor)
TESSERA_NODE(MinMaxExpr, pg_query__min_max_expr__descriptor)
TESSERA_NODE(CaseExpr, pg_query__case_expr__descriptor)
TESSERA_NODE(CollateClause, pg_query__collate_clause__descriptor)
TESSERA_NODE(VacuumRelation, pg_query__vacuum_relation__descriptor)
TESSERA_NODE(ExecuteStmt, pg_query__execute_stmt__descriptor)
TESSERA_NODE(AlterTableCmd, pg_query__alter_table_cmd__descriptor)
TESSERA_NODE(PartitionCmd, pg_query__partition_cmd__descriptor)
TESSERA_NODE(MultiAssignRef, pg_query__multi_assign_ref__descriptor)
TESSERA_NODE(AIndirection, pg_query__a__indirection__descriptor)
TESSERA_NODE(IndexElem, pg_query__index_elem__descriptor)
TESSERA_NODE(ColumnDef, pg_query__column_def__descriptor)
TESSERA_NODE(Constraint, pg_query__constraint__descriptor)
TESSERA_NODE(LockingClause, pg_query__locking_clause__descriptor)
TESSERA_NODE(WindowDef, pg_query__window_def__descriptor)
#undef TESSERA_NODE

template <typename T>
const T* as(const Message& message) {
  return message.descriptor == &Descriptor<T>::get() ? reinterpret_cast<const T*>(&message) : nullptr;
}

template <typename T>
const T* as(const Node* node) {
  const Message* inside = content(node);
  return inside == nullptr ? nullptr : as<T>(*inside);
}

namespace tree_detail {
using Visit = void (*)(void* context, const Message& child);
void children(const Message& message, Visit visit, void* context);
}  // namespace tree_detail

template <typename F>
void for_each_child(const Message& message, F&& visit) {
  tree_detail::children(
      message, [](void* context, const Message& child) { (*static_cast<std::remove_reference_t<F>*>(context))(child); },
      &visit);
}

}  // namespace tessera::parser::postgres
