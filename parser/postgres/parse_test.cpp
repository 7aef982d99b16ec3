// What the golden files cannot say: properties over all of them, limits, and threads.
#include "parser/postgres/parse.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <thread>

#include "parser/dump.hpp"
#include "parser/fingerprint.hpp"

namespace tessera::parser::postgres {
namespace {

Statement one(const std::string& sql) {
  auto parsed = parse(sql);
  if (!parsed || parsed->size() != 1) {
    ADD_FAILURE() << sql << ": " << (parsed ? "not one statement" : parsed.error().message);
    return {};
  }
  return std::move(parsed->front());
}

std::vector<std::string> golden_lines() {
  std::vector<std::string> lines;
  for (const auto& entry : std::filesystem::directory_iterator("parser/postgres/testdata")) {
    std::ifstream in(entry.path());
    bool is_sql = true;
    for (std::string line; std::getline(in, line);) {
      if (line == "----" || line == "====") {
        is_sql = line == "====";
      } else if (is_sql) {
        lines.push_back(line);
      }
    }
  }
  return lines;
}

void collect(const Operand& operand, std::vector<SourceSpan>& spans) {
  if (operand.kind == Operand::Kind::literal) spans.push_back(operand.span);
  for (const Operand& element : operand.elements) collect(element, spans);
}

void collect(const Statement& statement, std::vector<SourceSpan>& spans) {
  const auto add = [&spans](const std::vector<Operand>& operands) {
    for (const Operand& operand : operands) collect(operand, spans);
  };
  for (const Condition& c : statement.conditions) add(c.operands);
  for (const RowCondition& r : statement.row_conditions) std::ranges::for_each(r.rows, add);
  for (const Assignment& a : statement.assignments) collect(a.value, spans);
  for (const Block& b : statement.blocks) {
    for (const FunctionCall& f : b.functions) add(f.arguments);
  }
  if (statement.insert) std::ranges::for_each(statement.insert->rows, add);
  if (statement.prepared) add(statement.prepared->arguments);
  for (const Statement& inner : statement.inner) collect(inner, spans);
}

TEST(Parse, LiteralsAreTheSlotsOfTheFingerprint) {
  std::size_t compared = 0;
  for (const std::string& sql : golden_lines()) {
    const auto parsed = parse(sql);
    Fingerprint lexed;
    fingerprint(sql, {}, lexed);
    if (!parsed || !lexed.exact) continue;
    std::vector<SourceSpan> spans;
    for (const Statement& statement : *parsed) collect(statement, spans);
    for (const SourceSpan span : spans) {
      ++compared;
      EXPECT_TRUE(std::ranges::any_of(lexed.slots, [span](const Slot& s) {
        return s.begin == span.begin && s.end == span.end;
      })) << sql;
    }
  }
  EXPECT_GT(compared, 150u);
}

// Blanks and comments between all tokens move the spans and nothing else.
TEST(Parse, BlanksAndCommentsChangeNothing) {
  for (const std::string& sql : golden_lines()) {
    if (sql.find("--") != std::string::npos || sql.find("/*") != std::string::npos) continue;
    const auto plain = parse(sql);
    const auto padded = parse("/* before */ \n" + sql + "\n-- behind");
    ASSERT_EQ(plain.has_value(), padded.has_value()) << sql;
    if (!plain) continue;
    ASSERT_EQ(plain->size(), padded->size());
    for (std::size_t i = 0; i < plain->size(); ++i) {
      EXPECT_EQ(dump((*plain)[i], sql), dump((*padded)[i], "/* before */ \n" + sql + "\n-- behind"));
    }
  }
}

TEST(Parse, EveryRestrictedTableExists) {
  for (const std::string& sql : golden_lines()) {
    const auto parsed = parse(sql);
    if (!parsed) continue;
    for (const Statement& s : *parsed) {
      for (const Condition& c : s.conditions) {
        EXPECT_FALSE(c.restricts.empty()) << sql;
        for (TableIndex t : c.restricts) EXPECT_LT(t, s.tables.size()) << sql;
        EXPECT_LT(c.block, s.blocks.size()) << sql;
      }
      for (const Block& b : s.blocks) {
        EXPECT_LE(b.span.begin, b.span.end) << sql;
        EXPECT_LE(b.span.end, sql.size()) << sql;
      }
    }
  }
}

TEST(Parse, DeepNestingIsRefusedAndDoesNotCrash) {
  const auto repeated = [](const std::string& piece, int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += piece;
    return text;
  };
  for (const int depth : {950, 1000, 100000}) {
    const std::vector<std::string> texts = {
        "SELECT " + repeated("(", depth) + "1" + repeated(")", depth),
        "SELECT 1" + repeated("+1", depth),
        "SELECT " + repeated("NOT ", depth) + "true",
        "SELECT " + repeated("- ", depth) + "1",
        "SELECT x" + repeated("::int", depth),
        "SELECT " + repeated("(SELECT ", depth) + "1" + repeated(")", depth),
        "SELECT 1" + repeated(" UNION SELECT 1, 2", depth),
        "SELECT 1 FROM t" + repeated(" JOIN t ON a AND b", depth),
        "SELECT " + repeated("CASE WHEN a THEN b, ", depth),
        "SELECT " + repeated("f(", depth) + "1" + repeated(")", depth),
        "SELECT " + repeated("ARRAY[", depth) + "1" + repeated("]", depth),
        "SELECT " + repeated("CASE WHEN true AND ", depth) + "a" + repeated(" THEN 1 END", depth),
        repeated("(", depth),
    };
    for (const std::string& sql : texts) {
      const auto parsed = parse(sql);
      if (depth > 1000) {
        ASSERT_FALSE(parsed.has_value()) << sql.substr(0, 60);
        EXPECT_EQ(parsed.error().code, SqlState("54001")) << sql.substr(0, 60);
      }
    }
  }
}

// What stands before a CASE or behind a BETWEEN counts within it, whatever AND comes in between.
TEST(Parse, DeepNestingAcrossAndIsRefused) {
  const auto repeated = [](const std::string& piece, int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += piece;
    return text;
  };
  const std::string nots = repeated("NOT ", 1500), minus = repeated("- ", 1500);
  for (const std::string& sql :
       {"SELECT " + repeated(nots + "CASE WHEN a AND ", 5) + "b" + repeated(" THEN c END", 5),
        "SELECT " + repeated(nots + "CASE x.end WHEN a AND ", 5) + "b" + repeated(" THEN c END", 5),
        "SELECT 1 AS case, " + repeated(nots + "CASE WHEN a THEN ", 5) + "b" + repeated(" END", 5),
        "SELECT " + nots + "x BETWEEN " + minus + "1 AND " + minus + "2"}) {
    const auto parsed = parse(sql);
    ASSERT_FALSE(parsed.has_value()) << sql.substr(0, 60);
    EXPECT_EQ(parsed.error().code, SqlState("54001"));
  }
}

TEST(Parse, CommentsThatTheScannerWouldReadForSecondsAreRefused) {
  std::string nested, row;
  for (int i = 0; i < 24'000; ++i) nested += "/*";
  for (int i = 0; i < 24'000; ++i) nested += "*/";
  for (int i = 0; i < 24'000; ++i) row += "/**/";
  for (const std::string& comments : {nested, row}) {
    const auto parsed = parse(comments + "select 1");
    ASSERT_FALSE(parsed.has_value());
    EXPECT_EQ(parsed.error().code, SqlState("54001"));
  }
  EXPECT_TRUE(parse("/* a */ select 1 /*+ b */ -- /*/*/*\n").has_value());
}

TEST(Parse, LongListsAreNotDeep) {
  std::string in_list = "SELECT * FROM t WHERE id IN (0", rows = "INSERT INTO t (a, b) VALUES (1, -1)",
              ands = "SELECT * FROM t WHERE a = 0", arms = "SELECT CASE";
  for (int i = 0; i < 20000; ++i) {
    in_list += ", " + std::to_string(i);
    rows += ", (" + std::to_string(i) + ", 'x')";
    if (i < 3000) ands += " AND a <> " + std::to_string(i);
    if (i < 3000) arms += " WHEN a = 1 THEN b";
  }
  EXPECT_EQ(one(in_list + ")").conditions.at(0).operands.size(), 20001u);
  EXPECT_EQ(one(rows).insert->rows.size(), 20001u);
  EXPECT_EQ(one(ands).conditions.size(), 1u);
  EXPECT_EQ(one(arms + " ELSE c END, x.end, d AS case FROM t").tables.size(), 1u) << "as pgjdbc's getUDTs has them";
}

TEST(Parse, ThreadsDoNotDisturbEachOther) {
  const auto lines = golden_lines();
  std::vector<std::string> expected;
  const auto describe = [](const std::string& sql) {
    const auto parsed = parse(sql);
    if (!parsed) return parsed.error().message;
    std::string text;
    for (const Statement& s : *parsed) text += dump(s, sql);
    return text;
  };
  for (const auto& sql : lines) expected.push_back(describe(sql));
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < lines.size(); ++i) wrong[t] += describe(lines[i]) != expected[i];
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(Parse, ErrorsCarryTheServersWords) {
  const auto bad = parse("SELECT 'äö', x FROM FROM t");
  ASSERT_FALSE(bad.has_value());
  EXPECT_EQ(bad.error().code, sqlstate::syntax_error);
  EXPECT_EQ(bad.error().message, "syntax error at or near \"FROM\"");
  EXPECT_EQ(bad.error().position, 21);  // in characters, not bytes
  const auto zero = parse(std::string_view("SELECT 1\0", 9));
  ASSERT_FALSE(zero.has_value());
  EXPECT_EQ(zero.error().code, SqlState("22021"));
}

bool restricts(const Statement& statement, std::string_view table) {
  return std::ranges::any_of(statement.conditions, [&](const Condition& c) {
    return std::ranges::any_of(c.restricts, [&](TableIndex t) { return statement.tables[t].name == table; });
  });
}

// Each of these would route to too few shards if a condition were told.
TEST(Soundness, NoConditionOnTable) {
  for (const char* sql :
       {"SELECT * FROM t WHERE NOT (id = 5)",
        "SELECT * FROM t WHERE id = 5 OR true",
        "SELECT * FROM t WHERE (id = 5) IS NOT TRUE",
        "SELECT * FROM t WHERE (id = 5) = false",
        "SELECT * FROM t WHERE coalesce(id = 5, true)",
        "SELECT * FROM t WHERE id = 5 OR id IS NULL",
        "SELECT * FROM t WHERE NOT (id = 5 AND a = 1)",
        "SELECT * FROM t WHERE CASE WHEN a THEN id = 5 ELSE true END",
        "SELECT id = 5 FROM t",
        "SELECT * FROM t ORDER BY id = 5",
        "SELECT count(*) FILTER (WHERE id = 5) FROM t",
        "SELECT id FROM t GROUP BY id HAVING id = 5",
        "SELECT * FROM t LEFT JOIN u ON t.id = 5",
        "SELECT * FROM u RIGHT JOIN t ON t.id = 5",
        "SELECT * FROM t FULL JOIN u ON t.id = 5",
        "SELECT * FROM t LEFT JOIN u ON id = t.k AND t.id = 5",
        "SELECT * FROM (t JOIN v ON true) LEFT JOIN u ON t.id = 5",
        "SELECT * FROM t WHERE EXISTS (SELECT 1 FROM u WHERE t.id = 5)",
        "SELECT * FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE t.id = 5)",
        "SELECT (SELECT 1 FROM u WHERE t.id = 5) FROM t",
        "SELECT * FROM t, LATERAL (SELECT count(*) FROM u WHERE t.id = 5) s",
        "SELECT * FROM t LEFT JOIN LATERAL (SELECT t.id AS z) s ON s.z = 5",
        "WITH t AS (SELECT 5 AS id) SELECT * FROM t WHERE id = 5",
        "SELECT * FROM (SELECT id FROM t LIMIT 1) s WHERE id = 5",
        "SELECT * FROM (SELECT id FROM t OFFSET 1) s WHERE id = 5",
        "SELECT * FROM (SELECT max(id) AS id FROM t) s WHERE id = 5",
        "SELECT * FROM (SELECT id + 1 AS id FROM t) s WHERE id = 5",
        "SELECT * FROM (SELECT k AS id, id AS k FROM t) s WHERE s.nope = 5",
        "SELECT * FROM t AS x (id) WHERE id = 5",
        "WITH c AS (SELECT id FROM t) SELECT * FROM c WHERE id = 5 UNION ALL SELECT * FROM c",
        "WITH RECURSIVE c AS (SELECT id FROM t UNION SELECT id + 1 FROM c) SELECT * FROM c WHERE id = 5",
        "SELECT * FROM (SELECT id FROM t EXCEPT SELECT id FROM u) s WHERE id = 5",
        "SELECT * FROM (SELECT id, lag(id) OVER () FROM t) s WHERE id = 5",
        "SELECT * FROM (SELECT id FROM t FOR UPDATE) s WHERE id = 5",
        "SELECT * FROM t, f() AS g WHERE id = 5",
        "SELECT * FROM t, (SELECT 5 AS id) s WHERE id = 5",
        "SELECT * FROM t WHERE id = 5::numeric(3, 1)",
        "SELECT * FROM t WHERE id = '5'::text::int",
        "SELECT * FROM t WHERE id = k + 5",
        "SELECT * FROM t WHERE id = ANY (SELECT 5)",
        "SELECT * FROM t WHERE id IN (5, k)",
        "SELECT * FROM t WHERE id != 5",
        "SELECT * FROM t WHERE id IS NOT DISTINCT FROM 5",
        "SELECT * FROM t WHERE id NOT IN (5)",
        "SELECT * FROM t WHERE (id, k) <> (5, 6)",
        "MERGE INTO u USING t ON u.id = t.id AND t.id = 5 WHEN NOT MATCHED THEN INSERT VALUES (t.id)",
        "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1 WHERE t.id = 5",
        "UPDATE t SET a = 1 WHERE CURRENT OF c",
        "SELECT * FROM t WHERE id = 'a'\n'b'",
        "SELECT * FROM t WHERE id = U&'!0035' UESCAPE '!'"}) {
    const auto parsed = parse(sql);
    ASSERT_TRUE(parsed.has_value() && parsed->size() == 1) << sql;
    EXPECT_FALSE(restricts(parsed->front(), "t")) << sql << "\n" << dump(parsed->front(), sql);
  }
}

TEST(Soundness, ConditionThatIsThereIsFound) {
  for (const char* sql :
       {"SELECT * FROM t LEFT JOIN u ON true WHERE t.id = 5", "SELECT * FROM u LEFT JOIN t ON t.id = 5",
        "SELECT * FROM u LEFT JOIN t ON true WHERE t.id = 5", "SELECT * FROM t FULL JOIN u ON true WHERE t.id = 5",
        "SELECT * FROM u WHERE NOT EXISTS (SELECT 1 FROM t WHERE t.id = 5)",
        "SELECT * FROM u WHERE id NOT IN (SELECT id FROM t WHERE t.id = 5)",
        "SELECT * FROM u, LATERAL (SELECT * FROM t WHERE t.id = 5) s",
        "WITH c AS (DELETE FROM t WHERE id = 5 RETURNING *) SELECT * FROM c",
        "SELECT * FROM u EXCEPT SELECT * FROM t WHERE id = 5",
        "MERGE INTO t USING u ON t.id = 5 WHEN NOT MATCHED THEN DO NOTHING",
        "SELECT * FROM t WHERE id = 5 GROUP BY a HAVING a = 1"}) {
    EXPECT_TRUE(restricts(one(sql), "t")) << sql;
  }
}

}  // namespace
}  // namespace tessera::parser::postgres
