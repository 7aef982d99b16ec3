// The streams of COPY … TO STDOUT from several shards as one: what stands once before all rows, or behind them, comes
// from the first shard, or the last. Pure; holds a few bytes.
#pragma once

#include <string>
#include <string_view>

#include "parser/copy_splitter.hpp"

namespace tessera::executor {

class CopyOut {
public:
  CopyOut(const parser::CopyFormat& format, bool first, bool last)
      : binary_(format.kind == parser::CopyFormat::Kind::binary), header_(format.header), first_(first), last_(last) {}

  // What a server sends, cut anywhere: adds to `out` what the client gets of it. A server sends each row, and a header,
  // in a CopyData of its own; those of binary data stand before the first row, or the end (copyto.c).
  void append(std::string_view bytes, std::string& out);

private:
  void begin_message(std::string& out);
  void begin_binary(std::string& out);

  const bool binary_, header_, first_, last_;
  bool data_seen_ = false;
  std::string head_;      // of a message, while it is not known what becomes of it
  std::size_t left_ = 0;  // of a message's body
  bool keep_ = false;
};

}  // namespace tessera::executor
