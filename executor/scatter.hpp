// Scatter and Concat: one read-only statement runs on several shards at the same time, and the client gets the rows of
// one shard after the other, in shard order. Nothing is buffered: shards whose turn has not come wait with their rows
// in the kernel.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "executor/execution.hpp"

namespace tessera::executor {

class Scatter final : public Execution {
public:
  Scatter(Request request, const std::vector<pool::Pool*>& pools, const pool::Settings& settings, net::EventLoop& loop,
          Events events);

private:
  class Part;
  Branch* relaying() const override { return current_ < parts_.size() ? parts_[current_] : nullptr; }
  void part_described(std::size_t index, std::string_view description);
  void part_done(std::string_view tag);

  std::vector<Branch*> parts_;
  std::size_t current_ = 0;  // whose rows go to the client
  std::string description_;  // the first shard's
  std::uint64_t rows_ = 0;
  std::string verb_;  // "SELECT"
};

}  // namespace tessera::executor
