// Dispatch by kind of statement, and the kinds that are short.
#include <algorithm>

#include "parser/postgres/builder.hpp"

namespace tessera::parser::postgres {

namespace {

struct Uses {
  std::map<std::string, int, std::less<>>& names;
  Statement& statement;

  void note(const PgQuery__ParamRef& node, const PgQuery__TypeName* type) {
    statement.parameter_count = std::max(statement.parameter_count, node.number);
    ParameterUse use{node.number, static_cast<std::uint32_t>(std::max(node.location, 0)), {}};
    if (type != nullptr) use.cast = type_name(*type);
    // The tree can hold the same expression twice: (a, b) = (SELECT $1, …).
    const auto same = [&use](const ParameterUse& known) { return known.begin == use.begin; };
    if (std::ranges::none_of(statement.parameter_uses, same)) statement.parameter_uses.push_back(std::move(use));
  }

  void count(const Message& message) {
    if (const auto* parameter = as<PgQuery__ParamRef>(message)) note(*parameter, nullptr);
    if (const auto* cast = as<PgQuery__TypeCast>(message)) {
      if (const auto* parameter = as<PgQuery__ParamRef>(cast->arg)) return note(*parameter, cast->type_name);
    }
    if (const auto* table = as<PgQuery__RangeVar>(message); table != nullptr && *table->schemaname == '\0') {
      ++names[table->relname];
    }
    for_each_child(message, [this](const Message& child) { count(child); });
  }
};

}  // namespace

Statement Builder::build(const Node* node) {
  if (const Message* message = content(node)) {
    Uses{name_uses_, out_}.count(*message);
    statement(node);
  }
  return std::move(out_);
}

void Builder::statement(const Node* node) {
  out_.kind = StatementKind::other;
  if (query(node) || transaction(node) || setting(node) || prepared(node) || cursor(node) || channel(node)) return;
  if (rows(node) || maintenance(node) || code(node)) return;
  switch (node->node_case) {
    case PG_QUERY__NODE__NODE_EXPLAIN_STMT:
      return explain(*node->explain_stmt);
    case PG_QUERY__NODE__NODE_CONSTRAINTS_SET_STMT:
      out_.command = "SET CONSTRAINTS";
      return;
    default:
      return definition(node);
  }
}

bool Builder::query(const Node* node) {
  const Place top;
  if (const auto* select_node = as<SelectNode>(node)) {
    out_.kind = StatementKind::select;
    out_.command = "SELECT";
    select(*select_node, top);
  } else if (const auto* insert_node = as<PgQuery__InsertStmt>(node)) {
    out_.kind = StatementKind::insert;
    out_.command = "INSERT";
    insert(*insert_node, top);
  } else if (const auto* update_node = as<PgQuery__UpdateStmt>(node)) {
    out_.kind = StatementKind::update;
    out_.command = "UPDATE";
    update(*update_node, top);
  } else if (const auto* delete_node = as<PgQuery__DeleteStmt>(node)) {
    out_.kind = StatementKind::delete_;
    out_.command = "DELETE";
    delete_rows(*delete_node, top);
  } else if (const auto* merge_node = as<PgQuery__MergeStmt>(node)) {
    out_.kind = StatementKind::merge;
    out_.command = "MERGE";
    merge(*merge_node, top);
  } else {
    return false;
  }
  return true;
}

std::string Builder::rest(TokenIndex from) const {
  if (from >= behind_token()) return {};
  const SourceSpan at = tokens_.span(from, behind_token() - 1);
  return std::string(tokens_.sql().substr(at.begin, at.end - at.begin));
}

void Builder::nested(const Node* node, TokenIndex first) {
  nested(node, first, behind_token());
}

void Builder::nested(const Node* node, TokenIndex first, TokenIndex behind) {
  if (content(node) == nullptr || first >= behind || behind > behind_token()) return;
  const SourceSpan span{tokens_.begin(first), tokens_.end(behind - 1)};
  out_.inner.push_back(Builder(tokens_, span).build(node));
}

void Builder::arguments(NodeList nodes) {
  const BlockIndex block = add_block({}, StatementKind::other);
  out_.blocks[block].span = out_.span;
  const Scope scope{nullptr, nullptr, block, {}, {}};
  expressions(nodes, scope);
}

void Builder::explain(const PgQuery__ExplainStmt& node) {
  out_.kind = StatementKind::explain;
  out_.command = "EXPLAIN";
  Explain& explained = out_.explain;
  for (const Node* item : list(node.options, node.n_options)) {
    const auto* option = as<PgQuery__DefElem>(item);
    if (option == nullptr) continue;
    const std::string_view name = option->defname;
    const bool on = option_is_on(*option);
    if (name == "timing") explained.timing = on;
    if (name == "summary") explained.summary = on;
    if (const auto* format = as<PgQuery__String>(option->arg); format != nullptr && name == "format")
      explained.format = format->sval;
    if (!on) continue;
    explained.analyze = explained.analyze || name == "analyze";
    explained.tessera = explained.tessera || name == "tessera";
    if (name != "tessera") explained.beside = name;
  }
  if (!explained.tessera) explained.beside.clear();
  TokenIndex first = first_token() + 1;
  if (tokens_.is(first, "(") && node.n_options > 0) {
    first = tokens_.match(first) + 1;
  } else {
    while (tokens_.is(first, "analyze") || tokens_.is(first, "analyse") || tokens_.is(first, "verbose")) ++first;
  }
  nested(node.query, first);
  if (out_.inner.empty()) return;
  if (explained.analyze) out_.effects = out_.inner[0].effects;
  if (out_.inner[0].kind == StatementKind::execute && !explained.tessera) out_.prepared = out_.inner[0].prepared;
}

bool Builder::rows(const Node* node) {
  switch (node->node_case) {
    case PG_QUERY__NODE__NODE_COPY_STMT:
      copy(*node->copy_stmt);
      return true;
    case PG_QUERY__NODE__NODE_TRUNCATE_STMT: {
      out_.kind = StatementKind::truncate;
      out_.command = "TRUNCATE TABLE";
      out_.effects.writes = true;
      for (const Node* item : list(node->truncate_stmt->relations, node->truncate_stmt->n_relations)) {
        if (const auto* table = as<PgQuery__RangeVar>(item)) add_table(*table, TableUse::truncate_target, no_index);
      }
      return true;
    }
    case PG_QUERY__NODE__NODE_LOCK_STMT: {
      out_.kind = StatementKind::lock_table;
      out_.command = "LOCK TABLE";
      for (const Node* item : list(node->lock_stmt->relations, node->lock_stmt->n_relations)) {
        if (const auto* table = as<PgQuery__RangeVar>(item)) add_table(*table, TableUse::lock, no_index);
      }
      return true;
    }
    default:
      return false;
  }
}

namespace {
CopyOption copy_option(const PgQuery__DefElem& node) {
  CopyOption option{.name = node.defname, .value = {}, .columns = {}};
  if (node.arg == nullptr) return option;
  switch (node.arg->node_case) {
    case PG_QUERY__NODE__NODE_STRING:
      option.value = node.arg->string->sval;
      break;
    case PG_QUERY__NODE__NODE_INTEGER:
      option.value = std::to_string(node.arg->integer->ival);
      break;
    case PG_QUERY__NODE__NODE_BOOLEAN:
      option.value = node.arg->boolean->boolval ? "true" : "false";
      break;
    case PG_QUERY__NODE__NODE_A_STAR:
      option.value = "*";
      break;
    case PG_QUERY__NODE__NODE_LIST:
      option.columns = strings(list(node.arg->list->items, node.arg->list->n_items));
      break;
    default:
      break;
  }
  return option;
}
}  // namespace

void Builder::copy(const PgQuery__CopyStmt& node) {
  out_.kind = StatementKind::copy;
  out_.command = "COPY";
  Copy result;
  result.from = node.is_from;
  result.stdio = *node.filename == '\0' && !node.is_program;
  result.format = "text";
  result.columns = strings(list(node.attlist, node.n_attlist));
  for (const Node* item : list(node.options, node.n_options)) {
    const auto* option = as<PgQuery__DefElem>(item);
    if (option == nullptr) continue;
    result.options.push_back(copy_option(*option));
    if (result.options.back().name == "format") result.format = result.options.back().value;
  }
  result.where = content(node.where_clause) != nullptr;
  out_.effects.writes = result.from || !result.stdio;  // a file or program on the server is a write too
  if (node.relation != nullptr) {
    add_table(*node.relation, result.from ? TableUse::copy_from : TableUse::copy_to, no_index);
  } else if (content(node.query) != nullptr) {
    // It may write: COPY (DELETE … RETURNING …) TO.
    result.query = true;
    const TokenIndex open = first_token() + 1;
    if (tokens_.is(open, "(")) nested(node.query, open + 1, tokens_.match(open));
    if (!out_.inner.empty()) {
      const bool writes = out_.effects.writes;
      out_.effects = out_.inner[0].effects;
      out_.effects.writes = out_.effects.writes || writes;
    } else {
      out_.effects.opaque_code = true;
    }
  }
  if (node.where_clause != nullptr) arguments({&node.where_clause, 1});
  out_.copy = std::move(result);
}

bool Builder::maintenance(const Node* node) {
  switch (node->node_case) {
    case PG_QUERY__NODE__NODE_VACUUM_STMT:
      out_.command = node->vacuum_stmt->is_vacuumcmd ? "VACUUM" : "ANALYZE";
      break;
    case PG_QUERY__NODE__NODE_CLUSTER_STMT:
      out_.command = "CLUSTER";
      break;
    case PG_QUERY__NODE__NODE_REINDEX_STMT:
      out_.command = "REINDEX";
      break;
    case PG_QUERY__NODE__NODE_CHECK_POINT_STMT:
      out_.command = "CHECKPOINT";
      break;
    case PG_QUERY__NODE__NODE_LOAD_STMT:
      out_.command = "LOAD";
      out_.effects.opaque_code = true;  // the library's code runs in the session
      break;
    default:
      return false;
  }
  out_.kind = StatementKind::maintenance;
  out_.effects.writes = true;
  out_.effects.outside_transaction = needs_no_transaction(node);
  const bool names_index = node->node_case == PG_QUERY__NODE__NODE_REINDEX_STMT &&
                           node->reindex_stmt->kind == PG_QUERY__REINDEX_OBJECT_TYPE__REINDEX_OBJECT_INDEX;
  defined_tables(*content(node), TableUse::ddl_target);
  if (names_index) out_.tables.front().index = true;
  return true;
}

bool Builder::code(const Node* node) {
  if (node->node_case == PG_QUERY__NODE__NODE_DO_STMT) {
    out_.kind = StatementKind::do_block;
    out_.command = "DO";
    Code code{.language = "plpgsql", .body = {}};
    for (const Node* argument : list(node->do_stmt->args, node->do_stmt->n_args)) {
      const auto* option = as<PgQuery__DefElem>(argument);
      const auto* value = option != nullptr ? as<PgQuery__String>(option->arg) : nullptr;
      if (value == nullptr) continue;
      (std::string_view(option->defname) == "as" ? code.body : code.language) = value->sval;
    }
    out_.code = std::move(code);
  } else if (node->node_case == PG_QUERY__NODE__NODE_CALL_STMT) {
    out_.kind = StatementKind::call;
    out_.command = "CALL";
    Node call;
    pg_query__node__init(&call);
    call.node_case = PG_QUERY__NODE__NODE_FUNC_CALL;
    call.func_call = node->call_stmt->funccall;
    Node* const item = &call;
    arguments({&item, 1});
  } else {
    return false;
  }
  out_.effects.writes = true;
  out_.effects.opaque_code = true;
  return true;
}

}  // namespace tessera::parser::postgres
