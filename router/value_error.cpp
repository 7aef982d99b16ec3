#include "router/value_error.hpp"

#include <algorithm>
#include <array>
#include <fmt/core.h>

#include "router/datetime.hpp"
#include "router/key_class.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

constexpr SqlState datetime_overflow{"22008"};
constexpr SqlState datatype_mismatch{"42804"};
constexpr SqlState undefined_function{"42883"};
constexpr std::size_t longest_quoted = 1000;  // of a text in a message

Error error(SqlState code, std::string message, std::string hint = {}) {
  return {code, std::move(message), {}, std::move(hint), 0};
}

Error bad_syntax(std::string_view text, KeyType type) {
  return error(sqlstate::invalid_text_representation,
               fmt::format("invalid input syntax for type {}: \"{}\"", name_of(type), text));
}

bool only(std::string_view text, std::string_view characters) {
  return text.find_first_not_of(characters) == std::string_view::npos;
}

bool all_digits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, is_digit);
}

bool is_letter(char c) {
  return to_lower(c) >= 'a' && to_lower(c) <= 'z';
}

std::string_view without_sign(std::string_view text) {
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  return text;
}

// "0x2a", "0o7", "0b1" and "1_000" are numbers since PostgreSQL 16.
bool newer_number(std::string_view text) {
  return (text.size() > 1 && text[0] == '0' && is_letter(text[1])) || text.contains('_');
}

std::optional<Error> integer_error(std::string_view text, KeyType type) {
  const std::string_view number = without_sign(trim_space(text));
  if (number.empty() || !is_digit(number.front())) return bad_syntax(text, type);
  if (newer_number(number) || (type == KeyType::oid && trim_space(text).starts_with('-'))) return {};
  if (!all_digits(number)) return bad_syntax(text, type);
  return error(sqlstate::numeric_out_of_range,
               fmt::format("value \"{}\" is out of range for type {}", text, name_of(type)));
}

std::optional<Error> decimal_error(std::string_view text, KeyType type) {
  const std::string_view number = without_sign(trim_space(text));
  // strtod() reads "-nan" and "infinity" in several spellings.
  const bool word = !number.empty() && std::string_view("nNiI").contains(number.front());
  if (word || newer_number(number) || (!number.empty() && only(number, "0123456789.eE+-"))) return {};
  return bad_syntax(text, type);
}

std::optional<Error> bytea_error(std::string_view text) {
  if (!text.starts_with("\\x"))
    return error(sqlstate::invalid_text_representation, "invalid input syntax for type bytea");
  const std::size_t other = text.find_first_not_of("0123456789abcdefABCDEF", 2);
  if (other == std::string_view::npos)
    return error(sqlstate::invalid_parameter_value, "invalid hexadecimal data: odd number of digits");
  if (is_space(text[other]) || static_cast<unsigned char>(text[other]) >= 0x80) return {};
  return error(sqlstate::invalid_parameter_value, fmt::format("invalid hexadecimal digit: \"{}\"", text[other]));
}

int number(std::string_view digits) {
  int value = 0;
  for (const char c : digits) value = value * 10 + (c - '0');
  return value;
}

// "10:60:00", perhaps with a fraction and an offset behind it. Seconds up to 60 are read in some way.
bool late(std::string_view time) {
  const auto part = [time](std::size_t at) { return time.size() >= at + 2 && all_digits(time.substr(at, 2)); };
  if (!part(0) || !part(3) || time[2] != ':') return false;
  const bool seconds = part(6) && time[5] == ':' && number(time.substr(6, 2)) > 60;
  return number(time.substr(0, 2)) > 24 || number(time.substr(3, 2)) > 59 || seconds;
}

// Words, and dates and times in ISO form: the order of the parts of others hangs on DateStyle.
std::optional<Error> moment_error(std::string_view text, KeyType type) {
  constexpr std::array<std::string_view, 7> moments = {"now",   "today",    "tomorrow", "yesterday",
                                                       "epoch", "infinity", "allballs"};
  const std::string_view moment = trim_space(text);
  if (std::ranges::none_of(moment, is_digit)) {
    const bool word = std::ranges::any_of(moments, [moment](std::string_view candidate) {
      return !std::ranges::search(moment, candidate, {}, to_lower).empty();
    });
    if (word) return {};
    const std::string_view name = type == KeyType::timestamp ? "timestamp"
                                  : type == KeyType::time    ? "time"
                                                             : name_of(type);
    return error(sqlstate::invalid_datetime, fmt::format("invalid input syntax for type {}: \"{}\"", name, text));
  }
  const auto overflow = [text](std::string hint) {
    return error(datetime_overflow, fmt::format("date/time field value out of range: \"{}\"", text), std::move(hint));
  };
  if (type == KeyType::time) return late(moment) ? std::optional(overflow({})) : std::nullopt;
  const std::string_view date = moment.substr(0, 10);
  const bool iso = date.size() == 10 && date[4] == '-' && date[7] == '-' && all_digits(date.substr(0, 4)) &&
                   all_digits(date.substr(5, 2)) && all_digits(date.substr(8, 2));
  if (!iso) return {};
  const int month = number(date.substr(5, 2));
  const int day = number(date.substr(8, 2));
  if (month < 1 || month > 12 || day < 1 || day > 31)
    return overflow("Perhaps you need a different \"datestyle\" setting.");
  // Of the years before 1 others are leap years: "0005-02-29 BC".
  const bool before_christ = moment.size() > 2 && equal_ignoring_case(moment.substr(moment.size() - 2), "BC");
  if (before_christ) return {};
  if (!datetime::parse_date(date) || (moment.size() > 11 && late(moment.substr(11)))) return overflow({});
  return {};
}

std::optional<Error> input_error(std::string_view text, KeyType type) {
  std::string scratch;
  KeyValue value;
  if (text.size() > longest_quoted || read_text(text, type, scratch, value)) return {};
  switch (type) {
    case KeyType::int2:
    case KeyType::int4:
    case KeyType::int8:
    case KeyType::oid:
      return integer_error(text, type);
    case KeyType::boolean:
    case KeyType::uuid:
      return bad_syntax(text, type);
    case KeyType::numeric:
    case KeyType::float4:
    case KeyType::float8:
      return decimal_error(text, type);
    case KeyType::date:
    case KeyType::timestamp:
    case KeyType::timestamptz:
    case KeyType::time:
      return moment_error(text, type);
    case KeyType::bytea:
      return bytea_error(text);
    case KeyType::macaddr:
      if (only(text, "0123456789abcdefABCDEFxX:.+- \t\n\v\f\r")) return {};
      return bad_syntax(text, type);
    case KeyType::inet:
      if (only(text, "0123456789abcdefABCDEFxX:./ ")) return {};
      return bad_syntax(text, type);
    default:
      return {};
  }
}

// Whether the server, left alone, has neither an operator nor a cast between values of these types. What goes with
// types of other families is left out.
bool unrelated(KeyType a, KeyType b) {
  const auto family = [](KeyType type) {
    if (is_integer(type) || class_of(type) == KeyType::float8) return KeyType::numeric;
    return type == KeyType::date || type == KeyType::timestamptz ? KeyType::timestamp : class_of(type);
  };
  const auto odd = [](KeyType type) {
    return type == KeyType::oid || type == KeyType::char_ || type == KeyType::time || type == KeyType::unsupported;
  };
  return !odd(a) && !odd(b) && family(a) != family(b);
}

}  // namespace

std::optional<Error> value_error(const GivenValue& value, KeyType column, std::string_view stored_in) {
  if (!value.binary) {
    if (std::optional<Error> wrong = input_error(value.text, value.read_as)) return wrong;
  }
  if (stored_in.empty()) {
    if (!unrelated(value.type, column)) return {};
    return error(undefined_function,
                 fmt::format("operator does not exist: {} = {}", name_of(column), name_of(value.type)),
                 "No operator matches the given name and argument types. You might need to add explicit type casts.");
  }
  // All types are stored as text by their output.
  if (unrelated(value.type, column) && class_of(column) != KeyType::text) {
    return error(datatype_mismatch,
                 fmt::format("column \"{}\" is of type {} but expression is of type {}", stored_in, name_of(column),
                             name_of(value.type)),
                 "You will need to rewrite or cast the expression.");
  }
  // Of a whole number nothing else can be wrong.
  const bool whole = is_integer(value.type) || (value.type == KeyType::numeric && !value.binary &&
                                                all_digits(without_sign(trim_space(value.text))));
  if (is_integer(column) && value.type != column && whole)
    return error(sqlstate::numeric_out_of_range, fmt::format("{} out of range", name_of(column)));
  return {};
}

}  // namespace tessera::router
