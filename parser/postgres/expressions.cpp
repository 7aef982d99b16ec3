// Expressions: the functions and subqueries in them, and the values that the planner can use.
#include <algorithm>
#include <array>

#include "parser/postgres/builder.hpp"

namespace tessera::parser::postgres {

namespace {

BlockRole role_of(const PgQuery__SubLink& node) {
  switch (node.sub_link_type) {
    case PG_QUERY__SUB_LINK_TYPE__EXISTS_SUBLINK:
      return BlockRole::exists_subquery;
    case PG_QUERY__SUB_LINK_TYPE__ANY_SUBLINK:
      return BlockRole::in_subquery;
    default:
      return BlockRole::expression_subquery;
  }
}

}  // namespace

void Builder::expressions(NodeList nodes, const Scope& scope) {
  for (const Node* node : nodes) expression(node, scope);
}

void Builder::expression(const Node* node, const Scope& scope) {
  if (const Message* inside = content(node)) expression(*inside, scope);
}

void Builder::expression(const Message& message, const Scope& scope) {
  if (const auto* link = as<PgQuery__SubLink>(message)) return sub_link(*link, scope);
  if (as<PgQuery__TypeName>(message) != nullptr) return;
  // (a, b) = (SELECT …) holds the same source once for each column.
  if (const auto* part = as<PgQuery__MultiAssignRef>(message); part != nullptr && part->colno != 1) return;
  if (const auto* query = as<SelectNode>(message)) {  // a query where only expressions are expected
    select(*query, {BlockRole::expression_subquery, scope.block, &scope, scope.with});
    return;
  }
  if (const auto* table = as<PgQuery__RangeVar>(message)) {
    add_table(*table, TableUse::read, scope.block);
    return;
  }
  if (const auto* column = as<PgQuery__ColumnRef>(message)) return column_field(*column, scope);
  if (const auto* selection = as<PgQuery__AIndirection>(message)) row_fields(*selection, scope);
  if (const auto* call = as<PgQuery__FuncCall>(message)) {
    function(*call, scope);
  } else if (const auto* keyword = as<PgQuery__SQLValueFunction>(message)) {
    FunctionCall listed;
    listed.name = keyword_name(keyword->op);
    listed.span = call_span(keyword->location);
    out_.blocks[scope.block].functions.push_back(std::move(listed));
  } else if (const auto* grouping = as<PgQuery__GroupingFunc>(message)) {
    FunctionCall listed;
    listed.name = "grouping";
    listed.span = call_span(grouping->location);
    listed.argument_count = static_cast<int>(grouping->n_args);
    listed.arguments.resize(grouping->n_args);
    listed.aggregate_syntax = true;
    out_.blocks[scope.block].functions.push_back(std::move(listed));
  }
  for_each_child(message, [this, &scope](const Message& child) { expression(child, scope); });
}

// The name and its arguments; FILTER, OVER and WITHIN GROUP are not part of it.
SourceSpan Builder::call_span(int location) const {
  if (location < 0) return {};
  const TokenIndex first = tokens_.at(static_cast<std::uint32_t>(location));
  TokenIndex last = first;
  while (tokens_.is(last + 1, ".")) last += 2;
  if (tokens_.is(last + 1, "(") && tokens_.match(last + 1) < tokens_.size()) last = tokens_.match(last + 1);
  return tokens_.span(first, last);
}

void Builder::function(const PgQuery__FuncCall& node, const Scope& scope) {
  note_function(node, out_.effects);
  FunctionCall call;
  const auto names = strings(list(node.funcname, node.n_funcname));
  if (!names.empty()) call.name = names.back();
  if (names.size() > 1) call.schema = names[names.size() - 2];
  call.span = call_span(node.location);
  for (const Node* argument : list(node.args, node.n_args)) call.arguments.push_back(operand(argument));
  call.argument_count = static_cast<int>(node.n_args);
  call.aggregate_syntax =
      node.agg_star || node.agg_distinct || node.agg_within_group || node.n_agg_order > 0 || node.agg_filter != nullptr;
  call.window = node.over != nullptr;
  out_.blocks[scope.block].functions.push_back(std::move(call));
}

// t.name: a column, or the function `name` of the row.
void Builder::column_field(const PgQuery__ColumnRef& node, const Scope& scope) {
  const auto names = strings(list(node.fields, node.n_fields));
  if (names.size() < 2 || names_output_column(scope, names[names.size() - 2], names.back())) return;
  const Resolution found = resolve(scope, node);
  FieldRef field{found.known ? found.columns[0].table : no_index, names.back(), {}};
  if (node.location >= 0) {
    const TokenIndex first = tokens_.at(static_cast<std::uint32_t>(node.location));
    TokenIndex last = first;
    while (tokens_.is(last + 1, ".")) last += 2;
    field.span = tokens_.span(first, last);
  }
  add_field(std::move(field), scope.block);
}

// (t).name, (expression).name.name: of the first name it can be told whose row it is, if t is a table.
void Builder::row_fields(const PgQuery__AIndirection& node, const Scope& scope) {
  TableIndex table = no_index;
  if (const auto* row = as<PgQuery__ColumnRef>(node.arg)) {
    const auto names = strings(list(row->fields, row->n_fields));
    for (const Node* item : list(node.indirection, node.n_indirection)) {
      const auto* name = as<PgQuery__String>(item);
      if (names.size() != 1 || name == nullptr) break;
      if (names_output_column(scope, names[0], name->sval)) return;
      const Resolution found = resolve(scope, names[0], name->sval);
      if (found.known) table = found.columns[0].table;
      break;
    }
  }
  const int at = leftmost(node.base);
  for (const Node* item : list(node.indirection, node.n_indirection)) {
    const auto* name = as<PgQuery__String>(item);
    if (name == nullptr) continue;
    add_field({table, name->sval, at < 0 ? SourceSpan{} : call_span(at)}, scope.block);
    table = no_index;
  }
}

void Builder::add_field(FieldRef field, BlockIndex block) {
  auto& fields = out_.blocks[block].fields;
  const auto same = [&field](const FieldRef& known) { return known.table == field.table && known.name == field.name; };
  if (std::ranges::none_of(fields, same)) fields.push_back(std::move(field));
}

void Builder::sub_link(const PgQuery__SubLink& node, const Scope& scope) {
  expression(node.testexpr, scope);
  const auto* query_node = as<SelectNode>(node.subselect);
  if (query_node == nullptr) return expression(node.subselect, scope);
  sub_queries_[&node] = select(*query_node, {role_of(node), scope.block, &scope, scope.with});
}

Operand Builder::operand(const Node* node) const {
  if (const auto* value = as<PgQuery__AConst>(node)) return constant(*value);
  if (const auto* value = as<PgQuery__TypeCast>(node)) return cast(*value);
  if (const auto* value = as<PgQuery__AExpr>(node)) return signed_operand(*value);
  Operand result;
  if (const auto* parameter = as<PgQuery__ParamRef>(node)) {
    if (parameter->number < 1) return result;
    result.kind = Operand::Kind::parameter;
    result.parameter = parameter->number;
    const TokenIndex at = tokens_.at(static_cast<std::uint32_t>(std::max(parameter->location, 0)));
    result.span = tokens_.span(at, at);
  } else if (as<PgQuery__SetToDefault>(node) != nullptr) {
    result.kind = Operand::Kind::default_;
  } else if (const auto* array = as<PgQuery__AArrayExpr>(node)) {
    for (const Node* item : list(array->elements, array->n_elements)) {
      Operand element = operand(item);
      if (element.kind == Operand::Kind::opaque || element.kind == Operand::Kind::array) return {};
      result.elements.push_back(std::move(element));
    }
    result.kind = Operand::Kind::array;
  }
  return result;
}

// A literal is found in the text, so that its span is the fingerprint's slot. For -5 the tree gives the place of the
// sign.
Operand Builder::constant(const PgQuery__AConst& node) const {
  Operand result;
  if (node.isnull) {
    result.kind = Operand::Kind::null;
    return result;
  }
  if (node.location < 0) return result;
  const bool number = node.val_case == PG_QUERY__A__CONST__VAL_IVAL || node.val_case == PG_QUERY__A__CONST__VAL_FVAL;
  TokenIndex at = tokens_.at(static_cast<std::uint32_t>(node.location));
  for (; number && (tokens_.is(at, "-") || tokens_.is(at, "+") || tokens_.is(at, "(")); ++at) {
    if (tokens_.is(at, "-")) result.negative = !result.negative;
  }
  if (tokens_.kind(at) == TokenKind::national_prefix) ++at;
  const TokenKind kind = tokens_.kind(at);
  if (node.val_case == PG_QUERY__A__CONST__VAL_BOOLVAL && tokens_.is(at, node.boolval->boolval ? "true" : "false")) {
    result.kind = Operand::Kind::boolean;
    result.span = tokens_.span(at, at);
    return result;
  }
  if (!is_literal(kind) || is_number(kind) != number) return result;
  if (kind == TokenKind::unicode_string) return {};  // a UESCAPE behind it may change it
  if (!number && is_literal(tokens_.kind(at + 1)) && tokens_.text(at + 1).front() == '\'') return {};  // goes on below
  result.kind = Operand::Kind::literal;
  result.span = tokens_.span(at, at);
  return result;
}

Operand Builder::cast(const PgQuery__TypeCast& node) const {
  if (node.type_name == nullptr || has_modifier(*node.type_name)) return {};
  Operand result = operand(node.arg);
  std::string type = type_name(*node.type_name);
  if (type.empty() || result.kind == Operand::Kind::opaque || result.kind == Operand::Kind::default_) return {};
  if (!result.cast.empty() && result.cast != type) return {};  // the first cast may have changed the value
  result.cast = std::move(type);
  return result;
}

// A sign before a number that the grammar has not folded into the number: -5::bigint is -(5::bigint).
Operand Builder::signed_operand(const PgQuery__AExpr& node) const {
  if (node.kind != PG_QUERY__A__EXPR__KIND__AEXPR_OP || content(node.lexpr) != nullptr) return {};
  const std::string sign = builtin_name(list(node.name, node.n_name));
  if (sign != "-" && sign != "+") return {};
  Operand result = operand(node.rexpr);
  if (result.kind != Operand::Kind::literal || !is_number(tokens_.kind(tokens_.at(result.span.begin)))) return {};
  constexpr std::array exact = {"", "smallint", "integer", "bigint", "numeric"};
  if (std::ranges::find(exact, result.cast) == exact.end()) return {};
  if (sign == "-") result.negative = !result.negative;
  return result;
}

}  // namespace tessera::parser::postgres
