// The sorted rows of several shards as one sorted stream: a k-way merge that is fed with bytes as they come, cut
// anywhere, and gives whole rows as soon as it is certain which is next. A row's last columns are its sort keys, in
// binary format; they are dropped. Holds one row of each shard, and what one read brings behind it. That each shard's
// rows do come in the order that is merged by is checked with each row. Pure: no sockets, no clock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "router/sort_key.hpp"

namespace tessera::executor {

class MergeRows {
public:
  struct Key {
    router::SortOrder order;
    router::SortDirection direction;
  };
  struct Form {
    std::uint16_t columns = 0;  // that the client gets
    std::vector<Key> keys;      // the columns behind these
    std::uint64_t offset = 0;   // rows that nobody gets
    std::uint64_t limit = UINT64_MAX;
  };
  // More of one shard is not needed before its rows have been taken.
  static constexpr std::size_t enough = 64 * 1024;
  static constexpr std::size_t most_bytes = 256 * 1024 * 1024;  // of one row

  MergeRows(std::size_t shards, Form form);

  // DataRow messages of a shard. Errors: what comes is no such row, or does not come in order.
  Result<void> take(std::size_t shard, std::string_view bytes);
  // There are no more of them.
  Result<void> end(std::size_t shard);
  // Appends rows for the client until `out` has `most` bytes or the next one is not certain yet.
  Result<void> give(std::string& out, std::size_t most);

  // The next row hangs on this shard, or it will soon. Once all is done everything is wanted, and dropped.
  bool wants(std::size_t shard) const;
  // The client gets no more rows.
  bool done() const { return taken_ == last_ || (waiting_ == 0 && heap_.empty()); }
  std::uint64_t rows() const { return taken_ > form_.offset ? taken_ - form_.offset : 0; }

private:
  struct Stream {
    std::string bytes;
    std::size_t at = 0;       // of the first row that is not taken: the head
    std::size_t size = 0;     // of the head as a message; 0: it is not all there
    std::size_t visible = 0;  // …and without its keys
    std::string key;
    bool ended = false;
  };
  Result<void> load(std::size_t shard);
  void arrive(std::size_t shard);
  bool before(std::size_t a, std::size_t b) const;
  void sift_down(std::size_t at);
  void append_head(const Stream& stream, std::string& out) const;

  const Form form_;
  const std::uint64_t last_;  // rows, those that nobody gets included
  std::uint64_t taken_ = 0;
  std::vector<Stream> streams_;
  std::vector<std::size_t> heap_;  // shards by their heads; the first may have none yet
  std::size_t waiting_;            // for the heads of so many shards
  std::string key_;
};

}  // namespace tessera::executor
