// What a literal or a parameter is worth as a key. Three steps: the type that the server gives the value, the value in
// that type, and the value of the column's type that the server finds equal to it.
//
// Canonical forms in KeyValue::bytes: numeric as in numeric.hpp; float4 and float8 as the eight bytes of the double, in
// memory order, with one zero and one NaN; macaddr and inet as in network_key.hpp.
#include "router/key.hpp"

#include <cmath>

#include "router/datetime.hpp"
#include "router/key_class.hpp"
#include "router/numeric.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

constexpr double exact_integers = 9007199254740992.0;  // 2^53: doubles up to here tell integers apart

bool fits(std::int64_t value, KeyType column) {
  switch (column) {
    case KeyType::int2:
      return value == static_cast<std::int16_t>(value);
    case KeyType::int4:
      return value == static_cast<std::int32_t>(value);
    case KeyType::oid:
      return value == static_cast<std::uint32_t>(value);
    default:
      return true;
  }
}

Conversion give_integer(std::int64_t value, KeyType column, KeyValue& out) {
  if (!fits(value, column)) return Conversion::no_row;
  out = {column, value, {}};
  return Conversion::value;
}

// A double compared with a column of floats: a float4 column is compared as float8, so it must hold the value exactly.
Conversion give_double(double value, KeyType column, std::string& scratch, KeyValue& out) {
  if (column == KeyType::float4 && !std::isnan(value) && static_cast<double>(static_cast<float>(value)) != value) {
    return Conversion::no_row;
  }
  write_double(value, scratch);
  out = {column, 0, scratch};
  return Conversion::value;
}

Conversion coerce_integer(const KeyValue& value, KeyType column, std::string& scratch, KeyValue& out) {
  if (is_integer(column)) return give_integer(value.integer, column, out);
  switch (column) {
    case KeyType::oid:
      return fits(value.integer, column) ? give_integer(value.integer, column, out) : Conversion::unknown;
    case KeyType::numeric:
      scratch = std::to_string(value.integer);
      out = {column, 0, scratch};
      return Conversion::value;
    case KeyType::float4:
    case KeyType::float8:
      return give_double(static_cast<double>(value.integer), column, scratch, out);
    default:
      return Conversion::unknown;
  }
}

Conversion coerce_numeric(const KeyValue& value, KeyType column, std::string& scratch, KeyValue& out) {
  if (is_integer(column)) {
    const auto integer = numeric::to_int64(value.bytes);
    return integer ? give_integer(*integer, column, out) : Conversion::no_row;
  }
  if (class_of(column) != KeyType::float8) return Conversion::unknown;
  KeyValue number;
  std::string digits{value.bytes};
  if (!read_text(digits, KeyType::float8, scratch, number)) return Conversion::unknown;
  return give_double(read_double(number.bytes), column, scratch, out);
}

Conversion coerce_float(const KeyValue& value, KeyType column, std::string& scratch, KeyValue& out) {
  const double number = read_double(value.bytes);
  if (class_of(column) == KeyType::float8) return give_double(number, column, scratch, out);
  if (!is_integer(column) || std::isnan(number)) return Conversion::unknown;
  if (number != std::trunc(number)) return Conversion::no_row;
  if (std::abs(number) >= exact_integers) return Conversion::unknown;
  return give_integer(static_cast<std::int64_t>(number), column, out);
}

Conversion coerce_time_stamp(const KeyValue& value, KeyType column, KeyValue& out) {
  if (value.type == KeyType::date && column == KeyType::timestamp) {
    std::int64_t time = value.integer == datetime::date_infinity ? datetime::infinity : datetime::minus_infinity;
    const bool finite = value.integer != datetime::date_infinity && value.integer != datetime::date_minus_infinity;
    // Beyond the time stamps' range the server reports an error.
    if (finite && __builtin_mul_overflow(value.integer, datetime::microseconds_per_day, &time))
      return Conversion::unknown;
    out = {column, time, {}};
    return Conversion::value;
  }
  if (value.type == KeyType::timestamp && column == KeyType::date) {
    if (value.integer == datetime::infinity || value.integer == datetime::minus_infinity) {
      out = {column, value.integer > 0 ? datetime::date_infinity : datetime::date_minus_infinity, {}};
      return Conversion::value;
    }
    if (value.integer % datetime::microseconds_per_day != 0) return Conversion::no_row;
    out = {column, value.integer / datetime::microseconds_per_day, {}};
    return Conversion::value;
  }
  return Conversion::unknown;
}

// Text of one character type compared with a column of another: the same bytes, but where trailing blanks count is a
// matter of which operator the server picks. char(n) on one side alone, with blanks on the other, is left to it.
Conversion coerce_text(const KeyValue& value, KeyType column, KeyValue& out) {
  if (class_of(column) != KeyType::text || value.type == KeyType::bpchar) return Conversion::unknown;
  if (column == KeyType::bpchar && value.bytes.ends_with(' ')) return Conversion::unknown;
  out = {column, 0, value.bytes};
  return Conversion::value;
}

// A number written in the text of the statement, in canonical form in `scratch`.
Conversion from_number(KeyType column, KeyType cast, std::string& scratch, KeyValue& out) {
  KeyType type = cast;
  const auto integer = numeric::to_int64(scratch);
  if (cast == KeyType::unsupported) type = integer ? KeyType::int8 : KeyType::numeric;
  KeyValue value{type, 0, scratch};
  if (is_integer(type)) {
    // A cast of a fraction rounds, a number that does not fit is an error: the server's business.
    if (!integer || !fits(*integer, type)) return Conversion::unknown;
    value = {type, *integer, {}};
  } else if (class_of(type) == KeyType::float8) {
    const std::string digits = scratch;
    if (!read_text(digits, type, scratch, value)) return Conversion::unknown;
  } else if (type != KeyType::numeric) {
    return Conversion::unknown;
  }
  return coerce(value, column, scratch, out);
}

}  // namespace

Conversion coerce(const KeyValue& value, KeyType column, std::string& scratch, KeyValue& out) {
  if (value.type == column) {
    out = value;
    return Conversion::value;
  }
  if (is_integer(value.type)) return coerce_integer(value, column, scratch, out);
  switch (value.type) {
    case KeyType::oid:
      // The server makes an oid of the column, and of -5 one above all positive numbers.
      return Conversion::unknown;
    case KeyType::numeric:
      return coerce_numeric(value, column, scratch, out);
    case KeyType::float4:
    case KeyType::float8:
      return coerce_float(value, column, scratch, out);
    case KeyType::date:
    case KeyType::timestamp:
      return coerce_time_stamp(value, column, out);
    case KeyType::text:
    case KeyType::varchar:
    case KeyType::bpchar:
      return coerce_text(value, column, out);
    default:
      return Conversion::unknown;
  }
}

Conversion from_literal(std::string_view token, parser::LiteralKind kind, bool negative, KeyType column, KeyType cast,
                        std::string& scratch, KeyValue& out) {
  const KeyType type = cast == KeyType::unsupported ? column : cast;
  if (equal_ignoring_case(token, "true") || equal_ignoring_case(token, "false")) {
    if (type != KeyType::boolean || column != KeyType::boolean) return Conversion::unknown;
    out = {KeyType::boolean, token.size() == 4 ? 1 : 0, {}};
    return Conversion::value;
  }
  switch (kind) {
    case parser::LiteralKind::integer: {
      // The common case first: a short integer for an integer column.
      KeyValue quick;
      if (token.size() <= 18 && is_integer(column) && cast == KeyType::unsupported &&
          read_text(token, KeyType::int8, scratch, quick)) {
        return give_integer(negative ? -quick.integer : quick.integer, column, out);
      }
      [[fallthrough]];
    }
    case parser::LiteralKind::numeric: {
      std::string number = negative ? "-" : "";
      number += token;
      if (!numeric::from_text(number, scratch) || numeric::special(scratch)) return Conversion::unknown;
      return from_number(column, cast, scratch, out);
    }
    case parser::LiteralKind::string:
    case parser::LiteralKind::escape_string:
    case parser::LiteralKind::dollar_string:
      break;
    default:
      return Conversion::unknown;
  }
  if (negative) return Conversion::unknown;
  KeyValue value;
  const bool plain = kind == parser::LiteralKind::string && token.size() >= 2 && token.front() == '\'' &&
                     token.back() == '\'' && !token.substr(1, token.size() - 2).contains('\'');
  if (plain) {
    if (!read_text(token.substr(1, token.size() - 2), type, scratch, value)) return Conversion::unknown;
    return coerce(value, column, scratch, out);
  }
  if (!parser::decode_string(token, kind, scratch)) return Conversion::unknown;
  if (class_of(type) == KeyType::text) {
    // The value borrows the scratch itself, which only the other types write again.
    if (!read_text(scratch, type, scratch, value)) return Conversion::unknown;
  } else {
    const std::string decoded = scratch;
    if (!read_text(decoded, type, scratch, value)) return Conversion::unknown;
  }
  return coerce(value, column, scratch, out);
}

Conversion from_parameter(std::string_view bytes, bool binary, TypeOid declared, KeyType column, KeyType cast,
                          std::string& scratch, KeyValue& out) {
  constexpr TypeOid unknown_oid = 705;
  const bool undeclared = declared == 0 || declared == unknown_oid;
  KeyType type = undeclared ? column : key_type_of(declared);
  if (undeclared && cast != KeyType::unsupported) type = cast;
  KeyValue value;
  const bool read = binary ? read_binary(bytes, type, scratch, value) : read_text(bytes, type, scratch, value);
  if (!read) return Conversion::unknown;
  if (cast == KeyType::unsupported || cast == type) return coerce(value, column, scratch, out);
  // The parameter has one type, is cast to a second and compared with a third.
  KeyValue between;
  switch (coerce(value, cast, scratch, between)) {
    case Conversion::value:
      return coerce(between, column, scratch, out);
    // Not equal to any value of the cast's type: a cast rounds, cuts off or fails.
    default:
      return Conversion::unknown;
  }
}

bool changed_by_storing(const KeyValue& value, int modifier) {
  if (modifier < 0) return false;
  switch (value.type) {
    case KeyType::numeric:
      return numeric::special(value.bytes) || numeric::fractional_digits(value.bytes) > modifier;
    case KeyType::varchar:
      return value.bytes.ends_with(' ');  // only blanks are cut off without an error
    case KeyType::time:
    case KeyType::timestamp:
    case KeyType::timestamptz: {
      std::int64_t unit = 1'000'000;
      for (int i = 0; i < modifier && unit > 1; ++i) unit /= 10;
      return value.integer % unit != 0;
    }
    default:
      return false;
  }
}

bool is_foreign(std::string_view bytes, bool binary, KeyType type) {
  const bool text = class_of(type) == KeyType::text || type == KeyType::char_ || (type == KeyType::bytea && !binary);
  return text && std::ranges::any_of(bytes, [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

}  // namespace tessera::router
