// Where in a client's COPY data the rows stand that one shard has got: for its errors, which tell its own lines.
// Remembers the latest rows only, at about a byte each.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "parser/copy_splitter.hpp"

namespace tessera::executor {

class CopyLines {
public:
  explicit CopyLines(std::size_t most_bytes) : most_bytes_(most_bytes) {}

  void add(const parser::CopyRow& row);  // was sent to the shard
  // The client's number of that line, if it is the last one of a row.
  std::optional<std::uint64_t> client_line(std::uint64_t shard_line) const;
  // CONTEXT as it would be if the shard had got all rows; where that cannot be told, without a line. `line`: of the
  // client's.
  std::string translate(std::string_view context, std::string_view table, std::optional<std::uint64_t>& line) const;

private:
  // Steps from row to row: a byte, how many lines further the client is, if the shard is one further; else `escape`,
  // and both as they are.
  struct Chunk {
    std::uint64_t client = 0, shard = 0;  // before its first row
    std::string steps;
  };
  static constexpr std::size_t chunk_bytes = 16 * 1024;
  static constexpr unsigned char escape = 0xff;

  const std::size_t most_bytes_;
  std::deque<Chunk> chunks_;
  std::uint64_t client_ = 0, shard_ = 0;
};

}  // namespace tessera::executor
