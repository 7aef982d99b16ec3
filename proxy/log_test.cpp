// What a log line looks like, and that nobody's name can make two of it.
#include "proxy/log.hpp"

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <thread>
#include <vector>

#include "proxy/row_builder.hpp"

namespace tessera::proxy {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::MatchesRegex;

class LogTest : public testing::Test {
protected:
  LogTest() {
    char pattern[] = "/tmp/tessera-log-XXXXXX";
    if (::mkdtemp(pattern) == nullptr) std::abort();
    directory_ = pattern;
    settings_.file = directory_ + "/log";
  }
  ~LogTest() override {
    EXPECT_TRUE(log::configure({}));
    std::filesystem::remove_all(directory_);
  }
  void open(config::LogFormat format, config::LogLevel level = config::LogLevel::debug) {
    settings_.format = format;
    settings_.level = level;
    ASSERT_TRUE(log::configure(settings_));
  }
  std::vector<std::string> lines() const {
    std::vector<std::string> found;
    std::ifstream file(settings_.file);
    for (std::string line; std::getline(file, line);) found.push_back(line);
    return found;
  }
  // Behind the time.
  std::string only() const {
    const std::vector<std::string> all = lines();
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? "" : all[0].substr(all[0].find(' ') + 1);
  }
  std::string directory_;
  config::Log settings_;
};

TEST_F(LogTest, Logfmt) {
  open(config::LogFormat::logfmt);
  log::warn("slow statement", {{"ms", "12.5"}, {"user", "alice"}, {"note", "two words"}, {"empty", ""}});
  EXPECT_EQ(only(), "level=warn msg=\"slow statement\" ms=12.5 user=alice note=\"two words\" empty=\"\"");
  EXPECT_THAT(lines()[0], MatchesRegex("time=[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{3}Z .*"));
}

TEST_F(LogTest, Json) {
  open(config::LogFormat::json);
  log::error("bad \"thing\"", {{"path", "C:\\x"}});
  EXPECT_THAT(lines(), ElementsAre(EndsWith(R"("level":"error","message":"bad \"thing\"","path":"C:\\x"})")));
}

TEST_F(LogTest, LinesOfAMessageStayReadable) {
  open(config::LogFormat::logfmt);
  log::info("check", {{"problem", "a\n\thint: b\r"}});
  EXPECT_EQ(only(), R"(level=info msg="check" problem="a\n\thint: b\u000d")");
}

TEST_F(LogTest, LevelsBelowTheThresholdAreSilent) {
  open(config::LogFormat::logfmt, config::LogLevel::warn);
  log::debug("a");
  log::info("b");
  log::warn("c");
  log::error("d");
  EXPECT_EQ(lines().size(), 2u);
}

// Every control character, quotes, percent signs and braces of the formatting library.
TEST_F(LogTest, NobodysNameForgesALine) {
  std::string hostile = "x\" level=error msg=\"forged\n\r\t\x1b[31m%v%n{}{0}\\";
  for (int c = 1; c < 0x20; ++c) hostile += static_cast<char>(c);
  hostile += '\x7f';
  hostile += '\0';
  for (const config::LogFormat format : {config::LogFormat::logfmt, config::LogFormat::json}) {
    std::filesystem::remove(settings_.file);
    open(format);
    log::info("login", {{"user", hostile}});
    log::info(hostile);
    const std::vector<std::string> all = lines();
    ASSERT_EQ(all.size(), 2u);
    for (const std::string& line : all) {
      for (const char c : line) EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) << static_cast<int>(c);
      // Without what is escaped, quotes come in pairs and none of the forged text stands outside of them.
      std::string outside;
      bool inside = false;
      for (std::size_t i = 0; i < line.size(); ++i) {
        if (inside && line[i] == '\\')
          ++i;
        else if (line[i] == '"')
          inside = !inside;
        else if (!inside)
          outside += line[i];
      }
      EXPECT_FALSE(inside);
      EXPECT_EQ(outside.find("error"), std::string::npos);
      EXPECT_EQ(outside.find("forged"), std::string::npos);
    }
    EXPECT_NE(all[0].find("%v%n{}{0}"), std::string::npos) << "not taken for a format";
  }
}

TEST_F(LogTest, ReopensAFileThatWasRotatedAway) {
  open(config::LogFormat::logfmt);
  log::info("before");
  std::filesystem::rename(settings_.file, settings_.file + ".1");
  log::info("still in the old file");
  EXPECT_TRUE(lines().empty());
  open(config::LogFormat::logfmt);
  log::info("after");
  EXPECT_EQ(only(), "level=info msg=\"after\"");
}

TEST_F(LogTest, AFileThatCannotBeOpenedKeepsTheOldLog) {
  open(config::LogFormat::logfmt);
  config::Log broken = settings_;
  broken.file = directory_ + "/log/not-a-directory";
  const Result<void> refused = log::configure(broken);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("cannot open the log file"));
  log::info("here");
  EXPECT_EQ(only(), "level=info msg=\"here\"");
}

TEST_F(LogTest, ThreadsDoNotMixTheirLines) {
  open(config::LogFormat::logfmt);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t] {
      for (int i = 0; i < 200; ++i) log::info("event", {{"text", std::string(100, static_cast<char>('a' + t))}});
    });
  for (std::thread& thread : threads) thread.join();
  const std::vector<std::string> all = lines();
  EXPECT_EQ(all.size(), 800u);
  for (const std::string& line : all) EXPECT_THAT(line, MatchesRegex(".* text=(a{100}|b{100}|c{100}|d{100})"));
}

// ---- rows of our own ------------------------------------------------------------------------------------------------

TEST(RowBuilder, DescriptionRowsAndCompletion) {
  RowBuilder rows({"name", "value"});
  rows.row({"a", ""});
  rows.row({"b", std::string("with\0zero", 9)});
  EXPECT_EQ(rows.size(), 2u);
  std::string all = rows.all("SHOW");
  EXPECT_EQ(all, rows.description() + rows.rows("SHOW"));
  postgres::FrameHeader header;
  std::string types;
  std::vector<std::vector<std::string>> values;
  for (std::string_view left = all; postgres::peek_frame(left, 1 << 20, header) == postgres::FrameStatus::complete;
       left.remove_prefix(header.total_size())) {
    types += header.type;
    const std::string_view body = postgres::frame_body(left, header);
    if (header.type == 'T') {
      std::vector<postgres::FieldView> fields;
      ASSERT_TRUE(postgres::parse_row_description(body, fields));
      ASSERT_EQ(fields.size(), 2u);
      EXPECT_EQ(fields[1].name, "value");
      EXPECT_EQ(fields[1].type, 25u);
    } else if (header.type == 'D') {
      postgres::DataRowReader reader(body);
      postgres::Value value;
      std::vector<std::string>& row = values.emplace_back();
      while (reader.next(value)) row.emplace_back(value.value());
      EXPECT_TRUE(reader.finished());
    } else {
      EXPECT_EQ(body, std::string_view("SHOW\0", 5));
    }
  }
  EXPECT_EQ(types, "TDDC");
  EXPECT_THAT(values, ElementsAre(ElementsAre("a", ""), ElementsAre("b", std::string("with\0zero", 9))));
}

TEST(RowBuilder, NoRowsAtAll) {
  const RowBuilder rows({"a"});
  EXPECT_EQ(rows.rows("SHOW").front(), 'C');
  EXPECT_EQ(rows.description().front(), 'T');
}

}  // namespace
}  // namespace tessera::proxy
