#include "executor/merge_rows.hpp"

#include <algorithm>
#include <utility>

#include "base/byte_reader.hpp"
#include "wire/postgres/backend.hpp"

namespace tessera::executor {
namespace {

std::unexpected<Error> malformed() {
  return std::unexpected(Error{sqlstate::protocol_violation, "a server sent a malformed row", {}, {}, 0});
}

void append_u32(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
}

std::optional<std::string_view> value_of(ByteReader& reader) {
  const std::int32_t length = reader.i32();
  if (length == -1) return std::nullopt;
  if (length < 0) reader.fail();
  return reader.bytes(static_cast<std::size_t>(std::max(length, 0)));
}

}  // namespace

MergeRows::MergeRows(std::size_t shards, Form form)
    : form_(std::move(form)),
      last_(form_.limit > UINT64_MAX - form_.offset ? UINT64_MAX : form_.limit + form_.offset),
      streams_(shards),
      waiting_(shards) {}

bool MergeRows::wants(std::size_t shard) const {
  const Stream& stream = streams_[shard];
  return done() || stream.size == 0 || stream.bytes.size() - stream.at < enough;
}

Result<void> MergeRows::take(std::size_t shard, std::string_view bytes) {
  if (done()) return {};
  Stream& stream = streams_[shard];
  stream.bytes.erase(0, std::exchange(stream.at, 0));
  stream.bytes.append(bytes);
  if (stream.size != 0) return {};
  if (auto loaded = load(shard); !loaded) return loaded;
  if (stream.size == 0 && stream.bytes.size() > most_bytes)
    return std::unexpected(Error{sqlstate::configuration_limit_exceeded,
                                 "a row is too large to be put in order with those of other shards",
                                 {},
                                 "select less of it",
                                 0});
  if (stream.size != 0) arrive(shard);
  return {};
}

Result<void> MergeRows::end(std::size_t shard) {
  Stream& stream = streams_[shard];
  stream.ended = true;
  if (done() || stream.size != 0) return {};
  if (stream.at != stream.bytes.size()) return malformed();
  arrive(shard);
  return {};
}

// A shard that was waited for has a head, or no more rows.
void MergeRows::arrive(std::size_t shard) {
  --waiting_;
  const bool has_row = streams_[shard].size != 0;
  // Behind the first rows it is always the one whose row was taken last.
  if (!heap_.empty() && heap_.front() == shard) {
    if (!has_row) {
      heap_.front() = heap_.back();
      heap_.pop_back();
    }
    return sift_down(0);
  }
  if (has_row) heap_.push_back(shard);
  if (waiting_ == 0)
    for (std::size_t i = heap_.size() / 2; i-- > 0;) sift_down(i);
}

Result<void> MergeRows::give(std::string& out, std::size_t most) {
  while (waiting_ == 0 && !heap_.empty() && taken_ < last_ && out.size() < most) {
    const std::size_t shard = heap_.front();
    Stream& stream = streams_[shard];
    if (taken_++ >= form_.offset) append_head(stream, out);
    stream.at += std::exchange(stream.size, 0);
    if (auto loaded = load(shard); !loaded) return loaded;
    if (stream.size != 0) {
      sift_down(0);
      continue;
    }
    ++waiting_;
    if (!stream.ended) break;
    if (stream.at != stream.bytes.size()) return malformed();
    arrive(shard);
  }
  return {};
}

// The row at the front, if it is all there, becomes the head.
Result<void> MergeRows::load(std::size_t shard) {
  Stream& stream = streams_[shard];
  const std::string_view rest = std::string_view(stream.bytes).substr(stream.at);
  postgres::FrameHeader header;
  const postgres::FrameStatus status = postgres::peek_frame(rest, postgres::max_message_length, header);
  if (status == postgres::FrameStatus::malformed) return malformed();
  if (status != postgres::FrameStatus::complete) return {};
  ByteReader row(postgres::frame_body(rest, header));
  const std::uint16_t columns = row.u16();
  if (header.type != postgres::backend::data_row || columns != form_.columns + form_.keys.size()) return malformed();
  for (std::uint16_t i = 0; i < form_.columns; ++i) value_of(row);
  const std::size_t visible = header.total_size() - row.left();
  key_.clear();
  for (const Key& key : form_.keys) {
    const auto value = value_of(row);
    if (!row.ok() || !router::append_sort_key(key_, key.order, key.direction, value)) return malformed();
  }
  if (!row.finished()) return malformed();
  if (key_ < stream.key)
    return std::unexpected(Error{sqlstate::internal_error,
                                 "a shard's rows do not come in the order of ORDER BY",
                                 "a collation or a type may be another there than on the other shards",
                                 {},
                                 0});
  std::swap(key_, stream.key);
  stream.size = header.total_size();
  stream.visible = visible;
  return {};
}

// Equal ones come in the order of the shards.
bool MergeRows::before(std::size_t a, std::size_t b) const {
  const int order = streams_[a].key.compare(streams_[b].key);
  return order != 0 ? order < 0 : a < b;
}

void MergeRows::sift_down(std::size_t at) {
  while (true) {
    std::size_t child = 2 * at + 1;
    if (child >= heap_.size()) return;
    if (child + 1 < heap_.size() && before(heap_[child + 1], heap_[child])) ++child;
    if (!before(heap_[child], heap_[at])) return;
    std::swap(heap_[at], heap_[child]);
    at = child;
  }
}

void MergeRows::append_head(const Stream& stream, std::string& out) const {
  constexpr std::size_t count_size = 2;
  out += postgres::backend::data_row;
  append_u32(out, static_cast<std::uint32_t>(stream.visible - 1));
  out += static_cast<char>(form_.columns >> 8);
  out += static_cast<char>(form_.columns);
  const std::size_t head = postgres::frame_header_size + count_size;
  out.append(stream.bytes, stream.at + head, stream.visible - head);
}

}  // namespace tessera::executor
