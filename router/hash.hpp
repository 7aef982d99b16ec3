// The hash functions of sharding rules. Each is one that the server also has, bit for bit, so that every rule can be
// written as a SQL predicate over the key column (copying, verification, clean-up).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "config/config.hpp"
#include "router/key.hpp"

namespace tessera::router {

// PostgreSQL's hash_bytes_extended (src/common/hashfn.c), little-endian form.
std::uint64_t hash_bytes_extended(std::string_view bytes, std::uint64_t seed);

// What hashint8extended, hashtextextended, uuid_hash_extended, hashbpcharextended … give for this value and seed.
// hashint2/4/8extended agree with each other on equal values; text with C or any deterministic collation.
std::uint64_t postgres_hash(const KeyValue& value, std::uint64_t seed);

// The hash of the rule's function, as an unsigned number: `postgres` with seed 0; md5: the first 8 bytes, big-endian,
// of md5(key as text); crc32: of the key's text.
std::uint64_t key_hash(config::HashFunction function, const KeyValue& value);

// The same as a SQL expression over `column` (already quoted) for the engine PostgreSQL, giving a bigint (postgres,
// md5: the 64 bits taken as signed) – and the bucket expression built on it: a value in [0, buckets).
std::string hash_sql(config::HashFunction function, KeyType type, std::string_view column);
std::string bucket_sql(config::HashFunction function, KeyType type, std::string_view column, int buckets);

}  // namespace tessera::router
