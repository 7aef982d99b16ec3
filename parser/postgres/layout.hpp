// Where the blocks and clauses of a statement stand in its text. The tree tells which clauses there are and where some
// of their expressions stand; the keywords at the block's bracket depth tell where each begins and ends. Every clause
// that the tree has gets a span: if its keyword cannot be found, the span of the whole block.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>

#include "parser/postgres/tokens.hpp"
#include "parser/postgres/tree.hpp"
#include "parser/statement.hpp"

namespace tessera::parser::postgres {

enum class Clause : std::uint8_t {
  from,
  where,
  group_by,
  having,
  window,
  order_by,
  limit,
  offset,
  locking,
  into,
  returning,
  on_conflict,
  using_,
  set
};

class ClauseSpans {
public:
  std::optional<SourceSpan>& operator[](Clause clause) { return spans_[static_cast<std::size_t>(clause)]; }
  // `present` is what the tree says; the span falls back to `block`.
  std::optional<SourceSpan> get(Clause clause, bool present, SourceSpan block) {
    if (!present) return std::nullopt;
    return (*this)[clause] ? (*this)[clause] : block;
  }

private:
  std::array<std::optional<SourceSpan>, static_cast<std::size_t>(Clause::set) + 1> spans_;
};

// A stretch of tokens, `last` included.
struct TokenRange {
  TokenIndex first = 0;
  TokenIndex last = 0;
};

class Layout {
public:
  Layout(const TokenList& tokens, SourceSpan statement)
      : tokens_(tokens), first_(tokens.at(statement.begin)), behind_(tokens.at(statement.end)) {}

  SourceSpan span(TokenRange range) const { return tokens_.span(range.first, range.last); }

  // The block of a query without the brackets around it; WITH, ORDER BY and so on included.
  TokenRange query(const SelectNode& node) const;
  // Where in the block its ORDER BY, LIMIT, … can stand: for a set operation, behind the second operand.
  TokenRange tail(const SelectNode& node) const;
  // The select list's keyword SELECT (or VALUES, TABLE) of a query without set operations.
  TokenIndex core(const SelectNode& node) const;

  // The word INSERT, UPDATE, DELETE or MERGE (given in lower case) before the target table at this location.
  TokenIndex keyword(int target, std::string_view word) const;
  // The block that starts with that word, or with its WITH.
  TokenRange modification(TokenIndex keyword, const PgQuery__WithClause* with) const;

  // The clauses among `wanted` at the depth of the token `from`, from there to the range's end. A clause ends where the
  // next one starts.
  ClauseSpans clauses(TokenRange range, TokenIndex from, std::initializer_list<Clause> wanted) const;

  // The part of `span` from `begin` to the next WHEN of a MERGE.
  SourceSpan before_when(SourceSpan span, std::uint32_t begin) const;

  // The part of a comma-separated list that begins at `location`, within `list`.
  SourceSpan item(int location, SourceSpan list) const;

private:
  TokenRange set_operation(const SelectNode& node, TokenIndex& behind_operands) const;
  TokenRange core_range(const SelectNode& node) const;
  TokenIndex operator_before(TokenIndex operand) const;
  TokenIndex block_end(TokenIndex from, const SelectNode* owner) const;
  std::optional<Clause> clause_at(TokenIndex i) const;
  bool ends_block(TokenIndex i) const;
  TokenIndex token_at(int location) const;
  TokenIndex search_back(TokenIndex from, std::string_view word) const;

  const TokenList& tokens_;
  TokenIndex first_;
  TokenIndex behind_;
};

}  // namespace tessera::parser::postgres
