#include "router/sort_key.hpp"

#include "base/byte_reader.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

void append_big_endian(std::string& key, std::uint64_t value, std::size_t width) {
  for (std::size_t i = width; i-- > 0;) key += static_cast<char>(value >> (8 * i));
}

std::uint64_t big_endian(std::string_view value) {
  std::uint64_t number = 0;
  for (const char c : value) number = number << 8 | static_cast<unsigned char>(c);
  return number;
}

bool append_signed(std::string& key, std::string_view value) {
  if (value.size() != 2 && value.size() != 4 && value.size() != 8) return false;
  key += static_cast<char>(value.front() ^ '\x80');
  key.append(value.substr(1));
  return true;
}

bool append_unsigned(std::string& key, std::string_view value) {
  key.append(value);
  return value.size() == 1 || value.size() == 4;
}

// float4_cmp_internal, float8_cmp_internal (utils/float.h).
bool append_floating(std::string& key, std::string_view value) {
  if (value.size() != 4 && value.size() != 8) return false;
  const std::uint64_t sign = std::uint64_t{1} << (8 * value.size() - 1);
  const std::uint64_t infinity = value.size() == 4 ? 0x7f80'0000u : 0x7ff0'0000'0000'0000u;
  std::uint64_t bits = big_endian(value);
  if ((bits & ~sign) > infinity)
    bits = ~std::uint64_t{0};
  else
    bits = (bits & sign) == 0 || bits == sign ? bits | sign : ~bits;
  append_big_endian(key, bits, value.size());
  return true;
}

// numeric_send and cmp_numerics (numeric.c): digits of base 10,000, the first of which counts 10,000 ^ weight.
bool append_numeric(std::string& key, std::string_view value) {
  constexpr std::uint16_t positive = 0, negative = 0x4000, nan = 0xC000, infinite = 0xD000, minus_infinite = 0xF000;
  enum Class : char { below, less, zero, more, above, none };
  ByteReader reader(value);
  const std::uint16_t count = reader.u16();
  int weight = reader.i16();
  const std::uint16_t sign = reader.u16();
  reader.u16();  // of the digits, how many it shows
  std::string_view digits = reader.rest();
  if (!reader.ok() || digits.size() != std::size_t{count} * 2) return false;
  switch (sign) {
    case nan:
      key += none;
      return true;
    case infinite:
      key += above;
      return true;
    case minus_infinite:
      key += below;
      return true;
    case positive:
    case negative:
      break;
    default:
      return false;
  }
  constexpr std::string_view no_digit("\0\0", 2);
  for (; digits.starts_with(no_digit); --weight) digits.remove_prefix(2);
  while (digits.ends_with(no_digit)) digits.remove_suffix(2);
  if (digits.empty()) {
    key += zero;
    return true;
  }
  key += sign == negative ? less : more;
  const std::size_t begin = key.size();
  append_big_endian(key, static_cast<std::uint64_t>(weight + 0x10000), 3);
  for (; !digits.empty(); digits.remove_prefix(2)) append_big_endian(key, big_endian(digits.substr(0, 2)) + 1, 2);
  append_big_endian(key, 0, 2);
  if (sign == negative)
    for (std::size_t i = begin; i < key.size(); ++i) key[i] = static_cast<char>(~key[i]);
  return true;
}

// Ended by two zeros, which nothing inside looks like: a shorter value comes before a longer one that begins with it.
void append_bytes(std::string& key, std::string_view value) {
  for (std::size_t zero = value.find('\0'); zero != std::string_view::npos; zero = value.find('\0')) {
    key.append(value.substr(0, zero + 1));
    key += '\xff';
    value.remove_prefix(zero + 1);
  }
  key.append(value);
  key.append(2, '\0');
}

bool append_value(std::string& key, SortOrder order, std::string_view value) {
  switch (order) {
    case SortOrder::boolean:
      key.append(value);
      return value.size() == 1 && (value.front() == 0 || value.front() == 1);
    case SortOrder::signed_number:
      return append_signed(key, value);
    case SortOrder::unsigned_number:
      return append_unsigned(key, value);
    case SortOrder::floating:
      return append_floating(key, value);
    case SortOrder::numeric:
      return append_numeric(key, value);
    case SortOrder::bytes:
      append_bytes(key, value);
      return true;
    case SortOrder::padded:
      append_bytes(key, trim_trailing_blanks(value));
      return true;
  }
  return false;
}

}  // namespace

std::optional<SortOrder> sort_order_of(TypeOid type, bool bytewise) {
  switch (type) {
    case 16:  // boolean
      return SortOrder::boolean;
    case 20:    // bigint
    case 21:    // smallint
    case 23:    // integer
    case 1082:  // date
    case 1083:  // time
    case 1114:  // timestamp
    case 1184:  // timestamptz
      return SortOrder::signed_number;
    case 18:  // "char"
    case 26:  // oid
      return SortOrder::unsigned_number;
    case 700:  // real
    case 701:  // double precision
      return SortOrder::floating;
    case 1700:  // numeric
      return SortOrder::numeric;
    case 17:    // bytea
    case 2950:  // uuid
      return SortOrder::bytes;
    case 25:    // text
    case 1043:  // varchar
      return bytewise ? std::optional(SortOrder::bytes) : std::nullopt;
    case 1042:  // char(n)
      return bytewise ? std::optional(SortOrder::padded) : std::nullopt;
    default:
      return std::nullopt;
  }
}

bool append_sort_key(std::string& key, SortOrder order, SortDirection direction,
                     std::optional<std::string_view> value) {
  key += value ? '\1' : direction.nulls_first ? '\0' : '\2';
  if (!value) return true;
  const std::size_t begin = key.size();
  const bool valid = append_value(key, order, *value);
  if (direction.descending)
    for (std::size_t i = begin; i < key.size(); ++i) key[i] = static_cast<char>(~key[i]);
  return valid;
}

}  // namespace tessera::router
