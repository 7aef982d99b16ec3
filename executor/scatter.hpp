// Scatter and Concat: one statement runs on several shards at the same time, and the client gets the rows of one shard
// after the other, in shard order, and the sum of their counts. Nothing is buffered: shards whose turn has not come
// wait with their rows in the kernel. What writes runs on connections that a transaction lends; and on one shard after
// the other, so that two of them that lock the same rows cannot wait for each other.
//
// With a limit each shard gives that many rows at most; they are held, and the first of them relayed.
//
// Likewise Split, where each shard has a statement of its own with its rows of an INSERT, and the rows that these
// return come in the order of the statement; and Replicate, where each shard does the same, and the client gets the
// first one's answer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "executor/copy_out.hpp"
#include "executor/execution.hpp"

namespace tessera::executor {

// What one shard runs.
struct Piece {
  Place place;
  // Split: its statement, which of the whole's parameters $1, $2, … of that are (from 1), and its rows of the whole.
  std::string sql = {};
  std::vector<int> parameters = {};
  std::vector<std::uint32_t> rows = {};
  int columns = 0;  // …and how many characters it has, from which position, that the client has not written
  int columns_at = 0;
  // COPY … TO STDOUT: what becomes of its stream; and a query with the same columns, since it does not tell them.
  std::optional<CopyOut> copy_out = {};
  std::string probe = {};
};

enum class Combine : std::uint8_t {
  concatenate,  // rows in shard order, counts added up
  by_row,       // the rows that a Split returns, each in its place; counts added up
  first         // the first one's; the counts must agree
};

class Scatter final : public Execution {
public:
  // Held in memory with Combine::by_row, or with a limit.
  static constexpr std::size_t most_bytes = 256 * 1024 * 1024;

  enum class Order : std::uint8_t { at_once, in_turn };
  Scatter(Request request, std::vector<Piece> pieces, Combine combine, Order order, const pool::Settings& settings,
          net::EventLoop& loop, Events events);

  static Error copies_differ(std::uint64_t rows, std::uint64_t other_rows);

private:
  class Part;
  Branch* relaying() const override;
  void part_described(std::size_t index);
  void part_done(std::string_view tag);
  void relay_held();
  std::vector<Part*> parts_of_rows() const;
  bool holds() const { return combine_ == Combine::by_row || request_.limit > 0; }

  std::vector<Part*> parts_;
  const Combine combine_;
  const Order order_;
  std::size_t current_ = 0;  // whose rows go to the client
  std::size_t held_ = 0;     // bytes of rows
  std::size_t done_ = 0;     // parts
  std::uint64_t rows_ = 0;
  std::string verb_;  // "SELECT", "INSERT 0"
};

}  // namespace tessera::executor
