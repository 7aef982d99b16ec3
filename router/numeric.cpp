#include "router/numeric.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/byte_reader.hpp"
#include "router/hash.hpp"
#include "router/text.hpp"

namespace tessera::router::numeric {
namespace {

constexpr std::string_view nan_text = "NaN";
constexpr std::string_view infinity_text = "Infinity";
constexpr std::string_view minus_infinity_text = "-Infinity";

std::optional<std::string_view> special_value(std::string_view text) {
  if (equal_ignoring_case(text, "nan")) return nan_text;
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (!equal_ignoring_case(text, "infinity") && !equal_ignoring_case(text, "inf")) return std::nullopt;
  return negative ? minus_infinity_text : infinity_text;
}

// Writes sign, `digits` with the decimal point behind the first `point` of them (which may lie outside), normalised.
bool write_canonical(bool negative, std::string_view digits, std::int64_t point, std::string& canonical) {
  while (digits.starts_with('0')) {
    digits.remove_prefix(1);
    --point;
  }
  while (digits.ends_with('0')) digits.remove_suffix(1);
  if (digits.empty()) {
    canonical = "0";
    return true;
  }
  const auto size = static_cast<std::int64_t>(digits.size());
  if (point > max_digits || point < -max_digits || size > max_digits) return false;
  std::string text = negative ? "-" : "";
  if (point <= 0) {
    text += "0.";
    text.append(static_cast<std::size_t>(-point), '0');
    text += digits;
  } else if (point >= size) {
    text += digits;
    text.append(static_cast<std::size_t>(point - size), '0');
  } else {
    text += digits.substr(0, static_cast<std::size_t>(point));
    text += '.';
    text += digits.substr(static_cast<std::size_t>(point));
  }
  canonical = std::move(text);
  return true;
}

struct Parts {
  bool negative = false;
  std::string_view whole;
  std::string_view fraction;
};

Parts split(std::string_view canonical) {
  Parts parts;
  parts.negative = canonical.starts_with('-');
  if (parts.negative) canonical.remove_prefix(1);
  const std::size_t point = canonical.find('.');
  parts.whole = canonical.substr(0, point);
  if (point != std::string_view::npos) parts.fraction = canonical.substr(point + 1);
  return parts;
}

int sign_of(int order) {
  return order < 0 ? -1 : order > 0 ? 1 : 0;
}

int compare_magnitude(const Parts& a, const Parts& b) {
  if (a.whole.size() != b.whole.size()) return a.whole.size() < b.whole.size() ? -1 : 1;
  if (const int order = a.whole.compare(b.whole); order != 0) return sign_of(order);
  // Fractions have no trailing zeros, so a proper prefix is the smaller one: what text comparison says.
  return sign_of(a.fraction.compare(b.fraction));
}

int rank(std::string_view canonical) {
  if (canonical == minus_infinity_text) return -1;
  if (canonical == infinity_text) return 1;
  return canonical == nan_text ? 2 : 0;
}

int small_number(std::string_view digits) {
  int value = 0;
  for (const char c : digits) value = value * 10 + (c - '0');
  return value;
}

}  // namespace

bool from_text(std::string_view text, std::string& canonical) {
  text = trim_space(text);
  if (const auto value = special_value(text)) {
    canonical = *value;
    return true;
  }
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const std::size_t mantissa_end = text.find_first_not_of("0123456789.");
  const std::string_view mantissa = text.substr(0, mantissa_end);
  std::int64_t exponent = 0;
  if (mantissa_end != std::string_view::npos) {
    std::string_view rest = text.substr(mantissa_end);
    if (rest.front() != 'e' && rest.front() != 'E') return false;
    rest.remove_prefix(1);
    if (rest.starts_with('+') && rest.size() > 1 && is_digit(rest[1])) rest.remove_prefix(1);
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), exponent);
    if (error != std::errc{} || end != rest.data() + rest.size()) return false;
    if (exponent > max_digits || exponent < -max_digits) return false;
  }
  const std::size_t point = std::min(mantissa.find('.'), mantissa.size());
  std::string digits{mantissa.substr(0, point)};
  if (point < mantissa.size()) digits += mantissa.substr(point + 1);
  if (digits.empty() || digits.contains('.')) return false;
  return write_canonical(negative, digits, static_cast<std::int64_t>(point) + exponent, canonical);
}

bool from_binary(std::string_view bytes, std::string& canonical) {
  ByteReader reader(bytes);
  const int count = reader.u16();
  const int weight = reader.i16();
  const int sign = reader.u16();
  reader.u16();  // display scale: not part of the value
  if (!reader.ok() || reader.left() != static_cast<std::size_t>(count) * 2) return false;
  switch (sign) {
    case 0x0000:
    case 0x4000:
      break;
    case 0xC000:
      canonical = nan_text;
      return count == 0;
    case 0xD000:
      canonical = infinity_text;
      return count == 0;
    case 0xF000:
      canonical = minus_infinity_text;
      return count == 0;
    default:
      return false;
  }
  if (count * 4 > max_digits) return false;
  std::string digits;
  for (int i = 0; i < count; ++i) {
    const int group = reader.u16();
    if (group > 9999) return false;
    for (const int unit : {1000, 100, 10, 1}) digits += static_cast<char>('0' + group / unit % 10);
  }
  return write_canonical(sign == 0x4000, digits, (std::int64_t{weight} + 1) * 4, canonical);
}

bool special(std::string_view canonical) {
  return rank(canonical) != 0;
}

bool integral(std::string_view canonical) {
  return !special(canonical) && !canonical.contains('.');
}

std::optional<std::int64_t> to_int64(std::string_view canonical) {
  std::int64_t value = 0;
  const char* end = canonical.data() + canonical.size();
  const auto [at, error] = std::from_chars(canonical.data(), end, value);
  if (error != std::errc{} || at != end) return std::nullopt;
  return value;
}

int fractional_digits(std::string_view canonical) {
  return special(canonical) ? 0 : static_cast<int>(split(canonical).fraction.size());
}

int compare(std::string_view a, std::string_view b) {
  const int rank_a = rank(a);
  const int rank_b = rank(b);
  if (rank_a != 0 || rank_b != 0) return rank_a < rank_b ? -1 : rank_a > rank_b ? 1 : 0;
  const Parts left = split(a);
  const Parts right = split(b);
  if (left.negative != right.negative) return left.negative ? -1 : 1;
  return left.negative ? compare_magnitude(right, left) : compare_magnitude(left, right);
}

// The server hashes the base-10000 digits without leading and trailing zeros, and mixes in the weight of the first one;
// the sign takes no part. Zero has no digits: seed - 1. Special values: the seed.
std::uint64_t hash(std::string_view canonical, std::uint64_t seed) {
  if (special(canonical)) return seed;
  const Parts parts = split(canonical);
  std::array<std::int16_t, max_digits / 2 + 4> groups{};
  std::size_t count = 0;
  const auto add = [&](int value) {
    if (count < groups.size()) groups[count++] = static_cast<std::int16_t>(value);
  };
  const std::size_t first = parts.whole.size() % 4;
  if (first != 0) add(small_number(parts.whole.substr(0, first)));
  for (std::size_t at = first; at < parts.whole.size(); at += 4) add(small_number(parts.whole.substr(at, 4)));
  std::int64_t weight = static_cast<std::int64_t>(count) - 1;
  for (std::size_t at = 0; at < parts.fraction.size(); at += 4) {
    const std::string_view group = parts.fraction.substr(at, 4);
    int value = small_number(group);
    for (std::size_t i = group.size(); i < 4; ++i) value *= 10;
    add(value);
  }
  std::size_t begin = 0;
  while (begin < count && groups[begin] == 0) {
    ++begin;
    --weight;
  }
  if (begin == count) return seed - 1;
  while (groups[count - 1] == 0) --count;
  const std::string_view bytes(reinterpret_cast<const char*>(groups.data() + begin),
                               (count - begin) * sizeof(std::int16_t));
  return hash_bytes_extended(bytes, seed) ^ static_cast<std::uint64_t>(weight);
}

}  // namespace tessera::router::numeric
