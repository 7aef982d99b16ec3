#include "config/bounds.hpp"

#include <algorithm>
#include <chrono>

namespace tessera::config {
namespace {

// A decimal number of any length, without an exponent: keys may be larger than any built-in type.
struct Decimal {
  bool negative = false;
  std::string_view whole;     // without leading zeros
  std::string_view fraction;  // without trailing zeros

  bool zero() const { return whole.empty() && fraction.empty(); }
};

constexpr std::string_view digits = "0123456789";

std::optional<Decimal> parse_decimal(std::string_view text) {
  Decimal number;
  if (text.starts_with('-') || text.starts_with('+')) {
    number.negative = text.front() == '-';
    text.remove_prefix(1);
  }
  const auto point = std::min(text.find('.'), text.size());
  number.whole = text.substr(0, point);
  number.fraction = text.substr(std::min(point + 1, text.size()));
  if (number.whole.empty() && number.fraction.empty()) return std::nullopt;
  if (number.whole.find_first_not_of(digits) != text.npos) return std::nullopt;
  if (number.fraction.find_first_not_of(digits) != text.npos) return std::nullopt;
  number.whole.remove_prefix(std::min(number.whole.find_first_not_of('0'), number.whole.size()));
  number.fraction = number.fraction.substr(0, number.fraction.find_last_not_of('0') + 1);
  return number;
}

std::strong_ordering compare_sizes(const Decimal& a, const Decimal& b) {
  if (a.whole.size() != b.whole.size()) return a.whole.size() <=> b.whole.size();
  if (a.whole != b.whole) return a.whole <=> b.whole;
  return a.fraction <=> b.fraction;  // digit by digit from the point on
}

std::strong_ordering compare_decimals(const Decimal& a, const Decimal& b) {
  const bool a_below_zero = a.negative && !a.zero();
  const bool b_below_zero = b.negative && !b.zero();
  if (a_below_zero != b_below_zero) return b_below_zero <=> a_below_zero;
  return a_below_zero ? compare_sizes(b, a) : compare_sizes(a, b);
}

// Takes parts off the front of a text.
class Scanner {
public:
  explicit Scanner(std::string_view text) : rest_(text) {}
  bool at_end() const { return rest_.empty(); }
  bool skip(std::string_view any_of) {
    if (rest_.empty() || any_of.find(rest_.front()) == any_of.npos) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool next_is(char c) const { return rest_.starts_with(c); }
  // Exactly `width` digits, at most `most`.
  std::optional<int> number(std::size_t width, int most) {
    if (rest_.size() < width) return std::nullopt;
    int value = 0;
    for (const char c : rest_.substr(0, width)) {
      if (c < '0' || c > '9') return std::nullopt;
      value = value * 10 + (c - '0');
    }
    rest_.remove_prefix(width);
    if (value > most) return std::nullopt;
    return value;
  }
  // One to six digits after the point, as microseconds.
  std::optional<int> fraction() {
    int value = 0;
    int width = 0;
    for (; width < 6 && !rest_.empty() && rest_.front() >= '0' && rest_.front() <= '9'; ++width) {
      value = value * 10 + (rest_.front() - '0');
      rest_.remove_prefix(1);
    }
    if (width == 0) return std::nullopt;
    for (; width < 6; ++width) value *= 10;
    return value;
  }

private:
  std::string_view rest_;
};

using std::chrono::microseconds;

std::optional<microseconds> parse_clock(Scanner& in) {
  const auto hours = in.number(2, 24);
  if (!hours || !in.skip(":")) return std::nullopt;
  const auto minutes = in.number(2, 59);
  if (!minutes) return std::nullopt;
  microseconds time = std::chrono::hours(*hours) + std::chrono::minutes(*minutes);
  if (!in.skip(":")) return time;
  const auto seconds = in.number(2, 60);
  if (!seconds) return std::nullopt;
  time += std::chrono::seconds(*seconds);
  if (!in.skip(".")) return time;
  const auto fraction = in.fraction();
  if (!fraction) return std::nullopt;
  return time + microseconds(*fraction);
}

std::optional<microseconds> parse_offset(Scanner& in) {
  if (in.at_end() || in.skip("Zz")) return microseconds(0);
  const int sign = in.next_is('-') ? 1 : -1;  // a place east of Greenwich has the hour earlier
  if (!in.skip("+-")) return std::nullopt;
  const auto hours = in.number(2, 18);
  if (!hours) return std::nullopt;
  in.skip(":");
  const auto minutes = in.at_end() ? 0 : in.number(2, 59);
  if (!minutes) return std::nullopt;
  return sign * microseconds(std::chrono::hours(*hours) + std::chrono::minutes(*minutes));
}

bool is_special(std::string_view text) {
  const auto is = [text](std::string_view word) {
    return std::ranges::equal(text, word, {}, [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; });
  };
  return is("infinity") || is("inf") || is("nan");
}

}  // namespace

std::optional<std::int64_t> parse_time(std::string_view text) {
  Scanner in(text);
  const auto year = in.number(4, 9999);
  if (!year || !in.skip("-")) return std::nullopt;
  const auto month = in.number(2, 12);
  if (!month || !in.skip("-")) return std::nullopt;
  const auto day = in.number(2, 31);
  if (!day) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(*year), std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  microseconds time = std::chrono::sys_days(date).time_since_epoch();
  if (in.at_end()) return time.count();
  if (!in.skip(" T")) return std::nullopt;
  const auto clock = parse_clock(in);
  if (!clock) return std::nullopt;
  const auto offset = parse_offset(in);
  if (!offset || !in.at_end()) return std::nullopt;
  return (time + *clock + *offset).count();
}

BoundOrder order_of(std::span<const std::string_view> bounds) {
  const auto all = [&](auto parse) {
    return std::all_of(bounds.begin(), bounds.end(), [&](std::string_view text) { return parse(text).has_value(); });
  };
  if (all(parse_decimal)) return BoundOrder::number;
  if (all(parse_time)) return BoundOrder::time;
  return BoundOrder::text;
}

bool left_to_type(BoundOrder order, std::span<const std::string_view> bounds) {
  if (std::ranges::adjacent_find(bounds, std::ranges::greater_equal{}) == bounds.end()) return true;
  if (order != BoundOrder::text) return false;
  return std::ranges::all_of(bounds, [](std::string_view bound) {
    constexpr std::string_view first = "0123456789+-.";
    return (!bound.empty() && first.contains(bound.front())) || bound.contains(':') || is_special(bound);
  });
}

std::strong_ordering compare_bounds(BoundOrder order, std::string_view a, std::string_view b) {
  switch (order) {
    case BoundOrder::number:
      return compare_decimals(parse_decimal(a).value(), parse_decimal(b).value());
    case BoundOrder::time:
      return parse_time(a).value() <=> parse_time(b).value();
    case BoundOrder::text:
      break;
  }
  return a <=> b;
}

}  // namespace tessera::config
