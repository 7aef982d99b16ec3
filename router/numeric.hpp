// Exact decimal numbers as text. The canonical form is what two equal numbers share: an optional '-', digits without
// leading zeros (but "0"), and, if there is a fraction, '.' and digits without trailing zeros; or NaN, Infinity,
// -Infinity. There is no "-0". Numbers of more than `max_digits` digits are left to the server.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tessera::router::numeric {

inline constexpr int max_digits = 1000;

// Reads what numeric_in of PostgreSQL 15 accepts (white space around it, exponents, special values). False: it is not a
// number, or a longer one than `max_digits`.
bool from_text(std::string_view text, std::string& canonical);
// The wire's binary form.
bool from_binary(std::string_view bytes, std::string& canonical);

// From here on everything takes the canonical form.
bool special(std::string_view canonical);  // NaN or infinite
// The number as an integer when it is one and fits.
std::optional<std::int64_t> to_int64(std::string_view canonical);
bool integral(std::string_view canonical);
int fractional_digits(std::string_view canonical);
// The server's order: NaN above everything.
int compare(std::string_view a, std::string_view b);
// hash_numeric_extended.
std::uint64_t hash(std::string_view canonical, std::uint64_t seed);

}  // namespace tessera::router::numeric
