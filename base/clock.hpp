// Time for deadlines and latencies: monotonic, never the wall clock, passed in as a value so that tests choose it.
#pragma once

#include <chrono>

namespace tessera {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = std::chrono::nanoseconds;
inline constexpr TimePoint never = TimePoint::max();

}  // namespace tessera
