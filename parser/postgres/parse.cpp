#include "parser/postgres/parse.hpp"

#include <limits>

#include "parser/postgres/builder.hpp"

namespace tessera::parser::postgres {

namespace {

// The tree is written, read and walked recursively. At this depth all of it stays well below a stack of 8 MB.
constexpr int most_nesting = 2000;

// The library's scanner reads a run of operator characters again for each "/*" in it.
constexpr std::uint64_t most_rescanning = 20'000'000;

std::uint64_t rescanning(std::string_view sql) {
  constexpr std::string_view operator_characters = "~!@#^&|`?+-*/%<>=";
  std::uint64_t cost = 0, run = 0;
  for (std::size_t i = sql.size(); i-- > 0;) {
    run = operator_characters.find(sql[i]) == std::string_view::npos ? 0 : run + 1;
    if (run > 1 && sql[i] == '/' && sql[i + 1] == '*') cost += run;
  }
  return cost;
}

// A raw statement's text starts behind the semicolon of the one before, with blanks and comments.
SourceSpan trimmed(const TokenList& tokens, const PgQuery__RawStmt& raw) {
  const auto begin = static_cast<std::uint32_t>(raw.stmt_location);
  const std::size_t size = tokens.sql().size();
  const auto end =
      static_cast<std::uint32_t>(raw.stmt_len > 0 ? begin + static_cast<std::uint32_t>(raw.stmt_len) : size);
  TokenIndex first = tokens.at(begin);
  while (tokens.is(first, ";")) ++first;
  TokenIndex behind = tokens.at(end);
  while (behind > first + 1 && tokens.is(behind - 1, ";")) --behind;
  if (behind <= first) return {begin, begin};
  return tokens.span(first, behind - 1);
}

// EXPLAIN (TESSERA) is ours to explain; of anything else a server says no more than where the mistake is.
Error with_advice(Error error, const TokenList& tokens) {
  if (tokens.is(0, "explain") && tokens.is(1, "(") && tokens.is(2, "tessera"))
    error.hint =
        "EXPLAIN takes SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES, EXECUTE, DECLARE, CREATE TABLE AS and CREATE or "
        "REFRESH MATERIALIZED VIEW.";
  return error;
}

}  // namespace

Result<std::vector<Statement>> parse(std::string_view sql) {
  if (sql.size() > std::numeric_limits<std::int32_t>::max()) {
    return fail(sqlstate::program_limit_exceeded, "the statement is longer than 2 GB");
  }
  if (sql.find('\0') != std::string_view::npos) {
    return fail(SqlState("22021"), "invalid byte sequence for encoding \"UTF8\": 0x00");
  }
  if (rescanning(sql) > most_rescanning) {
    return fail(SqlState("54001"), "the statement has too many comments in a row",
                "Take the comments out, or put blanks between them.");
  }
  const TokenList tokens(sql);
  if (nesting_bound(tokens) > most_nesting) {
    return fail(SqlState("54001"), "the statement is nested too deeply",
                "Split the statement, or use IN or = ANY instead of long chains of operators.");
  }
  const auto tree = Tree::parse(std::string(sql));
  if (!tree) return std::unexpected(with_advice(tree.error(), tokens));
  if (!tokens.complete()) return fail(sqlstate::internal_error, "the statement's words could not be told apart");
  std::vector<Statement> statements;
  for (const PgQuery__RawStmt* raw : tree->statements()) {
    statements.push_back(Builder(tokens, trimmed(tokens, *raw)).build(raw->stmt));
  }
  return statements;
}

}  // namespace tessera::parser::postgres
