// Our lexer against the server's own scanner: wherever ours is sure of itself, the tokens are the same.
#include "parser/lexer.hpp"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <pg_query.h>
#include <pg_query/pg_query.pb-c.h>
#include <random>
#include <sstream>

namespace tessera::parser {
namespace {

struct Scanned {
  int begin;
  int end;
  bool literal;
  friend bool operator==(const Scanned&, const Scanned&) = default;
  friend void PrintTo(const Scanned& s, std::ostream* out) {
    *out << "[" << s.begin << "," << s.end << ")" << (s.literal ? "L" : "");
  }
};

// The server's tokens without comments; false: a lexical error.
bool scan(const std::string& sql, std::vector<Scanned>& out) {
  const PgQueryScanResult result = pg_query_scan(sql.c_str());
  const bool good = result.error == nullptr;
  if (good) {
    auto* tokens = pg_query__scan_result__unpack(nullptr, result.pbuf.len,
                                                 reinterpret_cast<const std::uint8_t*>(result.pbuf.data));
    for (std::size_t i = 0; i < tokens->n_tokens; ++i) {
      const auto& token = *tokens->tokens[i];
      if (token.token == PG_QUERY__TOKEN__SQL_COMMENT || token.token == PG_QUERY__TOKEN__C_COMMENT) continue;
      const auto t = token.token;
      const bool literal = t == PG_QUERY__TOKEN__ICONST || t == PG_QUERY__TOKEN__FCONST ||
                           t == PG_QUERY__TOKEN__SCONST || t == PG_QUERY__TOKEN__BCONST ||
                           t == PG_QUERY__TOKEN__XCONST || t == PG_QUERY__TOKEN__USCONST;
      out.push_back({token.start, token.end, literal});  // U&'…' comes with an end that is its start
    }
    pg_query__scan_result__free_unpacked(tokens, nullptr);
  }
  pg_query_free_scan_result(result);
  return good;
}

// False when our lexer or the fingerprint is not sure.
bool lex(const std::string& sql, std::vector<Scanned>& out) {
  Fingerprint whole;
  fingerprint(sql, {}, whole);
  if (!whole.exact) return false;
  Lexer lexer(sql, {});
  for (Token token = lexer.next(); token.kind != TokenKind::end; token = lexer.next()) {
    out.push_back({static_cast<int>(token.begin), static_cast<int>(token.end), is_literal(token.kind)});
  }
  return true;
}

// Returns whether there was something to compare.
bool compare(const std::string& sql) {
  std::vector<Scanned> ours, theirs;
  if (!lex(sql, ours) || !scan(sql, theirs)) return false;
  for (std::size_t i = 0; i < theirs.size() && i < ours.size(); ++i) {
    if (theirs[i].end == theirs[i].begin) theirs[i].end = ours[i].end;
  }
  EXPECT_EQ(ours, theirs) << sql;
  return true;
}

TEST(Lexer, AgreesWithTheServerOnEveryGoldenCase) {
  int compared = 0;
  for (const auto& entry : std::filesystem::directory_iterator("parser/postgres/testdata")) {
    std::ifstream in(entry.path());
    for (std::string line; std::getline(in, line);) compared += compare(line);
  }
  EXPECT_GT(compared, 1000);
}

TEST(Lexer, AgreesWithTheServerOnTokenSoup) {
  const std::vector<std::string> pieces = {
      "a",     "B",   "_x1$", "sel",     "1",      "42",         ".5",    "5.",    "1e5",   "1e-3",       "1.5",
      "..",    ".",   "'s'",  "'it''s'", "E'\\''", "e'\\\\'",    "B'01'", "x'ff'", "X'0'",  "N'n'",       "n",
      "U&'u'", "u",   "U",    "&",       "$$d$$",  "$t$ $$ $t$", "$1",    "$22",   "\"q\"", "\"q\"\"r\"", "(",
      ")",     "[",   "]",    ",",       ";",      ":",          "::",    ":=",    "=",     "=>",         "<",
      ">",     "<=",  "<>",   "!=",      "-",      "--c\n",      "+",     "*",     "/",     "/*c*/",      "/*a/*b*/c*/",
      "@",     "@-",  "!",    "#",       "^",      "|",          "||",    "`",     "?",     "%",          "~",
      "->",    "->>", "-+",   "+-",      " ",      "\n",         "\t",    "\r",    "\f",    "\xc3\xa4",   "e",
      "E",     "b",   "x",    "'",       "$",      "\\",         "1a"};
  std::mt19937 random(4711);
  int compared = 0;
  for (int round = 0; round < 60000; ++round) {
    std::string sql;
    const unsigned count = 1 + random() % 9;
    for (unsigned i = 0; i < count; ++i) sql += pieces[random() % pieces.size()];
    compared += compare(sql);
    if (HasFailure()) break;
  }
  EXPECT_GT(compared, 10000);
}

}  // namespace
}  // namespace tessera::parser
