// Statements about the session: transactions, settings, prepared statements, cursors, channels.
#include "parser/character.hpp"
#include "parser/postgres/builder.hpp"

namespace tessera::parser::postgres {

namespace {

struct TransactionWords {
  StatementKind kind;
  const char* command;
};

TransactionWords words_of(PgQuery__TransactionStmtKind kind) {
  switch (kind) {
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_BEGIN:
      return {StatementKind::begin, "BEGIN"};
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_START:
      return {StatementKind::begin, "START TRANSACTION"};
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_COMMIT:
      return {StatementKind::commit, "COMMIT"};
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_ROLLBACK:
      return {StatementKind::rollback, "ROLLBACK"};
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_SAVEPOINT:
      return {StatementKind::savepoint, "SAVEPOINT"};
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_RELEASE:
      return {StatementKind::release_savepoint, "RELEASE"};
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_ROLLBACK_TO:
      return {StatementKind::rollback_to_savepoint, "ROLLBACK TO SAVEPOINT"};
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_PREPARE:
      return {StatementKind::prepare_transaction, "PREPARE TRANSACTION"};
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_COMMIT_PREPARED:
      return {StatementKind::commit_prepared, "COMMIT PREPARED"};
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_ROLLBACK_PREPARED:
      return {StatementKind::rollback_prepared, "ROLLBACK PREPARED"};
    default:
      return {StatementKind::other, "TRANSACTION"};
  }
}

bool is_read_only(NodeList options) {
  bool read_only = false;
  for (const Node* item : options) {
    const auto* option = as<PgQuery__DefElem>(item);
    if (option == nullptr || std::string_view(option->defname) != "transaction_read_only") continue;
    const auto* value = as<PgQuery__AConst>(option->arg);
    read_only = value != nullptr && value->val_case == PG_QUERY__A__CONST__VAL_IVAL && value->ival->ival != 0;
  }
  return read_only;
}

std::string lower(std::string_view text) {
  std::string result;
  for (char c : text) result += to_lower(c);
  return result;
}

// CURSOR_OPT_BINARY, _SCROLL and _HOLD of version 15.
constexpr int cursor_binary = 0x01;
constexpr int cursor_scroll = 0x02;
constexpr int cursor_with_hold = 0x20;

}  // namespace

bool Builder::transaction(const Node* node) {
  if (node->node_case != PG_QUERY__NODE__NODE_TRANSACTION_STMT) return false;
  const PgQuery__TransactionStmt& t = *node->transaction_stmt;
  const TransactionWords words = words_of(t.kind);
  out_.kind = words.kind;
  out_.command = words.command;
  Transaction& result = out_.transaction.emplace();
  result.name = *t.savepoint_name != '\0' ? t.savepoint_name : t.gid;
  result.chain = t.chain;
  result.read_only = is_read_only(list(t.options, t.n_options));
  out_.effects.outside_transaction =
      words.kind == StatementKind::commit_prepared || words.kind == StatementKind::rollback_prepared;
  if (words.kind == StatementKind::begin) {
    TokenIndex first = first_token() + 1;
    if (tokens_.is(first, "work") || tokens_.is(first, "transaction")) ++first;
    result.options = rest(first);
  }
  return true;
}

bool Builder::setting(const Node* node) {
  if (node->node_case == PG_QUERY__NODE__NODE_VARIABLE_SET_STMT) {
    set(*node->variable_set_stmt);
  } else if (node->node_case == PG_QUERY__NODE__NODE_VARIABLE_SHOW_STMT) {
    out_.kind = StatementKind::show;
    out_.command = "SHOW";
    out_.setting.emplace().name = lower(node->variable_show_stmt->name);
  } else if (node->node_case == PG_QUERY__NODE__NODE_DISCARD_STMT) {
    out_.kind = StatementKind::discard;
    out_.command = definition_command();
    out_.effects.outside_transaction = needs_no_transaction(node);
  } else {
    return false;
  }
  return true;
}

void Builder::set(const PgQuery__VariableSetStmt& node) {
  const std::string name = lower(node.name);
  if (node.kind == PG_QUERY__VARIABLE_SET_KIND__VAR_SET_MULTI) {  // SET TRANSACTION …, SET SESSION CHARACTERISTICS AS …
    out_.kind = StatementKind::set_transaction;
    out_.command = name == "session characteristics" ? "SET SESSION CHARACTERISTICS" : "SET TRANSACTION";
    Transaction& result = out_.transaction.emplace();
    result.read_only = is_read_only(list(node.args, node.n_args));
    TokenIndex i = first_token();
    while (i < behind_token() && !tokens_.is(i, "transaction")) ++i;
    result.options = rest(i + 1);
    return;
  }
  Setting& result = out_.setting.emplace();
  result.name = name;
  result.local = node.is_local;
  out_.kind = StatementKind::set;
  out_.command = "SET";
  switch (node.kind) {
    case PG_QUERY__VARIABLE_SET_KIND__VAR_RESET_ALL:
      result.name = "all";
      [[fallthrough]];
    case PG_QUERY__VARIABLE_SET_KIND__VAR_RESET:
      out_.kind = StatementKind::reset;
      out_.command = "RESET";
      return;
    case PG_QUERY__VARIABLE_SET_KIND__VAR_SET_DEFAULT:
      result.to_default = true;
      return;
    case PG_QUERY__VARIABLE_SET_KIND__VAR_SET_VALUE:
      break;
    default:
      out_.kind = StatementKind::other;
      return;  // SET x FROM CURRENT belongs into CREATE FUNCTION
  }
  result.value = setting_value(node);
  for (const Node* item : list(node.args, node.n_args)) {
    const auto* value = as<PgQuery__AConst>(item);
    std::string text = result.value;  // SET TIME ZONE INTERVAL …: as written
    if (value != nullptr && value->val_case == PG_QUERY__A__CONST__VAL_SVAL) text = value->sval->sval;
    if (value != nullptr && value->val_case == PG_QUERY__A__CONST__VAL_IVAL) text = std::to_string(value->ival->ival);
    if (value != nullptr && value->val_case == PG_QUERY__A__CONST__VAL_FVAL) text = value->fval->fval;
    result.values.push_back(std::move(text));
  }
}

// The text behind TO or =, or behind the words of SET TIME ZONE, SET NAMES, SET ROLE, ….
std::string Builder::setting_value(const PgQuery__VariableSetStmt& node) const {
  TokenIndex i = first_token() + 1;
  if (tokens_.is(i, "local") || (tokens_.is(i, "session") && !tokens_.is(i + 1, "authorization"))) ++i;
  TokenIndex behind_name = i + 1;
  while (tokens_.is(behind_name, ".")) behind_name += 2;
  if (tokens_.is(behind_name, "to") || tokens_.is(behind_name, "=")) return rest(behind_name + 1);
  const std::string_view name = node.name;
  const bool two_words = name == "timezone" || name == "session_authorization" || name == "xmloption";
  return rest(i + (two_words ? 2 : 1));
}

bool Builder::prepared(const Node* node) {
  const bool is_prepare = node->node_case == PG_QUERY__NODE__NODE_PREPARE_STMT;
  const bool is_execute = node->node_case == PG_QUERY__NODE__NODE_EXECUTE_STMT;
  if (!is_prepare && !is_execute && node->node_case != PG_QUERY__NODE__NODE_DEALLOCATE_STMT) return false;
  Prepared& result = out_.prepared.emplace();
  TokenIndex name = first_token() + 1;
  if (!is_prepare && !is_execute && tokens_.is(name, "prepare") && name + 1 < behind_token()) ++name;
  result.name_span = tokens_.span(name, name);
  if (is_prepare) {
    const PgQuery__PrepareStmt& p = *node->prepare_stmt;
    out_.kind = StatementKind::prepare;
    out_.command = "PREPARE";
    result.name = p.name;
    for (const Node* item : list(p.argtypes, p.n_argtypes)) {
      const auto* type = as<PgQuery__TypeName>(item);
      result.types.push_back(type == nullptr ? std::string() : type_name(*type));
    }
    TokenIndex i = name;
    while (i < behind_token() && !tokens_.is(i, "as")) i = tokens_.is(i, "(") ? tokens_.match(i) : i + 1;
    result.body = {tokens_.begin(i + 1), out_.span.end};
    nested(p.query, i + 1);
  } else if (is_execute) {
    const PgQuery__ExecuteStmt& e = *node->execute_stmt;
    out_.kind = StatementKind::execute;
    out_.command = "EXECUTE";
    out_.effects.writes = true;  // whatever was prepared under that name
    result.name = e.name;
    for (const Node* item : list(e.params, e.n_params)) result.arguments.push_back(operand(item));
    arguments(list(e.params, e.n_params));
  } else {
    out_.kind = StatementKind::deallocate;
    out_.command = "DEALLOCATE";
    result.name = node->deallocate_stmt->name;
    result.all = result.name.empty();
  }
  return true;
}

namespace {
Cursor::Direction direction_of(PgQuery__FetchDirection direction) {
  switch (direction) {
    case PG_QUERY__FETCH_DIRECTION__FETCH_BACKWARD:
      return Cursor::Direction::backward;
    case PG_QUERY__FETCH_DIRECTION__FETCH_ABSOLUTE:
      return Cursor::Direction::absolute;
    case PG_QUERY__FETCH_DIRECTION__FETCH_RELATIVE:
      return Cursor::Direction::relative;
    default:
      return Cursor::Direction::forward;
  }
}
}  // namespace

bool Builder::cursor(const Node* node) {
  switch (node->node_case) {
    case PG_QUERY__NODE__NODE_DECLARE_CURSOR_STMT: {
      const PgQuery__DeclareCursorStmt& d = *node->declare_cursor_stmt;
      out_.kind = StatementKind::declare_cursor;
      out_.command = "DECLARE CURSOR";
      const bool hold = (d.options & cursor_with_hold) != 0;
      out_.cursor = Cursor{.name = d.portalname,
                           .hold = hold,
                           .scroll = (d.options & cursor_scroll) != 0,
                           .binary = (d.options & cursor_binary) != 0};
      TokenIndex before = first_token() + 1;
      while (before < behind_token() && !tokens_.is(before, "for")) ++before;
      nested(d.query, before + 1);
      if (!out_.inner.empty()) out_.effects = out_.inner[0].effects;
      out_.effects.hold_cursor = hold;
      return true;
    }
    case PG_QUERY__NODE__NODE_FETCH_STMT:
      out_.kind = StatementKind::fetch;
      out_.command = node->fetch_stmt->ismove ? "MOVE" : "FETCH";
      out_.cursor = Cursor{.name = node->fetch_stmt->portalname,
                           .direction = direction_of(node->fetch_stmt->direction),
                           .count = node->fetch_stmt->how_many};
      return true;
    case PG_QUERY__NODE__NODE_CLOSE_PORTAL_STMT:
      out_.kind = StatementKind::close_cursor;
      out_.command = "CLOSE CURSOR";
      out_.cursor = Cursor{.name = node->close_portal_stmt->portalname};
      return true;
    default:
      return false;
  }
}

bool Builder::channel(const Node* node) {
  switch (node->node_case) {
    case PG_QUERY__NODE__NODE_LISTEN_STMT:
      out_.kind = StatementKind::listen;
      out_.command = "LISTEN";
      out_.channel = Channel{node->listen_stmt->conditionname, std::nullopt};
      return true;
    case PG_QUERY__NODE__NODE_UNLISTEN_STMT:
      out_.kind = StatementKind::unlisten;
      out_.command = "UNLISTEN";
      out_.channel = Channel{node->unlisten_stmt->conditionname, std::nullopt};
      return true;
    case PG_QUERY__NODE__NODE_NOTIFY_STMT: {
      out_.kind = StatementKind::notify;
      out_.command = "NOTIFY";
      const std::string payload = node->notify_stmt->payload;
      const bool given = first_token() + 2 < behind_token();
      out_.channel = Channel{node->notify_stmt->conditionname, given ? std::optional(payload) : std::nullopt};
      return true;
    }
    default:
      return false;
  }
}

}  // namespace tessera::parser::postgres
