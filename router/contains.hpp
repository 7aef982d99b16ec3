// std::ranges::contains, which the standard library of Debian 12 does not have yet.
#pragma once

#include <algorithm>
#include <functional>

namespace tessera::router {

template <typename Range, typename Value, typename Projection = std::identity>
constexpr bool contains(const Range& range, const Value& value, Projection projection = {}) {
  return std::ranges::find(range, value, projection) != std::ranges::end(range);
}

}  // namespace tessera::router
