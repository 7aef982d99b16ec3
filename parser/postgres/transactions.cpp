// Which statements the server refuses inside a transaction block (PreventInTransactionBlock). In doubt: refused.
#include <algorithm>
#include <array>

#include "parser/postgres/builder.hpp"

namespace tessera::parser::postgres {

namespace {

bool detaches_concurrently(const PgQuery__AlterTableStmt& node) {
  return std::ranges::any_of(list(node.cmds, node.n_cmds), [](const Node* item) {
    const auto* command = as<PgQuery__AlterTableCmd>(item);
    const auto* partition = command == nullptr ? nullptr : as<PgQuery__PartitionCmd>(command->def);
    return partition != nullptr && partition->concurrent;
  });
}

bool reindexes_alone(const PgQuery__ReindexStmt& node) {
  if (node.kind != PG_QUERY__REINDEX_OBJECT_TYPE__REINDEX_OBJECT_INDEX &&
      node.kind != PG_QUERY__REINDEX_OBJECT_TYPE__REINDEX_OBJECT_TABLE) {
    return true;
  }
  return std::ranges::any_of(list(node.params, node.n_params), [](const Node* item) {
    const auto* option = as<PgQuery__DefElem>(item);
    return option != nullptr && std::string_view(option->defname) == "concurrently" && option_is_on(*option);
  });
}

bool moves_database(const PgQuery__AlterDatabaseStmt& node) {
  return std::ranges::any_of(list(node.options, node.n_options), [](const Node* item) {
    const auto* option = as<PgQuery__DefElem>(item);
    return option != nullptr && std::string_view(option->defname) == "tablespace";
  });
}

}  // namespace

bool option_is_on(const PgQuery__DefElem& option) {
  const Message* value = content(option.arg);
  if (value == nullptr) return true;
  if (const auto* text = as<PgQuery__String>(*value)) {
    constexpr std::array off = {"off", "false", "no", "0", "f", "n"};
    return std::ranges::find(off, std::string_view(text->sval)) == off.end();
  }
  if (option.arg->node_case == PG_QUERY__NODE__NODE_INTEGER) return option.arg->integer->ival != 0;
  if (option.arg->node_case == PG_QUERY__NODE__NODE_BOOLEAN) return option.arg->boolean->boolval;
  return true;
}

bool needs_no_transaction(const Node* node) {
  switch (node->node_case) {
    case PG_QUERY__NODE__NODE_CREATEDB_STMT:
    case PG_QUERY__NODE__NODE_DROPDB_STMT:
    case PG_QUERY__NODE__NODE_CREATE_TABLE_SPACE_STMT:
    case PG_QUERY__NODE__NODE_DROP_TABLE_SPACE_STMT:
    case PG_QUERY__NODE__NODE_ALTER_SYSTEM_STMT:
    case PG_QUERY__NODE__NODE_CREATE_SUBSCRIPTION_STMT:
    case PG_QUERY__NODE__NODE_ALTER_SUBSCRIPTION_STMT:
    case PG_QUERY__NODE__NODE_DROP_SUBSCRIPTION_STMT:
      return true;
    case PG_QUERY__NODE__NODE_ALTER_DATABASE_STMT:
      return moves_database(*node->alter_database_stmt);
    case PG_QUERY__NODE__NODE_INDEX_STMT:
      return node->index_stmt->concurrent;
    case PG_QUERY__NODE__NODE_DROP_STMT:
      return node->drop_stmt->concurrent;
    case PG_QUERY__NODE__NODE_ALTER_TABLE_STMT:
      return detaches_concurrently(*node->alter_table_stmt);
    case PG_QUERY__NODE__NODE_VACUUM_STMT:
      return node->vacuum_stmt->is_vacuumcmd;
    case PG_QUERY__NODE__NODE_CLUSTER_STMT:
      return node->cluster_stmt->relation == nullptr;
    case PG_QUERY__NODE__NODE_REINDEX_STMT:
      return reindexes_alone(*node->reindex_stmt);
    case PG_QUERY__NODE__NODE_DISCARD_STMT:
      return node->discard_stmt->target == PG_QUERY__DISCARD_MODE__DISCARD_ALL;
    default:
      return false;
  }
}

}  // namespace tessera::parser::postgres
