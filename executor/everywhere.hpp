// Everywhere: one command without rows (SAVEPOINT, SET, ROLLBACK, CREATE TABLE …) on several shards, at the same time
// or in turn: on connections of a transaction, or, what cannot run in one (VACUUM), on others. The client gets the
// first one's answer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "executor/execution.hpp"

namespace tessera::executor {

class Everywhere final : public Execution {
public:
  enum class Order : std::uint8_t { at_once, in_turn };
  // `sql`: one statement. `settings`: for connections that are not lent.
  Everywhere(std::string sql, const std::vector<Place>& places, Order order, const pool::Settings& settings,
             net::EventLoop& loop, Events events);

private:
  class Part;
  Branch* relaying() const override { return nullptr; }
  void on_acquired() override {
    if (parts_.empty()) conclude({});
  }
  void part_done();
  void part_failed(Error error);

  std::string sql_;
  const Order order_;
  std::vector<Part*> parts_;
  std::size_t done_ = 0;
};

}  // namespace tessera::executor
