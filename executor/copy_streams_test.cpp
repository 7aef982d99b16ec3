// What is pure in COPY over several shards: streams put together, and lines found again.
#include <gmock/gmock.h>

#include "executor/copy_lines.hpp"
#include "executor/copy_out.hpp"

namespace tessera::executor {
namespace {

using parser::CopyFormat;
using parser::CopyRow;
using std::string_literals::operator""s;

std::string frame(char type, const std::string& body) {
  const std::size_t length = body.size() + 4;
  return type + "\0\0\0"s + static_cast<char>(length) + body;
}

std::string stream(const std::vector<std::string>& messages) {
  std::string out = frame('H', "\0\0\1\0\0"s);
  for (const std::string& message : messages) out += frame('d', message);
  return out + frame('c', "");
}

// The streams as one: the same wherever they are cut.
std::string joined(const CopyFormat& format, const std::vector<std::string>& streams) {
  std::string whole;
  for (const std::size_t step : {std::size_t(100000), std::size_t(1), std::size_t(7)}) {
    std::string out;
    for (std::size_t i = 0; i < streams.size(); ++i) {
      CopyOut filter(format, i == 0, i + 1 == streams.size());
      for (std::size_t at = 0; at < streams[i].size(); at += step) filter.append(streams[i].substr(at, step), out);
    }
    if (whole.empty()) whole = out;
    EXPECT_EQ(out, whole) << step;
  }
  return whole;
}

TEST(CopyOut, text_has_one_beginning_and_one_end) {
  EXPECT_EQ(joined({}, {stream({"1\n", "2\n"}), stream({}), stream({"3\n"})}), stream({"1\n", "2\n", "3\n"}));
}

TEST(CopyOut, a_header_comes_once) {
  const CopyFormat csv{.kind = CopyFormat::Kind::csv, .header = true};
  EXPECT_EQ(joined(csv, {stream({"id\n"}), stream({"id\n", "1\n", "2\n"}), stream({"id\n", "3\n"})}),
            stream({"id\n", "1\n", "2\n", "3\n"}));
}

TEST(CopyOut, so_do_head_and_trailer_of_binary_data) {
  const CopyFormat binary{.kind = CopyFormat::Kind::binary};
  const std::string head("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19), end("\377\377", 2);
  const auto row = [](char c) { return "\0\1\0\0\0\1"s + c; };
  EXPECT_EQ(
      joined(binary, {stream({head + row('a'), row('b'), end}), stream({head + end}), stream({head + row('c'), end})}),
      stream({head + row('a'), row('b'), row('c'), end}));
  EXPECT_EQ(joined(binary, {stream({head + end}), stream({head + end})}), stream({head, end}));
}

CopyRow row(std::uint64_t line, std::uint32_t lines = 1, std::uint32_t lines_as_first = 1) {
  return {.line = line, .lines = lines, .lines_as_first = lines_as_first};
}

TEST(CopyLines, are_found_again) {
  CopyLines lines(1 << 20);
  lines.add(row(3));
  lines.add(row(10, 2));
  lines.add(row(100'000));
  EXPECT_EQ(lines.client_line(1), 3u);
  EXPECT_EQ(lines.client_line(2), std::nullopt);
  EXPECT_EQ(lines.client_line(3), 10u);
  EXPECT_EQ(lines.client_line(4), 100'000u);
  EXPECT_EQ(lines.client_line(5), std::nullopt);
  EXPECT_EQ(lines.client_line(0), std::nullopt);
}

TEST(CopyLines, the_oldest_are_forgotten) {
  CopyLines lines(64 * 1024);
  for (std::uint64_t i = 1; i <= 1'000'000; ++i) lines.add(row(3 * i));
  EXPECT_EQ(lines.client_line(10), std::nullopt);
  EXPECT_EQ(lines.client_line(999'000), 2'997'000u);
}

TEST(CopyLines, context_is_told_in_the_clients_lines) {
  CopyLines lines(1 << 20);
  lines.add(row(70));
  std::optional<std::uint64_t> line;
  EXPECT_EQ(lines.translate("COPY t, line 1, column id: \"x\"", "t", line), "COPY t, line 70, column id: \"x\"");
  EXPECT_EQ(line, 70u);
  EXPECT_EQ(lines.translate("PL/pgSQL function f()\nCOPY t, line 1: \"a\nCOPY t, line 1\"", "t", line),
            "PL/pgSQL function f()\nCOPY t, line 70: \"a\nCOPY t, line 1\"");
  EXPECT_EQ(lines.translate("COPY t, line 2: \"x\"", "t", line), "COPY t: \"x\"");
  EXPECT_EQ(line, std::nullopt);
  EXPECT_EQ(lines.translate("COPY u, line 1", "t", line), "COPY u, line 1");
}

}  // namespace
}  // namespace tessera::executor
