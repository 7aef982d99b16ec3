// Everywhere: one command without rows (SAVEPOINT, SET, ROLLBACK …) on all connections of a transaction, at the same
// time or in turn. The client gets the first one's answer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "executor/execution.hpp"

namespace tessera::executor {

class Everywhere final : public Execution {
public:
  enum class Order : std::uint8_t { at_once, in_turn };
  // `places`: lent, in a transaction. `sql`: one statement.
  Everywhere(std::string sql, const std::vector<Place>& places, Order order, net::EventLoop& loop, Events events);

private:
  class Part;
  Branch* relaying() const override { return nullptr; }
  void part_done();

  std::string sql_;
  const Order order_;
  std::vector<Part*> parts_;
  std::size_t done_ = 0;
};

}  // namespace tessera::executor
