// The tokens of one SQL text with their bracket structure. libpg_query's tree says where expressions stand, but not
// where clauses begin and end; keywords at the right bracket depth do. Built once for each parse, read-only afterwards.
#pragma once

#include <string_view>
#include <vector>

#include "parser/lexer.hpp"
#include "parser/statement.hpp"

namespace tessera::parser::postgres {

using TokenIndex = std::uint32_t;

class TokenList {
public:
  explicit TokenList(std::string_view sql);

  // False: the lexer met something that it cannot read, and the list ends there.
  bool complete() const { return complete_; }
  TokenIndex size() const { return static_cast<TokenIndex>(entries_.size()); }
  std::string_view sql() const { return sql_; }

  // Indexes past the end are allowed everywhere below and stand for "no token".
  TokenKind kind(TokenIndex i) const { return i < size() ? entries_[i].token.kind : TokenKind::end; }
  std::uint32_t begin(TokenIndex i) const;
  std::uint32_t end(TokenIndex i) const { return i < size() ? entries_[i].token.end : begin(i); }
  std::string_view text(TokenIndex i) const { return sql_.substr(begin(i), end(i) - begin(i)); }
  // How many brackets are open around the token; a bracket itself counts as outside.
  int depth(TokenIndex i) const { return i < size() ? entries_[i].depth : 0; }
  // The other bracket of a pair; size() for an unpaired one or any other token.
  TokenIndex match(TokenIndex i) const { return i < size() ? entries_[i].match : size(); }

  // The unquoted word `lower` (given in lower case) or the symbol `lower`.
  bool is(TokenIndex i, std::string_view lower) const;
  bool is_opening(TokenIndex i) const { return is(i, "(") || is(i, "["); }
  bool is_closing(TokenIndex i) const { return is(i, ")") || is(i, "]"); }
  bool is_name(TokenIndex i) const;

  // The first token that begins at `offset` or behind it.
  TokenIndex at(std::uint32_t offset) const;
  // From the first to the last token, both included.
  SourceSpan span(TokenIndex first, TokenIndex last) const { return {begin(first), end(last)}; }

private:
  struct Entry {
    Token token;
    int depth;
    TokenIndex match;
  };
  std::string_view sql_;
  std::vector<Entry> entries_;
  bool complete_ = true;
};

// An upper bound of how deep the syntax tree of these tokens can be. The tree is written, read and walked recursively,
// so that a deep one would overrun the stack.
int nesting_bound(const TokenList& tokens);

}  // namespace tessera::parser::postgres
