// Names of result columns and of the functions that the grammar writes as keywords.
#include "parser/postgres/builder.hpp"

namespace tessera::parser::postgres {

const char* keyword_name(PgQuery__SQLValueFunctionOp op) {
  switch (op) {
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_DATE:
      return "current_date";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIME:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIME_N:
      return "current_time";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIMESTAMP:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIMESTAMP_N:
      return "current_timestamp";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIME:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIME_N:
      return "localtime";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP_N:
      return "localtimestamp";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_ROLE:
      return "current_role";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_USER:
      return "current_user";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_USER:
      return "user";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_SESSION_USER:
      return "session_user";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_CATALOG:
      return "current_catalog";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_SCHEMA:
      return "current_schema";
    default:
      return "sql_value_function";
  }
}

namespace {

// A name, and whether it is a good one: behind a cast or CASE a good one is kept, a weak one replaced.
struct ColumnName {
  std::string text;
  bool good = false;
};

ColumnName last_of(NodeList names) {
  const auto parts = strings(names);
  return parts.empty() ? ColumnName{} : ColumnName{parts.back(), true};
}

ColumnName name_of(const Node* node);

ColumnName name_of_subquery(const PgQuery__SubLink& link) {
  if (link.sub_link_type == PG_QUERY__SUB_LINK_TYPE__EXISTS_SUBLINK) return {"exists", true};
  if (link.sub_link_type == PG_QUERY__SUB_LINK_TYPE__ARRAY_SUBLINK) return {"array", true};
  if (link.sub_link_type != PG_QUERY__SUB_LINK_TYPE__EXPR_SUBLINK) return {};
  const auto* query = as<SelectNode>(link.subselect);
  while (query != nullptr && query->larg != nullptr) query = query->larg;
  if (query == nullptr || query->n_target_list == 0) return {};
  const auto* target = as<PgQuery__ResTarget>(query->target_list[0]);
  if (target == nullptr) return {};
  return *target->name != '\0' ? ColumnName{target->name, true} : name_of(target->val);
}

ColumnName name_of(const Node* node) {
  if (const auto* column = as<PgQuery__ColumnRef>(node)) return last_of(list(column->fields, column->n_fields));
  if (const auto* call = as<PgQuery__FuncCall>(node)) return last_of(list(call->funcname, call->n_funcname));
  if (const auto* collate = as<PgQuery__CollateClause>(node)) return name_of(collate->arg);
  if (const auto* link = as<PgQuery__SubLink>(node)) return name_of_subquery(*link);
  if (const auto* keyword = as<PgQuery__SQLValueFunction>(node)) return {keyword_name(keyword->op), true};
  if (const auto* field = as<PgQuery__AIndirection>(node)) {
    for (std::size_t i = field->n_indirection; i > 0; --i) {
      if (const auto* name = as<PgQuery__String>(field->indirection[i - 1])) return {name->sval, true};
    }
    return name_of(field->arg);
  }
  if (const auto* cast = as<PgQuery__TypeCast>(node)) {
    ColumnName inner = name_of(cast->arg);
    if (inner.good || cast->type_name == nullptr) return inner;
    ColumnName type = last_of(list(cast->type_name->names, cast->type_name->n_names));
    type.good = false;
    return type;
  }
  if (const auto* choice = as<PgQuery__CaseExpr>(node)) {
    ColumnName inner = name_of(choice->defresult);
    return inner.good ? inner : ColumnName{"case", false};
  }
  if (const auto* bound = as<PgQuery__MinMaxExpr>(node)) {
    return {bound->op == PG_QUERY__MIN_MAX_OP__IS_LEAST ? "least" : "greatest", true};
  }
  if (const auto* operation = as<PgQuery__AExpr>(node)) {
    return operation->kind == PG_QUERY__A__EXPR__KIND__AEXPR_NULLIF ? ColumnName{"nullif", true} : ColumnName{};
  }
  if (as<PgQuery__CoalesceExpr>(node) != nullptr) return {"coalesce", true};
  if (as<PgQuery__GroupingFunc>(node) != nullptr) return {"grouping", true};
  if (as<PgQuery__AArrayExpr>(node) != nullptr) return {"array", true};
  if (as<PgQuery__RowExpr>(node) != nullptr) return {"row", true};
  return {};
}

}  // namespace

std::string column_name(const Node* node) {
  const ColumnName name = name_of(node);
  return name.text.empty() ? "?column?" : name.text;
}

}  // namespace tessera::parser::postgres
