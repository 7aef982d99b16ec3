// Tessera's 64-bit ids: from the top 41 bits of milliseconds since an epoch, 13 bits of shard number, 10 bits of
// sequence. As a bigint such an id is negative once its time has reached 2^40 ms (34 years). An `embedded` rule with
// its default settings reads the same 13 bits. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace tessera::admin::ids {

inline constexpr int shard_shift = 10, shard_bits = 13;
inline constexpr std::int64_t epoch = 1'577'836'800'000;  // 2020-01-01T00:00:00Z, milliseconds since 1970

struct Parts {
  std::int64_t time_ms = 0;  // since 1970
  std::uint32_t shard = 0;
  std::uint32_t sequence = 0;
  friend bool operator==(const Parts&, const Parts&) = default;
};

Parts take_apart(std::int64_t id, std::int64_t epoch_ms = epoch);
// A bigint in decimal digits.
Result<std::int64_t> parse_id(std::string_view text);
// A date, 2020-01-31, or milliseconds since 1970.
Result<std::int64_t> parse_epoch(std::string_view text);
// 2024-08-30T12:36:47.014Z
std::string time_text(std::int64_t time_ms);

}  // namespace tessera::admin::ids
