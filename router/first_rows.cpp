#include "router/first_rows.hpp"

#include <algorithm>
#include <fmt/format.h>

#include "parser/lexer.hpp"
#include "router/rewrite.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

using parser::Block;
using parser::Token;
using parser::TokenKind;

// One block over one table, of which LIMIT takes rows as they are.
bool has_the_form(const PlanRequest& request, const ResolvedTable& table) {
  const parser::Statement& statement = request.statement;
  if (table.relation == nullptr || !table.relation->complete || statement.blocks.size() != 1) return false;
  const Block& block = statement.blocks.front();
  const parser::Clauses& c = block.clauses;
  if (!c.limit || c.with_ties || !c.from || block.values) return false;
  // Clauses that stand around the parentheses of the rest: (SELECT … ORDER BY …) LIMIT 1.
  for (const auto& clause : {c.from, c.where, c.order_by, c.limit, c.offset})
    if (clause && *clause == block.span) return false;
  if (statement.tables.front().renamed || hides_system(request.session.search_path)) return false;
  if (request.sql.contains("--")) return false;  // it would swallow what is put behind it
  return !c.distinct && !c.distinct_on && !c.group_by && !c.having && !c.window && !c.locking && !c.into &&
         !c.table_sample && !c.range_function && !c.natural_join;
}

// Each row by itself, and the same on each server and at each time.
bool functions_fit(const PlanRequest& request, const std::vector<parser::FunctionCall>& calls) {
  return std::ranges::none_of(calls, [&](const parser::FunctionCall& call) {
    const FunctionTrait trait = trait_of(call, request.catalog);
    const auto known = request.catalog.functions.find(call.name);
    const bool found = known != request.catalog.functions.end();
    return call.window || call.aggregate_syntax || trait.aggregate || trait.per_server || !found ||
           known->second.volatility == 'v' || known->second.set;
  });
}

// For the shards the names are those of columns. Here an alias of the result, or a number of one, may be meant.
bool names_columns(std::string_view order, const Block& block) {
  parser::Lexer lexer(order, {});
  for (Token token = lexer.next(); token.kind != TokenKind::end; token = lexer.next())
    if (token.kind != TokenKind::word && token.kind != TokenKind::quoted_identifier && token.kind != TokenKind::symbol)
      return false;
  const Names names(order);
  if (names.unreadable()) return false;
  return std::ranges::none_of(block.targets, [&](const parser::TargetItem& target) {
    const bool itself = target.star || (target.column && target.column->name == target.name);
    return !itself && names.has(target.name);
  });
}

}  // namespace

std::string value_of_clause(std::string_view clause) {
  std::vector<Token> tokens;
  parser::Lexer lexer(clause, {});
  for (Token token = lexer.next(); token.kind != TokenKind::end; token = lexer.next()) tokens.push_back(token);
  const auto is = [&](const Token& token, std::string_view word) {
    return token.kind == TokenKind::word &&
           equal_ignoring_case(clause.substr(token.begin, token.end - token.begin), word);
  };
  std::size_t first = 1, behind = tokens.size();
  if (behind > 0 && is(tokens[0], "fetch")) ++first;
  while (behind > first &&
         (is(tokens[behind - 1], "only") || is(tokens[behind - 1], "row") || is(tokens[behind - 1], "rows")))
    --behind;
  if (behind <= first) return is(tokens[0], "fetch") ? "1" : "";
  if (behind == first + 1 && is(tokens[first], "all")) return {};
  return std::string(clause.substr(tokens[first].begin, tokens[behind - 1].end - tokens[first].begin));
}

std::optional<std::string> first_rows(const PlanRequest& request, const ResolvedTable& table,
                                      const std::vector<parser::FunctionCall>& calls) {
  if (!has_the_form(request, table) || !functions_fit(request, calls)) return {};
  const Block& block = request.statement.blocks.front();
  const parser::Clauses& c = block.clauses;
  const std::string_view order = c.order_by ? text_of(request.sql, *c.order_by) : std::string_view();
  if (!names_columns(order, block)) return {};
  const std::string limit = value_of_clause(text_of(request.sql, *c.limit));
  const std::string offset = c.offset ? value_of_clause(text_of(request.sql, *c.offset)) : "0";
  if (limit.empty() || offset.empty()) return {};
  std::string text(trim_space(text_of(request.sql, *c.from)));
  if (c.where) text += fmt::format(" {}", trim_space(text_of(request.sql, *c.where)));
  if (c.order_by) text += fmt::format(" {}", trim_space(order));
  // Their sum may be more than a bigint holds; of a negative one the merge node will tell.
  return text +
         fmt::format(
             " LIMIT greatest(least(({})::bigint::numeric + ({})::bigint::numeric, 9223372036854775807), 0)::bigint",
             limit, offset);
}

}  // namespace tessera::router
