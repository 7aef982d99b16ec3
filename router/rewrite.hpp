// Statements as text with parts replaced, and the names in them. Pure.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "parser/fingerprint.hpp"
#include "parser/statement.hpp"

namespace tessera::router {

inline std::string_view text_of(std::string_view sql, parser::SourceSpan span) {
  return sql.substr(span.begin, span.end - span.begin);
}

std::string quoted(std::string_view name);

// Text of a statement that is replaced; an empty span: inserted.
struct Replacement {
  parser::SourceSpan span;
  std::string text;
};

// The part `whole` of `sql` with the replacements, which lie in it and do not overlap.
std::string rewritten(std::string_view sql, parser::SourceSpan whole, std::vector<Replacement> replacements);

// `name` for a table, whose own it goes on by. TABLE t, a query without FROM, becomes a SELECT.
Replacement in_place_of(std::string_view sql, const parser::TableRef& table, std::string_view name);

// Behind that many tokens: where it is, in bytes.
std::size_t behind_tokens(std::string_view sql, std::uint32_t tokens, parser::LexerMode mode);

// The text of EXPLAIN x with nothing but x in it, each character where it was.
std::string without_explain(std::string_view sql, const parser::Statement& explain);

// Whether the token `second` stands right behind the word `first`; both in lower case.
bool in_sequence(std::string_view sql, std::string_view first, std::string_view second);

// How many items of an ORDER BY are this name and nothing else.
std::size_t items_named(std::string_view order_by, const std::string& name);

// The names that a text mentions, as the server folds them, which stand as `table.name`, and how often a name stands
// without a dot before or behind it.
class Names {
public:
  explicit Names(std::string_view sql);
  bool has(const std::string& name) const { return unreadable_ || all_.contains(name); }
  std::size_t alone(const std::string& name) const;
  bool qualified(const std::string& table, const std::string& name) const { return qualified_.contains({table, name}); }
  // How often t.* stands.
  std::size_t stars() const { return stars_; }
  // Some name cannot be read.
  bool unreadable() const { return unreadable_; }

private:
  std::set<std::string> all_;
  std::map<std::string, std::size_t> alone_;
  std::set<std::pair<std::string, std::string>> qualified_;
  std::size_t stars_ = 0;
  bool unreadable_ = false;
};

}  // namespace tessera::router
