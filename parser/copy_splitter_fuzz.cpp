// Any bytes as COPY data: the rows are the data, in order and without a gap; and where it is cut changes nothing.
#include <cstdlib>

#include "parser/copy_splitter.hpp"

using namespace tessera::parser;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

struct Seen {
  std::string bytes;  // of all rows
  std::vector<std::uint64_t> lines;
  std::vector<std::string> texts;
  bool failed = false;
  std::uint64_t at = 0;
};

Seen split(const CopyFormat& format, std::string_view data, std::size_t step) {
  Seen seen;
  CopySplitter splitter(format, 1 << 20);
  CopyFields fields(format, {{1}, {0, true, true}});
  const auto drain = [&] {
    for (;;) {
      const auto row = splitter.next();
      seen.failed = !row;
      seen.at = splitter.line();
      if (!row || !*row) return;
      require((*row)->kind == CopyRow::Kind::broken || !(*row)->bytes.empty());
      require((*row)->bytes.starts_with((*row)->content));
      seen.bytes += (*row)->bytes;
      if ((*row)->kind == CopyRow::Kind::broken) return;
      seen.lines.push_back((*row)->line);
      if (!fields.read(**row)) continue;
      for (const CopyValue& value : fields.values())
        seen.texts.push_back((value.null ? "-" : "=") + std::string(value.bytes));
    }
  };
  for (std::size_t at = 0; at < data.size() && !seen.failed; at += step) {
    splitter.feed(data.substr(at, step));
    drain();
  }
  splitter.end();
  if (!seen.failed) drain();
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  CopyFormat format;
  format.kind = static_cast<CopyFormat::Kind>(data[0] % 3);
  format.header = (data[0] & 4) != 0;
  if (format.kind == CopyFormat::Kind::csv) {
    format.delimiter = ',';
    format.null = "";
    if ((data[0] & 8) != 0) format.escape = '\\';
  }
  const std::size_t step = 1 + data[1] % 7;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const Seen whole = split(format, text, text.size() + 1), pieces = split(format, text, step);
  require(text.starts_with(whole.bytes));
  // Binary data that is broken at its head or behind its end is given as far as it has come.
  if (format.kind == CopyFormat::Kind::binary)
    require(whole.bytes.starts_with(pieces.bytes));
  else
    require(whole.bytes == pieces.bytes && whole.at == pieces.at);
  require(whole.lines == pieces.lines && whole.texts == pieces.texts && whole.failed == pieces.failed);
  return 0;
}
