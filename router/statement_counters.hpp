// What one shape of statement has done, on one worker. A cached plan holds it, so that counting needs no look-up: a
// statement pays a few additions to memory that is at hand. Not shared between threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "base/ids.hpp"

namespace tessera::router {

struct StatementCounters {
  std::string text;  // its literals replaced; cut off
  std::uint64_t calls = 0, errors = 0, rows = 0;
  std::uint64_t timed = 0, total_us = 0, max_us = 0;
  std::uint64_t min_us = std::numeric_limits<std::uint64_t>::max();
  std::vector<std::uint64_t> shards;  // a bit for each shard that it has been sent to

  void sent_to(ShardId shard) {
    const std::size_t word = shard.value() / 64;
    if (word < shards.size()) shards[word] |= std::uint64_t{1} << (shard.value() % 64);
  }
  void took(std::uint64_t us) {
    ++timed;
    total_us += us;
    min_us = std::min(min_us, us);
    max_us = std::max(max_us, us);
  }
};

}  // namespace tessera::router
