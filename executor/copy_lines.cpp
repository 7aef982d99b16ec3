#include "executor/copy_lines.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fmt/format.h>

namespace tessera::executor {

void CopyLines::add(const parser::CopyRow& row) {
  const std::uint64_t client = row.line - client_;
  const std::uint64_t shard = shard_ == 0 ? row.lines_as_first : row.lines;
  if (chunks_.empty() || chunks_.back().steps.size() >= chunk_bytes) {
    chunks_.push_back({client_, shard_, {}});
    if (chunks_.size() > std::max<std::size_t>(2, most_bytes_ / chunk_bytes)) chunks_.pop_front();
  }
  std::string& steps = chunks_.back().steps;
  if (shard == 1 && client < escape) {
    steps += static_cast<char>(client);
  } else {
    steps += static_cast<char>(escape);
    steps.append(reinterpret_cast<const char*>(&client), sizeof client);
    steps.append(reinterpret_cast<const char*>(&shard), sizeof shard);
  }
  client_ += client;
  shard_ += shard;
}

std::optional<std::uint64_t> CopyLines::client_line(std::uint64_t shard_line) const {
  const auto behind = std::ranges::lower_bound(chunks_, shard_line, {}, &Chunk::shard);
  if (behind == chunks_.begin()) return {};
  const Chunk& chunk = *std::prev(behind);
  std::uint64_t client = chunk.client, shard = chunk.shard;
  for (std::size_t at = 0; at < chunk.steps.size() && shard < shard_line;) {
    std::uint64_t further = static_cast<unsigned char>(chunk.steps[at++]), lines = 1;
    if (further == escape) {
      std::memcpy(&further, chunk.steps.data() + at, sizeof further);
      std::memcpy(&lines, chunk.steps.data() + at + sizeof further, sizeof lines);
      at += sizeof further + sizeof lines;
    }
    client += further;
    shard += lines;
  }
  return shard == shard_line ? std::optional(client) : std::nullopt;
}

std::string CopyLines::translate(std::string_view context, std::string_view table,
                                 std::optional<std::uint64_t>& line) const {
  const std::string prefix = fmt::format("COPY {}, line ", table);
  std::size_t at = context.find(prefix);
  while (at != std::string_view::npos && at != 0 && context[at - 1] != '\n') at = context.find(prefix, at + 1);
  if (at == std::string_view::npos) return std::string(context);
  const std::size_t begin = at + prefix.size();
  std::uint64_t own = 0;
  const auto [end, error] = std::from_chars(context.data() + begin, context.data() + context.size(), own);
  const std::string_view rest = context.substr(static_cast<std::size_t>(end - context.data()));
  line = error == std::errc{} ? client_line(own) : std::nullopt;
  if (line) return fmt::format("{}{}{}", context.substr(0, begin), *line, rest);
  return fmt::format("{}{}", context.substr(0, begin - std::string_view(", line ").size()), rest);
}

}  // namespace tessera::executor
