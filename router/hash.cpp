#include "router/hash.hpp"

#include <array>
#include <bit>
#include <charconv>
#include <cstring>

#include "router/digest.hpp"
#include "router/key_class.hpp"
#include "router/numeric.hpp"

namespace tessera::router {
namespace {

// Bob Jenkins' lookup3 with PostgreSQL's start value; 64 bits of result are the two last words of its state.
struct Lookup3 {
  std::uint32_t a, b, c;

  Lookup3(std::size_t length, std::uint64_t seed) {
    a = b = c = 0x9e3779b9u + static_cast<std::uint32_t>(length) + 3923095u;
    if (seed == 0) return;
    a += static_cast<std::uint32_t>(seed >> 32);
    b += static_cast<std::uint32_t>(seed);
    mix();
  }

  void mix() {
    const auto step = [](std::uint32_t x, std::uint32_t y, int turn) { return (x - y) ^ std::rotl(y, turn); };
    a = step(a, c, 4), c += b;
    b = step(b, a, 6), a += c;
    c = step(c, b, 8), b += a;
    a = step(a, c, 16), c += b;
    b = step(b, a, 19), a += c;
    c = step(c, b, 4), b += a;
  }

  std::uint64_t finish() {
    const auto step = [](std::uint32_t x, std::uint32_t y, int turn) { return (x ^ y) - std::rotl(y, turn); };
    c = step(c, b, 14);
    a = step(a, c, 11);
    b = step(b, a, 25);
    c = step(c, b, 16);
    a = step(a, c, 4);
    b = step(b, a, 14);
    c = step(c, b, 24);
    return std::uint64_t{b} << 32 | c;
  }
};

std::uint32_t little_endian_word(const char* bytes) {
  std::uint32_t word = 0;
  std::memcpy(&word, bytes, sizeof word);
  if constexpr (std::endian::native == std::endian::big) word = std::byteswap(word);
  return word;
}

std::uint64_t hash_uint32_extended(std::uint32_t value, std::uint64_t seed) {
  Lookup3 state(sizeof value, seed);
  state.a += value;
  return state.finish();
}

// hashint8extended: both halves folded such that a value which fits in an int4 hashes as that int4.
std::uint64_t hash_integer(std::int64_t value, std::uint64_t seed) {
  auto low = static_cast<std::uint32_t>(value);
  const auto high = static_cast<std::uint32_t>(static_cast<std::uint64_t>(value) >> 32);
  low ^= value >= 0 ? high : ~high;
  return hash_uint32_extended(low, seed);
}

}  // namespace

std::uint64_t hash_bytes_extended(std::string_view bytes, std::uint64_t seed) {
  Lookup3 state(bytes.size(), seed);
  for (; bytes.size() >= 12; bytes.remove_prefix(12)) {
    state.a += little_endian_word(bytes.data());
    state.b += little_endian_word(bytes.data() + 4);
    state.c += little_endian_word(bytes.data() + 8);
    state.mix();
  }
  // Up to eleven bytes are left: eight for a and b, three for c above its lowest byte, which stands for the length.
  std::array<char, 12> rest{};
  if (!bytes.empty()) std::memcpy(rest.data(), bytes.data(), bytes.size());
  state.a += little_endian_word(rest.data());
  state.b += little_endian_word(rest.data() + 4);
  state.c += little_endian_word(rest.data() + 8) << 8;
  return state.finish();
}

std::uint64_t postgres_hash(const KeyValue& value, std::uint64_t seed) {
  switch (value.type) {
    // Four bytes or fewer: hashcharextended (which takes the char as a signed one), hashoidextended, and
    // hashint4extended for dates.
    case KeyType::char_:
      return hash_uint32_extended(static_cast<std::uint32_t>(static_cast<signed char>(value.integer)), seed);
    case KeyType::boolean:
    case KeyType::oid:
    case KeyType::date:
      return hash_uint32_extended(static_cast<std::uint32_t>(value.integer), seed);
    case KeyType::numeric:
      return numeric::hash(value.bytes, seed);
    case KeyType::float4:
    case KeyType::float8:
      // Zero of either sign is the seed; the canonical form has only the one.
      return read_double(value.bytes) == 0 ? seed : hash_bytes_extended(value.bytes, seed);
    default:
      break;
  }
  return holds_bytes(value.type) ? hash_bytes_extended(value.bytes, seed) : hash_integer(value.integer, seed);
}

std::uint64_t key_hash(config::HashFunction function, const KeyValue& value) {
  if (function == config::HashFunction::postgres) return postgres_hash(value, 0);
  // The key's text; the types that these functions are allowed for are checked when the rule is built.
  std::array<char, 24> digits{};
  std::string_view text = value.bytes;
  std::string longer;
  if (is_integer(value.type) || value.type == KeyType::oid) {
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value.integer).ptr;
    text = {digits.data(), static_cast<std::size_t>(end - digits.data())};
  } else if (class_of(value.type) != KeyType::text) {
    longer = to_text(value);
    text = longer;
  }
  if (function == config::HashFunction::crc32) return crc32(text);
  const auto digest = md5(text);
  std::uint64_t hash = 0;
  for (std::size_t i = 0; i < 8; ++i) hash = hash << 8 | digest[i];
  return hash;
}

}  // namespace tessera::router
