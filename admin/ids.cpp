#include "admin/ids.hpp"

#include <charconv>
#include <chrono>
#include <fmt/format.h>
#include <optional>

namespace tessera::admin::ids {

namespace {

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || at != text.data() + text.size()) return {};
  return value;
}

}  // namespace

Parts take_apart(std::int64_t id, std::int64_t epoch_ms) {
  const auto bits = static_cast<std::uint64_t>(id);
  const auto since = static_cast<std::int64_t>(bits >> (shard_shift + shard_bits));
  return {epoch_ms + since, static_cast<std::uint32_t>(bits >> shard_shift & ((1u << shard_bits) - 1)),
          static_cast<std::uint32_t>(bits & ((1u << shard_shift) - 1))};
}

Result<std::int64_t> parse_id(std::string_view text) {
  if (const auto value = whole_number(text)) return *value;
  return fail(sqlstate::invalid_text_representation, fmt::format("\"{}\" is not an id", text),
              "a bigint in decimal digits: 1234567890123456789");
}

Result<std::int64_t> parse_epoch(std::string_view text) {
  // So that no time that is 41 bits later overflows, and every year has four digits.
  constexpr std::int64_t latest = 4'102'444'800'000;  // 2100-01-01
  if (const auto value = whole_number(text); value && *value >= 0 && *value <= latest) return *value;
  const auto year = text.size() == 10 ? whole_number(text.substr(0, 4)) : std::nullopt;
  const auto month = text.size() == 10 && text[4] == '-' ? whole_number(text.substr(5, 2)) : std::nullopt;
  const auto day = text.size() == 10 && text[7] == '-' ? whole_number(text.substr(8, 2)) : std::nullopt;
  if (year && month && day && *year >= 1970 && *year <= 2100 && *month > 0 && *day > 0) {
    const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(*year)),
                                           std::chrono::month(static_cast<unsigned>(*month)),
                                           std::chrono::day(static_cast<unsigned>(*day))};
    if (date.ok())
      return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::sys_days(date).time_since_epoch())
          .count();
  }
  return fail(sqlstate::invalid_datetime, fmt::format("\"{}\" is not an epoch", text),
              "a date from 1970 to 2100, 2020-01-31, or milliseconds since 1970");
}

std::string time_text(std::int64_t time_ms) {
  using namespace std::chrono;
  const sys_time<milliseconds> time{milliseconds(time_ms)};
  const auto day = floor<days>(time);
  const year_month_day date(day);
  const hh_mm_ss<milliseconds> clock(time - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), clock.hours().count(),
                     clock.minutes().count(), clock.seconds().count(), clock.subseconds().count());
}

}  // namespace tessera::admin::ids
