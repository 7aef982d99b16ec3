#include "config/scalars.hpp"

#include <chrono>
#include <gtest/gtest.h>

#include "config/bounds.hpp"
#include "config/suggest.hpp"

namespace tessera::config {
namespace {

using namespace std::chrono_literals;

TEST(Duration, Notations) {
  EXPECT_EQ(parse_duration("0"), 0ms);
  EXPECT_EQ(parse_duration("250ms"), 250ms);
  EXPECT_EQ(parse_duration("5s"), 5s);
  EXPECT_EQ(parse_duration("10m"), 10min);
  EXPECT_EQ(parse_duration("1h"), 1h);
  EXPECT_EQ(parse_duration("3650d"), 3650 * 24h);
  for (const char* wrong :
       {"", "5", "s", "-5s", "5 s", "5.5s", "3651d", "99999999999999999999s", "5sec", "5S", " 5s", "+5s"}) {
    EXPECT_FALSE(parse_duration(wrong)) << wrong;
  }
  for (const char* text : {"0", "1ms", "999ms", "5s", "61s", "10m", "1h", "25h", "2d"}) {
    EXPECT_EQ(duration_text(parse_duration(text).value()), text);
  }
}

TEST(Size, Notations) {
  EXPECT_EQ(parse_size("0"), 0u);
  EXPECT_EQ(parse_size("64MB"), 64u << 20);
  EXPECT_EQ(parse_size("1GiB"), 1u << 30);
  EXPECT_EQ(parse_size("18446744073709551615"), ~0ull);
  for (const char* wrong : {"", "MB", "64mb", "1.5GB", "-1", "16777216TB", "18446744073709551616", "64 MB"}) {
    EXPECT_FALSE(parse_size(wrong)) << wrong;
  }
  for (const char* text : {"0", "1B", "1000B", "64kB", "3MB", "1GB", "5TB"}) {
    EXPECT_EQ(size_text(parse_size(text).value()), text);
  }
}

TEST(AddressText, Notations) {
  EXPECT_EQ(parse_address("db:1"), (Address{"db", 1}));
  EXPECT_EQ(parse_address("[::1]:5432"), (Address{"::1", 5432}));
  EXPECT_EQ(parse_address("/run/a:b:5432"), (Address{"/run/a:b", 5432}));
  for (const char* wrong :
       {"", ":", "a", "a:", ":1", "a:65536", "a:-1", "a:1x", "::1:5", "[::1:5", "[x]:5", "[]:5", "a b:1", "a:1:2"}) {
    EXPECT_FALSE(parse_address(wrong)) << wrong;
  }
  for (const char* text : {"db:1", "[::1]:5432", "/run/x:5432"}) EXPECT_EQ(parse_address(text)->text(), text);
}

TEST(AddressText, Loopback) {
  for (const char* text : {"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "/run:1"}) {
    EXPECT_TRUE(is_loopback(parse_address(text).value())) << text;
  }
  for (const char* text : {"0.0.0.0:1", "128.0.0.1:1", "[::]:1", "localhost.example.org:1", "[::2]:1"}) {
    EXPECT_FALSE(is_loopback(parse_address(text).value())) << text;
  }
}

TEST(Network, Notations) {
  for (const char* right : {"10.0.0.0/8", "0.0.0.0/0", "10.0.0.1", "fd00::/8", "::/0", "::1", "::1/128"}) {
    EXPECT_TRUE(is_network(right)) << right;
  }
  for (const char* wrong :
       {"", "/8", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/-1", "all", "10.0.0.0/8/8"}) {
    EXPECT_FALSE(is_network(wrong)) << wrong;
  }
}

TEST(Endpoint, Notations) {
  EXPECT_TRUE(is_endpoint("http://10.0.0.1:2379"));
  EXPECT_TRUE(is_endpoint("https://[::1]:2379"));
  for (const char* wrong :
       {"", "10.0.0.1:2379", "http://a", "ftp://a:1", "http://a:1/path", "http://a:0", "http:///run:1"}) {
    EXPECT_FALSE(is_endpoint(wrong)) << wrong;
  }
}

TEST(Verifier, Scram) {
  const std::string key = std::string(43, 'A') + "=";
  EXPECT_TRUE(is_scram_verifier("SCRAM-SHA-256$4096:c2FsdA==$" + key + ":" + key));
  for (const std::string& wrong :
       {std::string(), std::string("SCRAM-SHA-256$"), "SCRAM-SHA-256$0:c2FsdA==$" + key + ":" + key,
        "SCRAM-SHA-256$4096:$" + key + ":" + key, "SCRAM-SHA-256$4096:c2FsdA==$" + key,
        "SCRAM-SHA-256$4096:c2FsdA==$" + key + ":", "SCRAM-SHA-256$4096:c2F$dA==$" + key + ":" + key,
        "SCRAM-SHA-256$x:c2FsdA==$" + key + ":" + key, "SCRAM-SHA-1$4096:c2FsdA==$" + key + ":" + key}) {
    EXPECT_FALSE(is_scram_verifier(wrong)) << wrong;
  }
}

TEST(Verifier, Md5) {
  EXPECT_TRUE(is_md5_verifier("md50123456789abcdef0123456789abcdef"));
  EXPECT_FALSE(is_md5_verifier("md50123456789abcdef0123456789abcde"));
  EXPECT_FALSE(is_md5_verifier("md50123456789ABCDEF0123456789ABCDEF"));
  EXPECT_FALSE(is_md5_verifier("0123456789abcdef0123456789abcdef012"));
}

TEST(TableNames, Notations) {
  EXPECT_EQ(parse_table_name("a")->schema, "");
  EXPECT_EQ(parse_table_name("a.b")->schema, "a");
  EXPECT_EQ(parse_table_name("a.b")->name, "b");
  EXPECT_EQ(parse_table_name("\"a.b\"")->name, "a.b");
  EXPECT_EQ(parse_table_name("\"a.b\".\"c\"")->name, "c");
  for (const char* wrong : {"", ".", "a.", ".a", "a.b.c", "\"a", "\"\"", "\"a\"b", "a\"b", "\"a\"\"", "a\"\"b"}) {
    EXPECT_FALSE(parse_table_name(wrong)) << wrong;
  }
  EXPECT_EQ(parse_table_name(R"("a""b")")->name, R"(a"b)");
  EXPECT_EQ(parse_table_name(R"("a"""."b""c")")->schema, R"(a")");
  EXPECT_EQ(table_name_text({"odd.schema", "t"}), "\"odd.schema\".t");
  EXPECT_EQ(table_name_text({R"(a")", R"(b"c)"}), R"("a"""."b""c")");
}

TEST(Bounds, KindsOfOrder) {
  using Texts = std::vector<std::string_view>;
  EXPECT_EQ(order_of(Texts{"1", "-2.5", "+.5", "007"}), BoundOrder::number);
  EXPECT_EQ(order_of(Texts{"1", "x"}), BoundOrder::text);
  EXPECT_EQ(order_of(Texts{"2024-01-01", "2024-01-01 10:00", "2024-01-01T10:00:00.5Z"}), BoundOrder::time);
  EXPECT_EQ(order_of(Texts{"2024-01-01", "2024-13-01"}), BoundOrder::text);
  EXPECT_EQ(order_of(Texts{"2024-02-30"}), BoundOrder::text);
  EXPECT_EQ(order_of(Texts{"1e5", "-", "."}), BoundOrder::text);
}

TEST(Bounds, SomeOrdersOnlyTheTypeKnows) {
  using Texts = std::vector<std::string_view>;
  const auto left = [](const Texts& bounds) { return left_to_type(order_of(bounds), bounds); };
  for (const Texts& bounds : {Texts{"2.0.0.0", "10.0.0.0", "10.0.0.0/24", "fe80::"},     // inet
                              Texts{"1.5e3", "2", "1e10", "Infinity"},                   // double precision
                              Texts{"-Infinity", "-2e5", "-1e7", "NaN"},                 // the type will refuse it
                              Texts{"2024-01-01", "infinity"}, Texts{"09:00", "24:00"},  // date, time
                              Texts{"10", "100", "20"}, Texts{"100000", "200"}, Texts{"a", "b", "b1"}})  // text
    EXPECT_TRUE(left(bounds)) << bounds.front();
  for (const Texts& bounds :
       {Texts{"10", "9", "100"}, Texts{"b", "9"}, Texts{"b", "a"}, Texts{"b", "b"}, Texts{"2024-02-01", "2024-01-01"}})
    EXPECT_FALSE(left(bounds)) << bounds.front();
}

TEST(Bounds, NumbersOfAnyLength) {
  const std::vector<std::string_view> ascending = {
      "-100000000000000000000", "-2.5", "-2", "-.5", "0", "0.09", "0.1", "0.11", "9", "10", "100000000000000000000",
      "100000000000000000001"};
  for (std::size_t i = 0; i < ascending.size(); ++i) {
    for (std::size_t j = 0; j < ascending.size(); ++j) {
      EXPECT_EQ(compare_bounds(BoundOrder::number, ascending[i], ascending[j]), i <=> j)
          << ascending[i] << " " << ascending[j];
    }
  }
  EXPECT_EQ(compare_bounds(BoundOrder::number, "-0", "0.00"), std::strong_ordering::equal);
  EXPECT_EQ(compare_bounds(BoundOrder::number, "007.50", "7.5"), std::strong_ordering::equal);
}

TEST(Bounds, Times) {
  EXPECT_EQ(parse_time("1970-01-01"), 0);
  EXPECT_EQ(parse_time("1970-01-01 00:00:01.5"), 1'500'000);
  EXPECT_EQ(parse_time("1970-01-01T02:00:00+02:00"), 0);
  EXPECT_EQ(parse_time("1969-12-31 22:30:00-0130"), 0);
  EXPECT_EQ(parse_time("1969-12-31 23:00-01"), 0);
  for (const char* wrong :
       {"", "1970", "1970-1-1", "1970-01-01T", "1970-01-01 25:00", "1970-01-01 00:60", "1970-01-01 00:00x",
        "1970-01-01 00:00:00.", "1970-01-01 00:00+", "1970-01-01 00:00+01:0", "1970-01-01Z"}) {
    EXPECT_FALSE(parse_time(wrong)) << wrong;
  }
}

TEST(Suggest, AWordThatGoesOn) {
  const std::vector<std::string_view> levels = {"debug", "info", "warn", "error"};
  EXPECT_EQ(nearest("warning", levels), "warn");
  EXPECT_EQ(nearest("err", levels), "error");
  EXPECT_EQ(nearest("w", levels), "");
}

TEST(Suggest, Nearest) {
  const std::vector<std::string_view> names = {"size", "mode", "min_idle", "idle_timeout"};
  EXPECT_EQ(nearest("sise", names), "size");
  EXPECT_EQ(nearest("SIZE", names), "size");
  EXPECT_EQ(nearest("isze", names), "size");
  EXPECT_EQ(nearest("minidle", names), "min_idle");
  EXPECT_EQ(nearest("idel_timeout", names), "idle_timeout");
  EXPECT_EQ(nearest("password", names), "");
  EXPECT_EQ(nearest("", names), "");
  EXPECT_EQ(nearest(std::string(100'000, 'x'), names), "");
  EXPECT_EQ(suggestion("sise", names, "allowed"), "did you mean \"size\"? allowed: size, mode, min_idle, idle_timeout");
}

}  // namespace
}  // namespace tessera::config
