// What definitions say of a table's columns and of the constraints over them.
#include <array>

#include "parser/postgres/builder.hpp"

namespace tessera::parser::postgres {

using Constraint = Definition::Constraint;

namespace {

// serial is an integer with a default. Empty: it is another type.
std::string_view integer_of_serial(std::string_view type) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 6> serials = {{{"serial", "integer"},
                                                                                     {"serial4", "integer"},
                                                                                     {"bigserial", "bigint"},
                                                                                     {"serial8", "bigint"},
                                                                                     {"smallserial", "smallint"},
                                                                                     {"serial2", "smallint"}}};
  for (const auto& [serial, integer] : serials)
    if (type == serial) return integer;
  return {};
}

std::string column_type(const PgQuery__TypeName& type) {
  std::string name = type_name(type);
  const std::string_view integer = integer_of_serial(name);
  return integer.empty() ? name : std::string(integer);
}

std::vector<std::string> index_columns(NodeList elements) {
  std::vector<std::string> columns;
  for (const Node* element : elements) {
    const auto* item = as<PgQuery__IndexElem>(element);
    columns.emplace_back(item != nullptr ? item->name : "");
  }
  return columns;
}

// Of pairs of a column and an operator, those that must be equal: if just one is not, there is no conflict.
std::vector<std::string> excluded_columns(NodeList pairs) {
  std::vector<std::string> columns;
  for (const Node* pair : pairs) {
    const auto* items = as<PgQuery__List>(pair);
    if (items == nullptr || items->n_items != 2) continue;
    const auto* column = as<PgQuery__IndexElem>(items->items[0]);
    const auto* words = as<PgQuery__List>(items->items[1]);
    if (column == nullptr || words == nullptr) continue;
    if (builtin_name(list(words->items, words->n_items)) == "=") columns.emplace_back(column->name);
  }
  return columns;
}

}  // namespace

void Builder::define_column(const PgQuery__ColumnDef& node) {
  if (!out_.definition || *node.colname == '\0') return;
  column_ = node.colname;
  Definition::Column& column = out_.definition->columns.emplace_back();
  column.name = column_;
  if (node.type_name != nullptr) column.type = column_type(*node.type_name);
  if (node.coll_clause == nullptr) return;
  const auto names = strings(list(node.coll_clause->collname, node.coll_clause->n_collname));
  if (!names.empty()) column.collation = names.back();
}

// A column's constraint comes right behind the column, and names none.
void Builder::define_constraint(const PgQuery__Constraint& node) {
  if (!out_.definition) return;
  Constraint constraint;
  constraint.columns = strings(list(node.keys, node.n_keys));
  switch (node.contype) {
    case PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY:
      constraint.kind = Constraint::Kind::primary_key;
      break;
    case PG_QUERY__CONSTR_TYPE__CONSTR_UNIQUE:
      break;
    case PG_QUERY__CONSTR_TYPE__CONSTR_EXCLUSION:
      constraint.kind = Constraint::Kind::exclusion;
      constraint.columns = excluded_columns(list(node.exclusions, node.n_exclusions));
      break;
    case PG_QUERY__CONSTR_TYPE__CONSTR_FOREIGN:
      if (node.pktable == nullptr) return;  // ALTER CONSTRAINT: it is there already
      constraint.kind = Constraint::Kind::foreign_key;
      constraint.columns = strings(list(node.fk_attrs, node.n_fk_attrs));
      constraint.referenced = strings(list(node.pk_attrs, node.n_pk_attrs));
      constraint.references = static_cast<TableIndex>(out_.tables.size());  // the walk adds it next
      break;
    default:
      return;
  }
  if (*node.indexname != '\0') return;  // USING INDEX: what that is, its own definition has said
  if (constraint.columns.empty() && constraint.kind != Constraint::Kind::exclusion) constraint.columns = {column_};
  if (node.location >= 0) {
    const TokenIndex word = tokens_.at(static_cast<std::uint32_t>(node.location));
    constraint.span = tokens_.span(word, word);
  }
  out_.definition->constraints.push_back(std::move(constraint));
}

void Builder::define_unique_index(const PgQuery__IndexStmt& node) {
  Constraint constraint;
  constraint.columns = index_columns(list(node.index_params, node.n_index_params));
  constraint.span = out_.span;
  out_.definition->constraints.push_back(std::move(constraint));
}

void Builder::alter_column(const PgQuery__AlterTableCmd& node) {
  if (!out_.definition) return;
  const bool changes = node.subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_DropColumn ||
                       node.subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_AlterColumnType;
  if (changes) out_.definition->changed_columns.emplace_back(node.name);
  if (const auto* column = as<PgQuery__ColumnDef>(node.def)) new_values(node, *column);
}

void Builder::new_values(const PgQuery__AlterTableCmd& node, const PgQuery__ColumnDef& column) {
  auto& values = out_.definition->values;
  if (node.subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_AlterColumnType && content(column.raw_default) != nullptr)
    values.push_back({node.name, false, block_of({&column.raw_default, 1})});
  if (node.subtype != PG_QUERY__ALTER_TABLE_TYPE__AT_AddColumn) return;
  if (column.type_name != nullptr && !integer_of_serial(type_name(*column.type_name)).empty())
    values.push_back({column.colname, true, {}});
  for (const Node* item : list(column.constraints, column.n_constraints)) {
    const auto* constraint = as<PgQuery__Constraint>(item);
    if (constraint == nullptr) continue;
    if (constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_IDENTITY) values.push_back({column.colname, true, {}});
    if (constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_DEFAULT)
      values.push_back({column.colname, false, block_of({&constraint->raw_expr, 1})});
  }
}

// Of expressions that belong to none of the statement's blocks.
Block Builder::block_of(NodeList nodes) const {
  Builder alone(tokens_, out_.span);
  alone.arguments(nodes);
  return std::move(alone.out_.blocks.front());
}

void Builder::rename(const PgQuery__RenameStmt& node) {
  switch (node.rename_type) {
    case PG_QUERY__OBJECT_TYPE__OBJECT_COLUMN:
      out_.definition->changed_columns.emplace_back(node.subname);
      break;
    case PG_QUERY__OBJECT_TYPE__OBJECT_TABLE:
    case PG_QUERY__OBJECT_TYPE__OBJECT_VIEW:
    case PG_QUERY__OBJECT_TYPE__OBJECT_MATVIEW:
    case PG_QUERY__OBJECT_TYPE__OBJECT_FOREIGN_TABLE:
    case PG_QUERY__OBJECT_TYPE__OBJECT_SEQUENCE:
    case PG_QUERY__OBJECT_TYPE__OBJECT_INDEX:
      out_.definition->new_name = node.newname;
      break;
    default:
      break;
  }
}

}  // namespace tessera::parser::postgres
