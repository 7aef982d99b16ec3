// Compares the bounds of a range rule before the key's type is known: as numbers if all are numbers, as points in time
// if all are ISO dates or timestamps, else as text by bytes. Pure functions.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace tessera::config {

enum class BoundOrder { number, time, text };
BoundOrder order_of(std::span<const std::string_view> bounds);

// Whether the bounds may be in the order of a type other than `order` supposes: they ascend as text, or none of them
// looks like a word, so that they could be addresses, numbers with exponents, times of day, dates and infinity. A rule
// compares them again as values of the key's type.
bool left_to_type(BoundOrder order, std::span<const std::string_view> bounds);

// Both must fit the order, as `order_of` found.
std::strong_ordering compare_bounds(BoundOrder order, std::string_view a, std::string_view b);

// Microseconds since 1970 of YYYY-MM-DD, optionally with a time after a space or a T, optionally with Z or an offset;
// without one as if in UTC.
std::optional<std::int64_t> parse_time(std::string_view text);

}  // namespace tessera::config
