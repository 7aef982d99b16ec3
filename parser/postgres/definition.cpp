// Statements that change the catalog. Their tables are found by walking the whole tree, so that none is missed; a table
// that is only referred to (a foreign key, LIKE) is a read.
#include <algorithm>
#include <array>

#include "parser/character.hpp"
#include "parser/postgres/builder.hpp"

namespace tessera::parser::postgres {

namespace {

std::string upper(std::string_view word) {
  std::string result(word);
  for (char& c : result) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 0x20) : c;
  return result;
}

// An identifier token as the server reads it.
std::string folded(const TokenList& tokens, TokenIndex i) {
  const std::string_view text = tokens.text(i);
  std::string result;
  if (tokens.kind(i) == TokenKind::word) {
    for (char c : text) result += to_lower(c);
  } else {
    for (std::size_t k = 1; k + 1 < text.size(); ++k) {
      result += text[k];
      if (text[k] == '"') ++k;
    }
  }
  return result;
}

bool is_temporary_schema(std::string_view name) {
  return name == "pg_temp" || name.starts_with("pg_temp_");
}

}  // namespace

bool Builder::names_temporary_schema() const {
  for (TokenIndex i = first_token(); i < behind_token(); ++i) {
    if (tokens_.is_name(i) && is_temporary_schema(folded(tokens_, i))) return true;
  }
  return false;
}

SourceSpan Builder::find_name(std::string_view name) const {
  for (TokenIndex i = first_token() + 1; i < behind_token(); ++i) {
    if (!tokens_.is_name(i) || folded(tokens_, i) != name) continue;
    TokenIndex first = i;
    while (first > first_token() + 1 && tokens_.is(first - 1, ".")) first -= 2;
    return tokens_.span(first, i);
  }
  return out_.span;
}

// The verb and the words for the kind of object; what may stand between them (OR REPLACE, TEMPORARY, …) does not count.
std::string Builder::definition_command() const {
  constexpr std::array fillers = {"or",    "replace",   "temp",   "temporary", "unlogged",   "global",
                                  "local", "recursive", "unique", "trusted",   "procedural", "constraint"};
  constexpr std::array pairs = {"foreign", "materialized", "event", "access", "default", "large", "owned"};
  TokenIndex i = first_token();
  const std::string verb = upper(tokens_.text(i));
  if (verb == "COMMENT" || verb == "GRANT" || verb == "REVOKE") return verb;
  const auto among = [this, &i](const auto& words) {
    return std::ranges::any_of(words, [this, i](const char* word) { return tokens_.is(i, word); });
  };
  do ++i;
  while (verb == "CREATE" && among(fillers));
  if ((tokens_.is(i, "user") && !tokens_.is(i + 1, "mapping")) || tokens_.is(i, "group")) return verb + " ROLE";
  if (tokens_.is(i, "procedural")) ++i;
  std::string result = verb + " " + upper(tokens_.text(i));
  const auto extend = [&] { result += " " + upper(tokens_.text(++i)); };
  if (tokens_.is(i, "user") || (among(pairs) && !tokens_.is(i + 1, "by"))) {
    extend();
    if (tokens_.is(i, "data")) extend();  // FOREIGN DATA WRAPPER
  } else if (tokens_.is(i, "text")) {
    extend();
    extend();
  } else if (tokens_.is(i, "operator") && (tokens_.is(i + 1, "class") || tokens_.is(i + 1, "family"))) {
    extend();
  }
  return result;
}

// A name in a list of strings; that of a part of the table (a column, a trigger) has one more at its end.
void Builder::object_table(const Node* object, Named named) {
  if (named == Named::nothing) return;
  const std::size_t behind = named == Named::part_of_relation ? 1 : 0;
  const auto* names_list = as<PgQuery__List>(object);
  if (names_list == nullptr) return;
  const auto names = strings(list(names_list->items, names_list->n_items));
  if (names.size() <= behind) return;
  const std::size_t last = names.size() - behind - 1;
  TableRef table;
  table.name = table.alias = names[last];
  if (last > 0) table.schema = names[last - 1];
  table.use = TableUse::ddl_target;
  table.block = no_index;
  table.span = find_name(table.name);
  table.index = named == Named::index;
  out_.tables.push_back(std::move(table));
}

namespace {

Named named_by(PgQuery__ObjectType type) {
  switch (type) {
    case PG_QUERY__OBJECT_TYPE__OBJECT_TABLE:
    case PG_QUERY__OBJECT_TYPE__OBJECT_VIEW:
    case PG_QUERY__OBJECT_TYPE__OBJECT_MATVIEW:
    case PG_QUERY__OBJECT_TYPE__OBJECT_FOREIGN_TABLE:
    case PG_QUERY__OBJECT_TYPE__OBJECT_SEQUENCE:
      return Named::relation;
    case PG_QUERY__OBJECT_TYPE__OBJECT_INDEX:
      return Named::index;
    case PG_QUERY__OBJECT_TYPE__OBJECT_COLUMN:
    case PG_QUERY__OBJECT_TYPE__OBJECT_TABCONSTRAINT:
    case PG_QUERY__OBJECT_TYPE__OBJECT_TRIGGER:
    case PG_QUERY__OBJECT_TYPE__OBJECT_POLICY:
    case PG_QUERY__OBJECT_TYPE__OBJECT_RULE:
      return Named::part_of_relation;
    default:
      return Named::nothing;
  }
}

bool is_body(const Message& message) {
  return as<SelectNode>(message) != nullptr || as<PgQuery__InsertStmt>(message) != nullptr ||
         as<PgQuery__UpdateStmt>(message) != nullptr || as<PgQuery__DeleteStmt>(message) != nullptr;
}

}  // namespace

void Builder::dropped_tables(const PgQuery__DropStmt& node) {
  const Named named = named_by(node.remove_type);
  for (const Node* object : list(node.objects, node.n_objects)) object_table(object, named);
}

void Builder::defined_tables(const Message& message, TableUse use) {
  if (const auto* table = as<PgQuery__RangeVar>(message)) {
    const TableIndex index = add_table(*table, use, no_index);
    if (&message == parent_) out_.definition->parent = index;
    return;
  }
  if (const auto* column = as<PgQuery__ColumnDef>(message)) define_column(*column);
  if (const auto* constraint = as<PgQuery__Constraint>(message)) define_constraint(*constraint);
  if (const auto* command = as<PgQuery__AlterTableCmd>(message)) alter_column(*command);
  const bool refers = message.descriptor == &pg_query__constraint__descriptor ||
                      message.descriptor == &pg_query__table_like_clause__descriptor || is_body(message);
  const TableUse below = refers ? TableUse::read : use;
  for_each_child(message, [this, below](const Message& child) { defined_tables(child, below); });
}

void Builder::create_table_as(const PgQuery__CreateTableAsStmt& node) {
  out_.command = node.objtype == PG_QUERY__OBJECT_TYPE__OBJECT_MATVIEW ? "CREATE MATERIALIZED VIEW" : "CREATE TABLE AS";
  if (const auto* select_node = as<SelectNode>(node.query)) {
    select(*select_node, {});
  } else {
    TokenIndex before = first_token();
    while (before < behind_token() && !(tokens_.is(before, "as") && tokens_.is(before + 1, "execute"))) ++before;
    nested(node.query, before + 1);
  }
  if (node.into == nullptr || node.into->rel == nullptr) return;
  created_ = &node.into->rel->base;
  add_table(*node.into->rel, TableUse::ddl_target, no_index);
  if (std::string_view(node.into->rel->relpersistence) == "t") out_.effects.temporary_objects = true;
  out_.effects.until_commit = node.into->on_commit == PG_QUERY__ON_COMMIT_ACTION__ONCOMMIT_DROP;
}

void Builder::definition(const Node* node) {
  const Message* message = content(node);
  if (message == nullptr) return;
  out_.kind = StatementKind::ddl;
  out_.effects.writes = true;
  out_.effects.outside_transaction = needs_no_transaction(node);
  out_.command = definition_command();
  out_.definition.emplace();
  if (names_temporary_schema()) out_.effects.temporary_objects = true;
  const auto note_persistence = [this](const PgQuery__RangeVar* table) {
    if (table != nullptr && std::string_view(table->relpersistence) == "t") out_.effects.temporary_objects = true;
  };
  switch (node->node_case) {
    case PG_QUERY__NODE__NODE_CREATE_TABLE_AS_STMT:
      return create_table_as(*node->create_table_as_stmt);
    case PG_QUERY__NODE__NODE_VIEW_STMT:
      if (const auto* select_node = as<SelectNode>(node->view_stmt->query)) select(*select_node, {});
      created_ = &node->view_stmt->view->base;
      add_table(*node->view_stmt->view, TableUse::ddl_target, no_index);
      return note_persistence(node->view_stmt->view);
    case PG_QUERY__NODE__NODE_DROP_STMT:
      return dropped_tables(*node->drop_stmt);
    case PG_QUERY__NODE__NODE_COMMENT_STMT:
      return object_table(node->comment_stmt->object, named_by(node->comment_stmt->objtype));
    case PG_QUERY__NODE__NODE_SEC_LABEL_STMT:
      return object_table(node->sec_label_stmt->object, named_by(node->sec_label_stmt->objtype));
    case PG_QUERY__NODE__NODE_GRANT_ROLE_STMT:
      out_.command += " ROLE";
      return;
    case PG_QUERY__NODE__NODE_CREATE_STMT:
      note_persistence(node->create_stmt->relation);
      created_ = &node->create_stmt->relation->base;
      out_.effects.until_commit = node->create_stmt->oncommit == PG_QUERY__ON_COMMIT_ACTION__ONCOMMIT_DROP;
      out_.definition->typed = node->create_stmt->of_typename != nullptr;
      if (node->create_stmt->n_inh_relations > 0) parent_ = content(node->create_stmt->inh_relations[0]);
      break;
    case PG_QUERY__NODE__NODE_INDEX_STMT:
      if (node->index_stmt->unique) define_unique_index(*node->index_stmt);
      break;
    case PG_QUERY__NODE__NODE_RENAME_STMT:
      rename(*node->rename_stmt);
      break;
    case PG_QUERY__NODE__NODE_ALTER_OBJECT_SCHEMA_STMT:
      out_.definition->new_schema = node->alter_object_schema_stmt->newschema;
      break;
    case PG_QUERY__NODE__NODE_CREATE_SEQ_STMT:
      note_persistence(node->create_seq_stmt->sequence);
      created_ = &node->create_seq_stmt->sequence->base;
      break;
    case PG_QUERY__NODE__NODE_CREATE_FOREIGN_TABLE_STMT:
      created_ = &node->create_foreign_table_stmt->base_stmt->relation->base;
      break;
    default:
      break;
  }
  if (out_.command.ends_with(" TYPE")) return;
  defined_tables(*message, TableUse::ddl_target);
  if (out_.command != "ALTER INDEX") return;
  for (TableRef& table : out_.tables) table.index = true;
}

}  // namespace tessera::parser::postgres
