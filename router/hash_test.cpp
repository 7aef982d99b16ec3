#include "router/hash.hpp"

#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <sstream>

#include "router/digest.hpp"

namespace tessera::router {
namespace {

constexpr std::uint64_t other_seed = 81985529216486895;

std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      plain += text[i];
      continue;
    }
    const char next = text[++i];
    plain += next == 't' ? '\t' : next == 'n' ? '\n' : next;
  }
  return plain;
}

std::int64_t as_signed(std::uint64_t hash) {
  return static_cast<std::int64_t>(hash);
}

// The table was made by a server; see testdata/make_hash_vectors.py.
TEST(Hash, AgreesWithTheServer) {
  std::ifstream file("router/testdata/hash_vectors.txt");
  ASSERT_TRUE(file) << "run from the root of the project";
  std::map<std::string, int> count;
  for (std::string line; std::getline(file, line);) {
    std::vector<std::string> fields;
    std::istringstream parts(line);
    for (std::string field; std::getline(parts, field, '\t');) fields.push_back(field);
    ASSERT_EQ(fields.size(), 5u) << line;
    const KeyType type = key_type_of(fields[0]);
    ASSERT_NE(type, KeyType::unsupported) << line;
    std::string scratch;
    const std::string text = unescape(fields[1]);
    const auto key = from_text(text, type, scratch);
    ASSERT_TRUE(key) << line;
    EXPECT_EQ(as_signed(postgres_hash(*key, 0)), std::stoll(fields[2])) << line;
    EXPECT_EQ(as_signed(postgres_hash(*key, other_seed)), std::stoll(fields[3])) << line;
    EXPECT_EQ(key_hash(config::HashFunction::postgres, *key), postgres_hash(*key, 0));
    if (fields[4] != "-") {
      EXPECT_EQ(as_signed(key_hash(config::HashFunction::md5, *key)), std::stoll(fields[4])) << line;
    }
    ++count[fields[0]];
  }
  EXPECT_EQ(count.size(), 20u);
}

TEST(Hash, IntegersOfAllWidthsAgree) {
  for (const std::int64_t value : {0L, 1L, -1L, 32767L, -32768L}) {
    const auto hash = postgres_hash({KeyType::int8, value, {}}, 0);
    EXPECT_EQ(postgres_hash({KeyType::int2, value, {}}, 0), hash);
    EXPECT_EQ(postgres_hash({KeyType::int4, value, {}}, 0), hash);
  }
}

TEST(Hash, DigestsOfKnownTexts) {
  // RFC 1321's own examples, and CRC-32's check value.
  const auto hex = [](std::string_view text) {
    std::string digits;
    for (const std::uint8_t byte : md5(text)) {
      for (const int digit : {byte >> 4, byte & 15}) digits += "0123456789abcdef"[digit];
    }
    return digits;
  };
  EXPECT_EQ(hex(""), "d41d8cd98f00b204e9800998ecf8427e");
  EXPECT_EQ(hex("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
  EXPECT_EQ(hex("12345678901234567890123456789012345678901234567890123456789012345678901234567890"),
            "57edf4a22be3c955ac49da2e2107b67a");
  EXPECT_EQ(crc32("123456789"), 0xCBF43926u);
  EXPECT_EQ(crc32(""), 0u);
  EXPECT_EQ(key_hash(config::HashFunction::crc32, {KeyType::int8, 123456789, {}}), 0xCBF43926u);
}

// A row without a key is nobody's; the server's own functions are strict, these expressions would not be.
TEST(HashSql, IsNullForNull) {
  EXPECT_EQ(hash_sql(config::HashFunction::postgres, KeyType::bytea, "k"),
            "CASE WHEN k IS NOT NULL THEN hash_record_extended(ROW(k), 0) END");
  EXPECT_TRUE(hash_sql(config::HashFunction::crc32, KeyType::text, "k").contains("FROM key WHERE bytes IS NOT NULL"));
}

}  // namespace
}  // namespace tessera::router
