#include "router/datetime.hpp"

#include <chrono>
#include <cstdlib>
#include <fmt/core.h>

#include "router/text.hpp"

namespace tessera::router::datetime {
namespace {

constexpr std::chrono::sys_days epoch = std::chrono::year{2000} / 1 / 1;
constexpr std::int64_t microseconds_per_second = 1'000'000;

// Takes just `width` digits off the front.
std::optional<int> take_number(std::string_view& text, std::size_t width) {
  if (text.size() < width) return std::nullopt;
  int value = 0;
  for (const char c : text.substr(0, width)) {
    if (!is_digit(c)) return std::nullopt;
    value = value * 10 + (c - '0');
  }
  text.remove_prefix(width);
  return value;
}

bool take_character(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

// Takes "2024-02-29" off the front; days from the epoch.
std::optional<std::int64_t> take_date(std::string_view& text) {
  const auto year = take_number(text, 4);
  if (!year || *year == 0 || !take_character(text, '-')) return std::nullopt;
  const auto month = take_number(text, 2);
  if (!month || !take_character(text, '-')) return std::nullopt;
  const auto day = take_number(text, 2);
  if (!day) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year{*year}, std::chrono::month{static_cast<unsigned>(*month)},
                                         std::chrono::day{static_cast<unsigned>(*day)}};
  if (!date.ok()) return std::nullopt;
  return (std::chrono::sys_days{date} - epoch).count();
}

// Takes ".789" off the front, if it is there. More than six digits would be rounded: not read.
std::optional<std::int64_t> take_fraction(std::string_view& text) {
  if (!take_character(text, '.')) return 0;
  std::int64_t value = 0;
  int digits = 0;
  for (; !text.empty() && is_digit(text.front()); text.remove_prefix(1), ++digits) {
    if (digits == 6) return std::nullopt;
    value = value * 10 + (text.front() - '0');
  }
  if (digits == 0) return std::nullopt;
  for (; digits < 6; ++digits) value *= 10;
  return value;
}

std::optional<std::int64_t> take_time(std::string_view& text) {
  const auto hour = take_number(text, 2);
  if (!hour || !take_character(text, ':')) return std::nullopt;
  const auto minute = take_number(text, 2);
  if (!minute || *minute > 59) return std::nullopt;
  int second = 0;
  std::int64_t fraction = 0;
  if (take_character(text, ':')) {
    const auto seconds = take_number(text, 2);
    if (!seconds || *seconds > 59) return std::nullopt;
    second = *seconds;
    const auto micros = take_fraction(text);
    if (!micros) return std::nullopt;
    fraction = *micros;
  }
  const std::int64_t time = ((*hour * 60 + *minute) * 60LL + second) * microseconds_per_second + fraction;
  if (time > microseconds_per_day) return std::nullopt;
  return time;
}

std::optional<std::int64_t> take_timestamp(std::string_view& text) {
  const auto days = take_date(text);
  if (!days) return std::nullopt;
  std::int64_t time = 0;
  const bool has_time = text.size() > 1 && (text.front() == 'T' || text.front() == ' ') && is_digit(text[1]);
  if (has_time) {
    text.remove_prefix(1);
    const auto taken = take_time(text);
    if (!taken) return std::nullopt;
    time = *taken;
  }
  return *days * microseconds_per_day + time;
}

// Takes an offset from UTC off the front; microseconds.
std::optional<std::int64_t> take_offset(std::string_view& text) {
  if (take_character(text, 'Z') || take_character(text, 'z')) return 0;
  const bool west = text.starts_with('-');
  if (!west && !text.starts_with('+')) return std::nullopt;
  text.remove_prefix(1);
  const auto hours = take_number(text, 2);
  if (!hours || *hours > 15) return std::nullopt;
  int minutes = 0;
  if (!text.empty()) {
    take_character(text, ':');
    const auto taken = take_number(text, 2);
    if (!taken || *taken > 59) return std::nullopt;
    minutes = *taken;
  }
  const std::int64_t offset = (*hours * 60LL + minutes) * 60 * microseconds_per_second;
  return west ? -offset : offset;
}

std::optional<std::int64_t> infinite(std::string_view text, std::int64_t low, std::int64_t high) {
  if (equal_ignoring_case(text, "infinity") || equal_ignoring_case(text, "+infinity")) return high;
  if (equal_ignoring_case(text, "-infinity")) return low;
  return std::nullopt;
}

}  // namespace

std::optional<std::int64_t> parse_date(std::string_view text) {
  text = trim_space(text);
  if (const auto bound = infinite(text, date_minus_infinity, date_infinity)) return bound;
  const auto days = take_date(text);
  return text.empty() ? days : std::nullopt;
}

std::optional<std::int64_t> parse_time(std::string_view text) {
  text = trim_space(text);
  const auto time = take_time(text);
  return text.empty() ? time : std::nullopt;
}

std::optional<std::int64_t> parse_timestamp(std::string_view text) {
  text = trim_space(text);
  if (const auto bound = infinite(text, minus_infinity, infinity)) return bound;
  const auto time = take_timestamp(text);
  return text.empty() ? time : std::nullopt;
}

std::optional<std::int64_t> parse_timestamptz(std::string_view text) {
  text = trim_space(text);
  if (const auto bound = infinite(text, minus_infinity, infinity)) return bound;
  // A zone directly behind a date ("2024-01-01-03") is read by the server in ways that are not worth copying.
  if (!text.contains(':')) return std::nullopt;
  const auto time = take_timestamp(text);
  if (!time) return std::nullopt;
  if (text.starts_with(' ')) text.remove_prefix(1);
  const auto offset = take_offset(text);
  if (!offset || !text.empty()) return std::nullopt;
  return *time - *offset;
}

std::string date_text(std::int64_t days) {
  if (days == date_infinity) return "infinity";
  if (days == date_minus_infinity) return "-infinity";
  const std::chrono::year_month_day date{epoch + std::chrono::days{days}};
  // Years before 1 are the server's "BC", of which the year 0 is 1 BC.
  const int year = static_cast<int>(date.year());
  return fmt::format("{:04}-{:02}-{:02}{}", year > 0 ? year : 1 - year, static_cast<unsigned>(date.month()),
                     static_cast<unsigned>(date.day()), year > 0 ? "" : " BC");
}

std::string time_text(std::int64_t microseconds) {
  const std::int64_t seconds = microseconds / microseconds_per_second;
  std::string text = fmt::format("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
  if (const std::int64_t fraction = microseconds % microseconds_per_second; fraction != 0) {
    text += fmt::format(".{:06}", fraction);
    while (text.ends_with('0')) text.pop_back();
  }
  return text;
}

std::string timestamp_text(std::int64_t microseconds) {
  if (microseconds == infinity) return "infinity";
  if (microseconds == minus_infinity) return "-infinity";
  std::int64_t days = microseconds / microseconds_per_day;
  if (microseconds % microseconds_per_day < 0) --days;
  std::string text = date_text(days);
  const bool before_christ = text.ends_with(" BC");
  if (before_christ) text.resize(text.size() - 3);
  return text + ' ' + time_text(microseconds - days * microseconds_per_day) + (before_christ ? " BC" : "");
}

std::string timestamptz_text(std::int64_t microseconds) {
  std::string text = timestamp_text(microseconds);
  if (text.ends_with("infinity")) return text;
  const bool before_christ = text.ends_with(" BC");
  if (before_christ) text.resize(text.size() - 3);
  return text + "+00" + (before_christ ? " BC" : "");
}

}  // namespace tessera::router::datetime
