#include "parser/copy_splitter.hpp"

#include <gmock/gmock.h>

namespace tessera::parser {
namespace {

using testing::ElementsAre;
using Kind = CopyFormat::Kind;
using std::string_literals::operator""s;

constexpr std::size_t plenty = 1 << 20;

CopyFormat csv() {
  return {.kind = Kind::csv, .delimiter = ',', .null = ""};
}

// What becomes of the data, in words: each row's bytes with its line, marked ! for everywhere and ? for broken; an
// error with its line.
std::vector<std::string> split_in(const CopyFormat& format, const std::vector<std::string_view>& pieces) {
  std::vector<std::string> out;
  CopySplitter splitter(format, plenty);
  const auto drain = [&] {
    for (;;) {
      const auto row = splitter.next();
      if (!row) {
        out.push_back("E" + std::to_string(splitter.line()) + " " + row.error().message);
        return false;
      }
      if (!*row) return true;
      const char* const mark = (*row)->kind == CopyRow::Kind::row      ? ""
                               : (*row)->kind == CopyRow::Kind::broken ? "?"
                                                                       : "!";
      out.push_back(mark + std::to_string((*row)->line) + " " + std::string((*row)->bytes));
    }
  };
  for (const std::string_view piece : pieces) {
    splitter.feed(piece);
    if (!drain()) return out;
  }
  splitter.end();
  drain();
  return out;
}

// In one piece; and, with the same result, cut at every byte and into single bytes.
std::vector<std::string> split(const CopyFormat& format, const std::string& data) {
  const std::string_view all = data;
  const auto whole = split_in(format, {all});
  for (std::size_t cut = 1; cut < data.size(); ++cut)
    EXPECT_EQ(split_in(format, {all.substr(0, cut), all.substr(cut)}), whole) << "cut at " << cut;
  std::vector<std::string_view> bytes;
  for (std::size_t i = 0; i < data.size(); ++i) bytes.push_back(all.substr(i, 1));
  EXPECT_EQ(split_in(format, bytes), whole);
  return whole;
}

// The values of these columns in one row; "-" for NULL, none if it is malformed.
std::vector<std::string> values(const CopyFormat& format, const std::string& line, std::vector<CopyColumn> wanted) {
  CopyFields fields(format, std::move(wanted));
  if (!fields.read({.bytes = line, .content = line})) return {};
  std::vector<std::string> out;
  for (const CopyValue& value : fields.values()) out.push_back(value.null ? "-" : "=" + std::string(value.bytes));
  return out;
}

TEST(CopySplitter, lines_of_text) {
  EXPECT_THAT(split({}, "1\ta\n2\tb\n"), ElementsAre("1 1\ta\n", "2 2\tb\n"));
  EXPECT_THAT(split({}, "1\r\n2\r\n"), ElementsAre("1 1\r\n", "2 2\r\n"));
  EXPECT_THAT(split({}, "1\r2\r"), ElementsAre("1 1\r", "2 2\r"));
  EXPECT_THAT(split({}, "1\n2"), ElementsAre("1 1\n", "2 2"));
  EXPECT_THAT(split({}, "\n\n"), ElementsAre("1 \n", "2 \n"));
  EXPECT_THAT(split({}, ""), ElementsAre());
}

TEST(CopySplitter, a_backslash_takes_the_end_of_a_line_away) {
  EXPECT_THAT(split({}, "1\\\n2\n3\n"), ElementsAre("1 1\\\n2\n", "2 3\n"));
  EXPECT_THAT(split({}, "1\\\\\n2\n"), ElementsAre("1 1\\\\\n", "2 2\n"));
  EXPECT_THAT(split({}, "1\\"), ElementsAre("1 1\\"));
}

TEST(CopySplitter, nothing_behind_the_marker_counts) {
  EXPECT_THAT(split({}, "1\n\\.\n2\n"), ElementsAre("1 1\n"));
  EXPECT_THAT(split({}, "1\r\n\\.\r\n2\n"), ElementsAre("1 1\r\n"));
  EXPECT_THAT(split({}, "1\r\\.\r2\n"), ElementsAre("1 1\r"));
  EXPECT_THAT(split({}, "1\n2\\.\n3\n"), ElementsAre("1 1\n", "2 2\\.\n"));
  EXPECT_THAT(split({}, "\\\\.\n2\n"), ElementsAre("1 \\\\.\n", "2 2\n"));
  EXPECT_THAT(split(csv(), "1\n\\.\n2\n"), ElementsAre("1 1\n"));
  EXPECT_THAT(split(csv(), "1\n\\.x\n2\\.\n"), ElementsAre("1 1\n", "2 \\.x\n", "3 2\\.\n"));
  EXPECT_THAT(split(csv(), "1\n\"\\.\"\n2\n"), ElementsAre("1 1\n", "2 \"\\.\"\n", "3 2\n"));
}

TEST(CopySplitter, a_marker_that_is_wrong) {
  EXPECT_THAT(split({}, "1\n\\.x\n"), ElementsAre("1 1\n", "E2 end-of-copy marker corrupt"));
  EXPECT_THAT(split({}, "1\n\\."), ElementsAre("1 1\n", "E2 end-of-copy marker corrupt"));
  EXPECT_THAT(split({}, "1\n\\.\r"),
              ElementsAre("1 1\n", "E2 end-of-copy marker does not match previous newline style"));
  EXPECT_THAT(split({}, "1\r\n\\.\n"),
              ElementsAre("1 1\r\n", "E2 end-of-copy marker does not match previous newline style"));
  EXPECT_THAT(split(csv(), "1\r\n\\.\n"), ElementsAre("1 1\r\n", "E2 unquoted newline found in data"));
}

TEST(CopySplitter, two_kinds_of_line_ends) {
  EXPECT_THAT(split({}, "1\n2\r\n"), ElementsAre("1 1\n", "E2 literal carriage return found in data"));
  EXPECT_THAT(split({}, "1\r\n2\n"), ElementsAre("1 1\r\n", "E2 literal newline found in data"));
  EXPECT_THAT(split({}, "1\r\n2\r3"), ElementsAre("1 1\r\n", "E2 literal carriage return found in data"));
  EXPECT_THAT(split(csv(), "1\r2\n"), ElementsAre("1 1\r", "E2 unquoted newline found in data"));
  EXPECT_THAT(split(csv(), "1\n2\r3\n"), ElementsAre("1 1\n", "E2 unquoted carriage return found in data"));
}

TEST(CopySplitter, quotes_hold_the_ends_of_lines) {
  EXPECT_THAT(split(csv(), "1,\"a\nb\"\n2,c\n"), ElementsAre("1 1,\"a\nb\"\n", "2 2,c\n"));  // as the server counts
  EXPECT_THAT(split(csv(), "0\n1,\"a\nb\"\n2,c\n"), ElementsAre("1 0\n", "3 1,\"a\nb\"\n", "4 2,c\n"));
  EXPECT_THAT(split(csv(), "1,\"a\"\"\n\"\n2\n"), ElementsAre("1 1,\"a\"\"\n\"\n", "2 2\n"));
  CopyFormat other = csv();
  other.quote = '\'';
  other.escape = '\\';
  EXPECT_THAT(split(other, "'a\\'\nb'\n'\\\\'\nc\n"), ElementsAre("1 'a\\'\nb'\n", "2 '\\\\'\n", "3 c\n"));
  EXPECT_THAT(split(csv(), "1,\"a\n2"), ElementsAre("1 1,\"a\n2"));  // unterminated: the fields tell
}

TEST(CopySplitter, the_header_goes_everywhere) {
  CopyFormat format = csv();
  format.header = true;
  EXPECT_THAT(split(format, "id\n1\n"), ElementsAre("!1 id\n", "2 1\n"));
  EXPECT_THAT(split(format, "id"), ElementsAre("!1 id"));
  EXPECT_THAT(split(format, ""), ElementsAre());
}

TEST(CopySplitter, what_is_too_long_is_refused) {
  CopySplitter splitter({}, 10);
  splitter.feed("12345678901");
  EXPECT_FALSE(splitter.next());
}

TEST(CopyFields, text) {
  EXPECT_THAT(values({}, "1\tb\t\\N", {{0}, {1}, {2}}), ElementsAre("=1", "=b", "-"));
  EXPECT_THAT(values({}, "1\tb", {{1}, {0}}), ElementsAre("=b", "=1"));
  EXPECT_THAT(values({}, "a\\tb\\\tc\\\\\\101\\x41\\x4g\\xz\\9\\b", {{0}}), ElementsAre("=a\tb\tc\\AA\x04gxz9\b"));
  EXPECT_THAT(values({}, "\\777\\1234", {{0}}), ElementsAre("=\377S4"));
  EXPECT_THAT(values({}, "", {{0}}), ElementsAre("="));
  EXPECT_THAT(values({}, "1", {{1}}), ElementsAre());
  EXPECT_THAT(values({}, "x\\", {{0}}), ElementsAre("=x"));
  CopyFormat x;
  x.null = "x";
  EXPECT_THAT(values(x, "x\\", {{0}}), ElementsAre("-"));
  EXPECT_THAT(values(x, "\\x", {{0}}), ElementsAre("=x"));
}

TEST(CopyFields, csv) {
  EXPECT_THAT(values(csv(), "1,,\"\"", {{0}, {1}, {2}}), ElementsAre("=1", "-", "="));
  EXPECT_THAT(values(csv(), "a\"b,\"c", {{0}}), ElementsAre("=ab,c"));
  EXPECT_THAT(values(csv(), "\"a\"\"b\",2", {{0}, {1}}), ElementsAre("=a\"b", "=2"));
  EXPECT_THAT(values(csv(), "\"a", {{0}}), ElementsAre());
  EXPECT_THAT(values(csv(), "1,\"a", {{0}}), ElementsAre("=1"));
  EXPECT_THAT(values(csv(), "1,,\"\"", {{1, false, true}, {2, true, false}}), ElementsAre("=", "-"));
  CopyFormat other = csv();
  other.escape = '\\';
  EXPECT_THAT(values(other, "\"a\\\"b\\c\\\\\"", {{0}}), ElementsAre("=a\"b\\c\\"));
}

TEST(CopySplitter, binary) {
  const CopyFormat binary{.kind = Kind::binary};
  const std::string head("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
  const std::string row("\0\2\0\0\0\1x\377\377\377\377", 11);
  const std::string end("\377\377", 2);
  EXPECT_THAT(split(binary, head + row + row + end), ElementsAre("!0 " + head, "1 " + row, "2 " + row, "!3 " + end));
  EXPECT_THAT(split(binary, head + row), ElementsAre("!0 " + head, "1 " + row));
  EXPECT_THAT(split(binary, head + row + "\0"s), ElementsAre("!0 " + head, "1 " + row));
  EXPECT_THAT(split(binary, ""), ElementsAre("?0 "));
  EXPECT_THAT(split(binary, head + row.substr(0, 6)), ElementsAre("!0 " + head, "?1 " + row.substr(0, 6)));
  const std::string extended("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\2ab", 21);
  EXPECT_THAT(split(binary, extended + row), ElementsAre("!0 " + extended, "1 " + row));
  EXPECT_EQ(split_in(binary, {head + end + "x"}).back(), "?1 x");
  EXPECT_EQ(split_in(binary, {"PGCOPZ\n"}).back(), "?0 PGCOPZ\n");
  const std::string oids("PGCOPY\n\377\r\n\0\0\1\0\0\0\0\0\0", 19);
  EXPECT_EQ(split_in(binary, {oids}).back(), "?0 " + oids);
  const std::string negative("\0\1\377\377\377\376", 6);
  EXPECT_EQ(split_in(binary, {head + negative}).back(), "?1 " + negative);
  EXPECT_THAT(values(binary, row, {{0}, {1}}), ElementsAre("=x", "-"));
  EXPECT_THAT(values(binary, row, {{2}}), ElementsAre());
}

}  // namespace
}  // namespace tessera::parser
