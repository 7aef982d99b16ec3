// Statements as data: testdata/*.txt hold cases of SQL, a line "----", the dump of what was parsed, and a line "====".
// TESSERA_ACCEPT=1 writes what the parser says now into the files; read the difference before committing it.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

#include "parser/dump.hpp"
#include "parser/postgres/parse.hpp"

namespace tessera::parser::postgres {
namespace {

constexpr const char* folder = "parser/postgres/testdata";

struct Case {
  std::string sql;
  std::string expected;
};

std::vector<Case> read_cases(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::vector<Case> cases;
  Case current;
  bool expecting = false;
  for (std::string line; std::getline(in, line);) {
    if (line == "----") {
      expecting = true;
    } else if (line == "====") {
      cases.push_back(std::move(current));
      current = {};
      expecting = false;
    } else {
      (expecting ? current.expected : current.sql) += line + "\n";
    }
  }
  if (!current.sql.empty()) cases.push_back(std::move(current));
  return cases;
}

std::string describe(const std::string& sql) {
  const auto parsed = parse(sql);
  if (!parsed)
    return "error " + std::string(parsed.error().code.view()) + " at " + std::to_string(parsed.error().position) +
           ": " + parsed.error().message + "\n";
  std::string text;
  for (const Statement& statement : *parsed) text += dump(statement, sql);
  return text.empty() ? "nothing\n" : text;
}

TEST(Golden, EveryCaseIsAsAccepted) {
  const bool accept = std::getenv("TESSERA_ACCEPT") != nullptr;
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".txt") continue;
    std::ostringstream accepted;
    for (const Case& c : read_cases(entry.path())) {
      ++count;
      std::string sql = c.sql;
      while (!sql.empty() && sql.back() == '\n') sql.pop_back();
      const std::string actual = describe(sql);
      if (!accept) {
        EXPECT_EQ(c.expected, actual) << entry.path() << ":\n" << sql;
      }
      accepted << c.sql << "----\n" << actual << "====\n";
    }
    if (accept) std::ofstream(entry.path()) << accepted.str();
  }
  EXPECT_GT(count, 150);
}

}  // namespace
}  // namespace tessera::parser::postgres
