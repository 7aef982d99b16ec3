// Dates and times in ISO 8601 form and as the numbers that the server stores: days, or microseconds, from 2000-01-01.
// Only forms that mean the same in every DateStyle, IntervalStyle and time zone are read: a year of four digits first.
// All else is left to the server.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace tessera::router::datetime {

inline constexpr std::int64_t date_infinity = std::numeric_limits<std::int32_t>::max();
inline constexpr std::int64_t date_minus_infinity = std::numeric_limits<std::int32_t>::min();
inline constexpr std::int64_t infinity = std::numeric_limits<std::int64_t>::max();
inline constexpr std::int64_t minus_infinity = std::numeric_limits<std::int64_t>::min();
inline constexpr std::int64_t microseconds_per_day = 86'400'000'000;

// "2024-02-29", "infinity", "-infinity".
std::optional<std::int64_t> parse_date(std::string_view text);
// "12:34", "12:34:56", "12:34:56.789"; 24:00:00 at most.
std::optional<std::int64_t> parse_time(std::string_view text);
// A date, then 'T' or a blank and a time, if any; no zone.
std::optional<std::int64_t> parse_timestamp(std::string_view text);
// The same with a zone as an offset (Z, +02, +0530, -03:30), without which the meaning depends on the session.
std::optional<std::int64_t> parse_timestamptz(std::string_view text);

std::string date_text(std::int64_t days);
std::string time_text(std::int64_t microseconds);
std::string timestamp_text(std::int64_t microseconds);
std::string timestamptz_text(std::int64_t microseconds);  // in UTC: "…+00"

}  // namespace tessera::router::datetime
