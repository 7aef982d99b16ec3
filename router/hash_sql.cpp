// The hash functions once more, as SQL for PostgreSQL (11 and newer, but for bytea, which needs 14).
#include <array>
#include <fmt/core.h>

#include "router/hash.hpp"
#include "router/key_class.hpp"

namespace tessera::router {
namespace {

std::string postgres_sql(KeyType type, std::string_view column) {
  switch (type) {
    case KeyType::int2:
      return fmt::format("hashint2extended({}, 0)", column);
    case KeyType::int4:
      return fmt::format("hashint4extended({}, 0)", column);
    case KeyType::int8:
      return fmt::format("hashint8extended({}, 0)", column);
    case KeyType::text:
    case KeyType::varchar:
      return fmt::format("hashtextextended({}, 0)", column);
    case KeyType::bpchar:
      return fmt::format("hashbpcharextended({}, 0)", column);
    case KeyType::uuid:
      return fmt::format("uuid_hash_extended({}, 0)", column);
    case KeyType::oid:
      return fmt::format("hashoidextended({}, 0)", column);
    case KeyType::char_:
      return fmt::format("hashcharextended({}, 0)", column);
    case KeyType::boolean:
      return fmt::format("hashcharextended({}::int::\"char\", 0)", column);
    case KeyType::numeric:
      return fmt::format("hash_numeric_extended({}, 0)", column);
    case KeyType::float4:
      return fmt::format("hashfloat4extended({}, 0)", column);
    case KeyType::float8:
      return fmt::format("hashfloat8extended({}, 0)", column);
    case KeyType::macaddr:
      return fmt::format("hashmacaddrextended({}, 0)", column);
    case KeyType::inet:
      return fmt::format("hashinetextended({}, 0)", column);
    case KeyType::time:
      return fmt::format("time_hash_extended({}, 0)", column);
    case KeyType::timestamp:
      return fmt::format("timestamp_hash_extended({}, 0)", column);
    // The zone changes nothing but the type: the microseconds stay.
    case KeyType::timestamptz:
      return fmt::format("timestamp_hash_extended({} AT TIME ZONE 'UTC', 0)", column);
    // A date's day number; there is no cast to it.
    case KeyType::date:
      return fmt::format(
          "hashint4extended(CASE {0} WHEN 'infinity' THEN 2147483647 WHEN '-infinity' THEN -2147483648 "
          "ELSE {0} - date '2000-01-01' END, 0)",
          column);
    // Not callable by itself; the hash of a row of one column is that column's. A row of a NULL has one too.
    case KeyType::bytea:
      return fmt::format("CASE WHEN {0} IS NOT NULL THEN hash_record_extended(ROW({0}), 0) END", column);
    case KeyType::unsupported:
      break;
  }
  return "NULL::bigint";
}

// CRC-32, which PostgreSQL lacks before version 18: byte for byte, two half-byte table steps each. Of NULL it is NULL.
std::string crc32_sql(std::string_view column) {
  std::string table;
  for (std::uint32_t nibble = 0; nibble < 16; ++nibble) {
    std::uint32_t remainder = nibble;
    for (int bit = 0; bit < 4; ++bit) remainder = (remainder & 1) != 0 ? remainder >> 1 ^ 0xEDB88320u : remainder >> 1;
    table += fmt::format("{}{}", nibble == 0 ? "" : ",", remainder);
  }
  const auto step = [&table](std::string_view state) {
    return fmt::format("(({0} >> 4) # ('{{{1}}}'::bigint[])[({0} & 15) + 1])", state, table);
  };
  return fmt::format(
      "(WITH RECURSIVE key(bytes) AS (SELECT convert_to({}::text, getdatabaseencoding())), "
      "crc(at, state) AS (SELECT 0, 4294967295 FROM key WHERE bytes IS NOT NULL UNION ALL SELECT at + 1, (SELECT {} "
      "FROM (SELECT {} AS s1 FROM "
      "(SELECT state # get_byte(bytes, at) AS s0) AS x) AS y) FROM crc, key WHERE at < length(bytes)) "
      "SELECT state # 4294967295 FROM crc ORDER BY at DESC LIMIT 1)",
      column, step("s1"), step("s0"));
}

}  // namespace

std::string hash_sql(config::HashFunction function, KeyType type, std::string_view column) {
  switch (function) {
    case config::HashFunction::postgres:
      return postgres_sql(type, column);
    case config::HashFunction::md5:
      return fmt::format("('x' || substr(md5({}::text), 1, 16))::bit(64)::bigint", column);
    case config::HashFunction::crc32:
      return crc32_sql(column);
  }
  return "NULL::bigint";
}

std::string bucket_sql(config::HashFunction function, KeyType type, std::string_view column, int buckets) {
  const std::string hash = hash_sql(function, type, column);
  const auto count = static_cast<std::uint64_t>(buckets);
  if ((count & (count - 1)) == 0) return fmt::format("({} & {})", hash, count - 1);
  if (function == config::HashFunction::crc32) return fmt::format("({} % {})", hash, count);
  // The server's numbers are signed: a negative hash h stands for h + 2^64. Its remainder is in (-n, 0], so adding
  // n + (2^64 mod n) first keeps everything positive.
  const std::uint64_t wrap = (~std::uint64_t{0} % count + 1) % count;
  return fmt::format("(({0} % {1} + CASE WHEN {0} < 0 THEN {2} ELSE 0 END) % {1})", hash, count, wrap + count);
}

}  // namespace tessera::router
