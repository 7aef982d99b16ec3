// Keys from and to text: what the server's input functions accept, as far as it is certain, and one canonical output.
#include <bit>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fmt/core.h>
#include <limits>

#include "base/byte_reader.hpp"
#include "router/datetime.hpp"
#include "router/key.hpp"
#include "router/key_class.hpp"
#include "router/network_key.hpp"
#include "router/numeric.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

bool take(std::optional<std::int64_t> value, KeyValue& out) {
  if (!value) return false;
  out.integer = *value;
  return true;
}

std::optional<std::int64_t> parse_integer(std::string_view text, KeyType type) {
  text = trim_space(text);
  if (text.starts_with('+') && text.size() > 1 && is_digit(text[1])) text.remove_prefix(1);
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || at != end) return std::nullopt;
  switch (type) {
    case KeyType::int2:
      return value == static_cast<std::int16_t>(value) ? std::optional(value) : std::nullopt;
    case KeyType::int4:
      return value == static_cast<std::int32_t>(value) ? std::optional(value) : std::nullopt;
    // oidin also takes negative numbers, as unsigned ones: left to it.
    case KeyType::oid:
      return value == static_cast<std::uint32_t>(value) ? std::optional(value) : std::nullopt;
    default:
      return value;
  }
}

std::optional<std::int64_t> parse_boolean(std::string_view text) {
  text = trim_space(text);
  const auto shortened = [text](std::string_view word, std::size_t least) {
    return text.size() >= least && text.size() <= word.size() && equal_ignoring_case(text, word.substr(0, text.size()));
  };
  if (text == "1" || shortened("true", 1) || shortened("yes", 1) || shortened("on", 2)) return 1;
  if (text == "0" || shortened("false", 1) || shortened("no", 1) || shortened("off", 2)) return 0;
  return std::nullopt;
}

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  const char lower = to_lower(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// uuid_in: braces or none, a hyphen or none behind every second byte.
bool parse_uuid(std::string_view text, std::string& bytes) {
  if (text.starts_with('{')) {
    if (!text.ends_with('}')) return false;
    text = text.substr(1, text.size() - 2);
  }
  std::string parsed;
  for (std::size_t i = 0; i < 16; ++i) {
    if (text.size() < 2) return false;
    const int high = hex_digit(text[0]);
    const int low = hex_digit(text[1]);
    if (high < 0 || low < 0) return false;
    parsed += static_cast<char>(high * 16 + low);
    text.remove_prefix(2);
    if (i % 2 == 1 && i < 15 && text.starts_with('-')) text.remove_prefix(1);
  }
  if (!text.empty()) return false;
  bytes = std::move(parsed);
  return true;
}

bool parse_bytea(std::string_view text, std::string& bytes) {
  std::string parsed;
  if (text.starts_with("\\x")) {
    text.remove_prefix(2);
    if (text.size() % 2 != 0) return false;
    for (; !text.empty(); text.remove_prefix(2)) {
      const int high = hex_digit(text[0]);
      const int low = hex_digit(text[1]);
      if (high < 0 || low < 0) return false;
      parsed += static_cast<char>(high * 16 + low);
    }
    bytes = std::move(parsed);
    return true;
  }
  while (!text.empty()) {
    if (text[0] != '\\') {
      parsed += text[0];
      text.remove_prefix(1);
    } else if (text.starts_with("\\\\")) {
      parsed += '\\';
      text.remove_prefix(2);
    } else {
      const auto octal = [&](std::size_t i, char most) { return text.size() > i && text[i] >= '0' && text[i] <= most; };
      if (!octal(1, '3') || !octal(2, '7') || !octal(3, '7')) return false;
      parsed += static_cast<char>((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
      text.remove_prefix(4);
    }
  }
  bytes = std::move(parsed);
  return true;
}

// float4in and float8in, decimal forms only. A value that does not fit is the server's error.
bool parse_float(std::string_view text, bool single, std::string& scratch) {
  text = trim_space(text);
  if (text.starts_with('+')) text.remove_prefix(1);
  const char* end = text.data() + text.size();
  double value = 0;
  if (equal_ignoring_case(text, "nan")) {
    value = std::numeric_limits<double>::quiet_NaN();
  } else if (equal_ignoring_case(text, "infinity") || equal_ignoring_case(text, "inf")) {
    value = std::numeric_limits<double>::infinity();
  } else if (equal_ignoring_case(text, "-infinity") || equal_ignoring_case(text, "-inf")) {
    value = -std::numeric_limits<double>::infinity();
  } else {
    if (text.find_first_not_of("0123456789+-.eE") != std::string_view::npos) return false;
    float narrow = 0;
    const auto [at, error] =
        single ? std::from_chars(text.data(), end, narrow) : std::from_chars(text.data(), end, value);
    if (error != std::errc{} || at != end) return false;
    if (single) value = narrow;
  }
  write_double(value, scratch);
  return true;
}

}  // namespace

double read_double(std::string_view bytes) {
  double value = 0;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

void write_double(double value, std::string& scratch) {
  if (value == 0) value = 0;  // -0 equals 0
  if (std::isnan(value)) value = std::numeric_limits<double>::quiet_NaN();
  scratch.assign(reinterpret_cast<const char*>(&value), sizeof value);
}

bool read_text(std::string_view text, KeyType type, std::string& scratch, KeyValue& out) {
  out = {type, 0, {}};
  bool good = false;
  switch (type) {
    case KeyType::int2:
    case KeyType::int4:
    case KeyType::int8:
    case KeyType::oid:
      return take(parse_integer(text, type), out);
    case KeyType::boolean:
      return take(parse_boolean(text), out);
    case KeyType::date:
      return take(datetime::parse_date(text), out);
    case KeyType::timestamp:
      return take(datetime::parse_timestamp(text), out);
    case KeyType::timestamptz:
      return take(datetime::parse_timestamptz(text), out);
    case KeyType::time:
      return take(datetime::parse_time(text), out);
    case KeyType::char_:
      // Longer texts are cut, backslashes are escapes in newer servers, an empty one is the zero byte.
      if (text.size() != 1 || text[0] == '\\') return false;
      out.integer = static_cast<unsigned char>(text[0]);
      return true;
    case KeyType::text:
    case KeyType::varchar:
      out.bytes = text;
      return true;
    case KeyType::bpchar:
      out.bytes = trim_trailing_blanks(text);
      return true;
    case KeyType::uuid:
      good = parse_uuid(text, scratch);
      break;
    case KeyType::bytea:
      good = parse_bytea(text, scratch);
      break;
    case KeyType::numeric:
      good = numeric::from_text(text, scratch);
      break;
    case KeyType::float4:
    case KeyType::float8:
      good = parse_float(text, type == KeyType::float4, scratch);
      break;
    case KeyType::macaddr:
      good = network::parse_macaddr(trim_space(text), scratch);
      break;
    case KeyType::inet:
      good = network::parse_inet(text, scratch);
      break;
    case KeyType::unsupported:
      return false;
  }
  out.bytes = scratch;
  return good;
}

bool read_binary(std::string_view bytes, KeyType type, std::string& scratch, KeyValue& out) {
  out = {type, 0, {}};
  ByteReader reader(bytes);
  switch (type) {
    case KeyType::int2:
      out.integer = reader.i16();
      return reader.finished();
    case KeyType::int4:
    case KeyType::date:
      out.integer = reader.i32();
      return reader.finished();
    case KeyType::oid:
      out.integer = reader.u32();
      return reader.finished();
    case KeyType::int8:
    case KeyType::timestamp:
    case KeyType::timestamptz:
      out.integer = static_cast<std::int64_t>(reader.u64());
      return reader.finished();
    case KeyType::time:
      out.integer = static_cast<std::int64_t>(reader.u64());
      return reader.finished() && out.integer >= 0 && out.integer <= datetime::microseconds_per_day;
    case KeyType::boolean:
      out.integer = reader.u8() != 0 ? 1 : 0;
      return reader.finished();
    case KeyType::char_:
      out.integer = reader.u8();
      return reader.finished();
    case KeyType::text:
    case KeyType::varchar:
    case KeyType::bytea:
      out.bytes = bytes;
      return true;
    case KeyType::bpchar:
      out.bytes = trim_trailing_blanks(bytes);
      return true;
    case KeyType::uuid:
      out.bytes = bytes;
      return bytes.size() == 16;
    case KeyType::macaddr:
      out.bytes = bytes;
      return bytes.size() == 6;
    case KeyType::float4:
      write_double(std::bit_cast<float>(reader.u32()), scratch);
      break;
    case KeyType::float8:
      write_double(std::bit_cast<double>(reader.u64()), scratch);
      break;
    case KeyType::numeric:
      if (!numeric::from_binary(bytes, scratch)) return false;
      out.bytes = scratch;
      return true;
    case KeyType::inet:
      if (!network::inet_from_binary(bytes, scratch)) return false;
      out.bytes = scratch;
      return true;
    case KeyType::unsupported:
      return false;
  }
  out.bytes = scratch;
  return reader.finished();
}

std::string to_text(const KeyValue& value) {
  switch (value.type) {
    case KeyType::boolean:
      return value.integer != 0 ? "true" : "false";
    case KeyType::date:
      return datetime::date_text(value.integer);
    case KeyType::timestamp:
      return datetime::timestamp_text(value.integer);
    case KeyType::timestamptz:
      return datetime::timestamptz_text(value.integer);
    case KeyType::time:
      return datetime::time_text(value.integer);
    case KeyType::char_:
      return {static_cast<char>(value.integer)};
    case KeyType::uuid: {
      std::string text;
      for (std::size_t i = 0; i < value.bytes.size(); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
        text += fmt::format("{:02x}", static_cast<unsigned char>(value.bytes[i]));
      }
      return text;
    }
    case KeyType::bytea: {
      std::string text = "\\x";
      for (const char byte : value.bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
      return text;
    }
    case KeyType::float4:
    case KeyType::float8: {
      const double number = read_double(value.bytes);
      if (std::isnan(number)) return "NaN";
      if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
      return fmt::format("{}", number);
    }
    case KeyType::macaddr:
      return network::macaddr_text(value.bytes);
    case KeyType::inet:
      return network::inet_text(value.bytes);
    case KeyType::text:
    case KeyType::varchar:
    case KeyType::bpchar:
    case KeyType::numeric:
      return std::string(value.bytes);
    default:
      return std::to_string(value.integer);
  }
}

std::optional<KeyValue> from_text(std::string_view text, KeyType type, std::string& scratch) {
  KeyValue value;
  if (!read_text(text, type, scratch, value)) return std::nullopt;
  return value;
}

int compare(const KeyValue& a, const KeyValue& b) {
  switch (class_of(a.type)) {
    case KeyType::numeric:
      return numeric::compare(a.bytes, b.bytes);
    case KeyType::inet:
      return network::compare_inet(a.bytes, b.bytes);
    case KeyType::float8: {
      const double x = read_double(a.bytes);
      const double y = read_double(b.bytes);
      if (std::isnan(x) || std::isnan(y)) return static_cast<int>(std::isnan(x)) - static_cast<int>(std::isnan(y));
      return x < y ? -1 : x > y ? 1 : 0;
    }
    case KeyType::text:
    case KeyType::uuid:
    case KeyType::bytea:
    case KeyType::macaddr:
      return a.bytes.compare(b.bytes);
    default:
      return a.integer < b.integer ? -1 : a.integer > b.integer ? 1 : 0;
  }
}

}  // namespace tessera::router
