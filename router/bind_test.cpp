#include <gtest/gtest.h>

#include "parser/postgres/parse.hpp"
#include "router/golden.hpp"

namespace tessera::router {
namespace {

constexpr const char* yaml = R"(
shop:
  shards:
    s0: {primary: 127.0.0.1:5000}
    s1: {primary: 127.0.0.1:5001}
  backend: {dbname: shop}
  rules:
    numbers: {type: directory, entries: {"1": s0, "2": s1}}
    names: {type: directory, entries: {a: s0, ä: s1}}
    bytes: {type: directory, entries: {a: s0, ä: s1}}
  tables:
    t: {rule: numbers, key: id, key_type: bigint}
    n: {rule: names, key: name, key_type: text}
    b: {rule: bytes, key: k, key_type: bytea}
)";

std::string big_endian(std::uint64_t value, std::size_t width) {
  std::string bytes;
  for (std::size_t i = width; i-- > 0;) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

class Bind : public testing::Test {
protected:
  Bind() : database_(golden::database_from(yaml)), catalog_(Catalog::from_config(database_)) {
    topology_ = *Topology::build(database_, catalog_, 1);
  }

  std::string route(std::string_view sql, std::vector<Values::Parameter> parameters, bool same_encoding = true) {
    const auto statements = *parser::postgres::parse(sql);
    parser::Fingerprint print;
    parser::fingerprint(sql, {}, print);
    const auto made = plan(statements.front(), sql, print.slots, {}, *topology_, catalog_, {});
    Plan out;
    const auto done = bind(made, *topology_, {sql, print.slots, parameters, same_encoding}, scratch_, out);
    return done ? describe(out, made, *topology_) : std::string(done.error().code.view());
  }

  config::Database database_;
  Catalog catalog_;
  std::shared_ptr<const Topology> topology_;
  BindScratch scratch_;
};

constexpr const char* by_id = "SELECT * FROM t WHERE id = $1";
constexpr const char* both = "scatter to s0, s1, rows one shard after another\n";

TEST_F(Bind, BinaryParameters) {
  EXPECT_EQ(route(by_id, {{big_endian(2, 8), false, true, 20}}), "route to s1\n");
  EXPECT_EQ(route(by_id, {{big_endian(2, 4), false, true, 23}}), "route to s1\n");
  EXPECT_EQ(route(by_id, {{big_endian(2, 4), false, true, 20}}), both);
  EXPECT_EQ(route(by_id, {{"2", false, false, 0}}), "route to s1\n");
  EXPECT_EQ(route(by_id, {{"", true, false, 0}}), "route to s0\n");
  EXPECT_EQ(route(by_id, {}), both);
}

TEST_F(Bind, BinaryArrays) {
  const auto array = [](std::vector<std::uint64_t> values) {
    std::string bytes =
        big_endian(1, 4) + big_endian(0, 4) + big_endian(20, 4) + big_endian(values.size(), 4) + big_endian(1, 4);
    for (const std::uint64_t value : values) bytes += big_endian(8, 4) + big_endian(value, 8);
    return bytes;
  };
  constexpr const char* any = "SELECT * FROM t WHERE id = ANY ($1)";
  EXPECT_EQ(route(any, {{array({2, 2}), false, true, 1016}}), "route to s1\n");
  EXPECT_EQ(route(any, {{array({1, 2}), false, true, 0}}), both);
  EXPECT_EQ(route(any, {{array({}), false, true, 1016}}), "route to s0\n");
  EXPECT_EQ(route(any, {{"{2}", false, false, 1016}}), "route to s1\n");
  EXPECT_EQ(route(any, {{"{2}", false, false, 20}}), both);
  EXPECT_EQ(route(any, {{array({2}).substr(0, 25), false, true, 1016}}), both);
}

TEST_F(Bind, KeysWithoutAPlace) {
  EXPECT_EQ(route(by_id, {{"9", false, false, 0}}), "route to s0\n");
  EXPECT_EQ(route("INSERT INTO t (id) VALUES ($1)", {{"9", false, false, 0}}), "22023");
  EXPECT_EQ(route("INSERT INTO t (id) VALUES ($1)", {{"2", false, false, 0}}), "route to s1\n");
  EXPECT_EQ(route("INSERT INTO t (id) VALUES ($1)", {{"", true, false, 0}}), "23502");
  EXPECT_EQ(route("INSERT INTO t (id) VALUES ($1)", {}), "0A000");
}

TEST_F(Bind, TextInAForeignEncoding) {
  constexpr const char* by_name = "SELECT * FROM n WHERE name = $1";
  EXPECT_EQ(route(by_name, {{"\xc3\xa4", false, false, 0}}), "route to s1\n");
  EXPECT_EQ(route(by_name, {{"\xe4", false, false, 0}}, false), both);
  EXPECT_EQ(route(by_name, {{"a", false, false, 0}}, false), "route to s0\n");
  EXPECT_EQ(route("SELECT * FROM n WHERE name = '\xc3\xa4'", {}, false), both);
  EXPECT_EQ(route("SELECT * FROM n WHERE name = ANY ($1)", {{"{a,\xe4}", false, false, 0}}, false), both);
  EXPECT_EQ(route("INSERT INTO n (name) VALUES ($1)", {{"\xe4", false, false, 0}}, false), "0A000");
}

TEST_F(Bind, ByteaInAForeignEncoding) {
  constexpr const char* by_bytes = "SELECT * FROM b WHERE k = $1";
  EXPECT_EQ(route(by_bytes, {{"\xc3\xa4", false, false, 0}}), "route to s1\n");
  EXPECT_EQ(route(by_bytes, {{"\xc3\xa4", false, true, 17}}, false), "route to s1\n");
  EXPECT_EQ(route(by_bytes, {{"\\xc3a4", false, false, 0}}, false), "route to s1\n");
  // The server makes UTF-8 of it first.
  EXPECT_EQ(route(by_bytes, {{"\xe4", false, false, 0}}, false), both);
  EXPECT_EQ(route("SELECT * FROM b WHERE k = '\xe4'", {}, false), both);
  EXPECT_EQ(route("SELECT * FROM b WHERE k = ANY ($1)", {{"{a,\xe4}", false, false, 0}}, false), both);
  EXPECT_EQ(route("INSERT INTO b (k) VALUES ('\xe4')", {}, false), "0A000");
}

}  // namespace
}  // namespace tessera::router
