// Explain: asks shards for the plans of their parts of a statement, and keeps what they answer. With ANALYZE they run
// them: then it has the connections, and takes its turns, as the statement itself would (execution.hpp, scatter.hpp).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "executor/execution.hpp"

namespace tessera::executor {

class Explain final : public Execution {
public:
  // Of all that is kept.
  static constexpr std::size_t most_bytes = 64 * 1024 * 1024;

  struct Question {
    std::string sql;  // EXPLAIN …; empty: the request's own, with its values
    // Which of the request's values $1, $2, … are, from 1; 0: it is not used. None: they are as there.
    std::optional<std::vector<int>> parameters = {};
    // Where in the client's text an error is whose position is one in `sql`. Empty: not known.
    std::function<int(int position)> client_position = {};
  };
  struct Share {
    Place place;
    std::vector<Question> questions;
  };
  struct Answer {
    std::vector<std::string> lines;
    Duration took{};
  };
  enum class Order : std::uint8_t { at_once, in_turn };

  Explain(Request request, const std::vector<Share>& shares, Order order, const pool::Settings& settings,
          net::EventLoop& loop, Events events);
  // When it is done: of each share, to each question.
  std::vector<std::vector<Answer>> answers() const;

private:
  class Part;
  Branch* relaying() const override { return nullptr; }
  void part_done();

  std::vector<Part*> parts_;
  const Order order_;
  std::size_t done_ = 0;  // parts
  std::size_t kept_ = 0;  // bytes
};

}  // namespace tessera::executor
