#include "parser/copy_splitter.hpp"

#include <algorithm>
#include <utility>

namespace tessera::parser {

namespace {

constexpr SqlState bad_copy_file_format{"22P04"};
constexpr std::string_view signature("PGCOPY\n\377\r\n\0", 11);
constexpr std::size_t binary_head = signature.size() + 8;  // flags, length of the extension
constexpr std::uint32_t critical_flags = 0xffff0000;
constexpr std::size_t most_buffered = 64 * 1024;  // that is kept allocated

std::unexpected<Error> bad_format(std::string_view message, std::string_view hint = {}) {
  return fail(bad_copy_file_format, std::string(message), std::string(hint));
}

}  // namespace

CopySplitter::CopySplitter(CopyFormat format, std::size_t most_bytes)
    : format_(std::move(format)), most_bytes_(most_bytes) {
  const auto mark = [this](char c) { special_[static_cast<unsigned char>(c)] = true; };
  for (const char c : {'\n', '\r', '\\'}) mark(c);
  if (format_.kind != CopyFormat::Kind::csv) return;
  mark(format_.quote);
  mark(format_.escape);
}

void CopySplitter::feed(std::string_view bytes) {
  if (stage_ == Stage::over) return;
  buffer_.erase(0, begin_);
  at_ -= begin_;
  begin_ = 0;
  if (buffer_.empty() && buffer_.capacity() > most_buffered) std::string().swap(buffer_);
  buffer_.append(bytes);
}

Result<std::optional<CopyRow>> CopySplitter::next() {
  if (stage_ == Stage::over) return std::optional<CopyRow>();
  Result<std::optional<CopyRow>> row = format_.kind == CopyFormat::Kind::binary ? next_binary() : next_line();
  if (row && !*row && buffer_.size() - begin_ > most_bytes_)
    return fail(sqlstate::program_limit_exceeded, "a row of this COPY is too long", "see limits.message_size");
  return row;
}

// The row from begin_ up to at_.
std::optional<CopyRow> CopySplitter::take(CopyRow::Kind kind, std::size_t content_end) {
  CopyRow row{.kind = kind, .bytes = {}, .content = {}, .line = line_};
  row.bytes = std::string_view(buffer_).substr(begin_, at_ - begin_);
  row.content = std::string_view(buffer_).substr(begin_, content_end - begin_);
  row.lines = 1 + embedded_;
  row.lines_as_first = 1 + embedded_as_first_;
  begin_ = at_;
  embedded_ = embedded_as_first_ = 0;
  in_quotes_ = after_escape_ = false;
  first_in_line_ = true;
  return row;
}

// ---- text and csv: CopyReadLineText ---------------------------------------------------------------------------------

Result<std::optional<CopyRow>> CopySplitter::next_line() {
  const bool csv = format_.kind == CopyFormat::Kind::csv;
  const auto taken = [this](std::size_t content_end, Stage stage) {
    line_ += 1 + embedded_;
    const bool names = std::exchange(stage_, stage) == Stage::head && format_.header;
    return take(names ? CopyRow::Kind::everywhere : CopyRow::Kind::row, content_end);
  };
  for (;;) {
    const std::size_t before = at_;
    while (at_ < buffer_.size() && !special_[static_cast<unsigned char>(buffer_[at_])]) ++at_;
    if (at_ > before) after_escape_ = first_in_line_ = false;
    if (at_ == buffer_.size()) {
      if (!ended_ || at_ == begin_) return std::optional<CopyRow>();
      return taken(at_, Stage::over);
    }
    const char c = buffer_[at_];
    // What is looked at behind it must be there before anything is noted.
    const bool marker = c == '\\' && (!csv || first_in_line_);
    if (c == '\r' && lacks(2)) return std::optional<CopyRow>();
    if (marker && (lacks(2) || (peek(1) == '.' && lacks(line_end_ == LineEnd::crnl ? 4 : 3))))
      return std::optional<CopyRow>();
    const bool quoted = csv && note_quotes(c);
    if (!quoted && (c == '\r' || c == '\n')) {
      std::size_t content_end = at_;
      if (const Result<bool> ends = line_ends(c, content_end); !ends) return std::unexpected(ends.error());
      return taken(content_end, Stage::rows);
    }
    if (marker && peek(1) == '.') {
      const std::size_t content_end = at_;
      const Result<bool> ends = marker_ends();
      if (!ends) return std::unexpected(ends.error());
      if (*ends) {
        if (content_end > begin_) return taken(content_end, Stage::over);
        stage_ = Stage::over;
        return std::optional<CopyRow>();
      }
    }
    // In text the character behind a backslash means something else, whatever it is.
    at_ += marker && !csv && at_ + 1 < buffer_.size() ? 2 : 1;
    first_in_line_ = false;
  }
}

// Of csv. True: `c` is within quotes.
bool CopySplitter::note_quotes(char c) {
  const bool own_escape = format_.escape != format_.quote;
  if (in_quotes_ && own_escape && c == format_.escape) after_escape_ = !after_escape_;
  if (c == format_.quote && !after_escape_) in_quotes_ = !in_quotes_;
  if (!own_escape || c != format_.escape) after_escape_ = false;
  if (in_quotes_ && c == (line_end_ == LineEnd::nl ? '\n' : '\r')) ++embedded_;
  if (in_quotes_ && c == '\r') ++embedded_as_first_;
  return in_quotes_;
}

// The line ends here, with `c`.
Result<bool> CopySplitter::line_ends(char c, std::size_t& content_end) {
  const bool csv = format_.kind == CopyFormat::Kind::csv;
  const auto other = [csv](bool newline) {
    const std::string_view name = newline ? "newline" : "carriage return";
    return bad_format((csv ? "unquoted " : "literal ") + std::string(name) + " found in data",
                      csv       ? "Use quoted CSV field to represent " + std::string(name) + "."
                      : newline ? std::string("Use \"\\n\" to represent newline.")
                                : std::string("Use \"\\r\" to represent carriage return."));
  };
  content_end = at_;
  if (c == '\n') {
    if (line_end_ == LineEnd::cr || line_end_ == LineEnd::crnl) return other(true);
    line_end_ = LineEnd::nl;
    ++at_;
    return true;
  }
  if (line_end_ == LineEnd::nl) return other(false);
  const bool both = line_end_ != LineEnd::cr && peek(1) == '\n';
  if (line_end_ == LineEnd::crnl && !both) return other(false);
  line_end_ = both ? LineEnd::crnl : LineEnd::cr;
  at_ += both ? 2 : 1;
  return true;
}

// Behind a backslash stands a dot. False: it is no end of the data; then at_ is where it was.
Result<bool> CopySplitter::marker_ends() {
  const bool csv = format_.kind == CopyFormat::Kind::csv;
  const auto otherwise = [csv](std::string_view message) -> Result<bool> {
    if (csv) return false;
    return bad_format(message);
  };
  constexpr std::string_view corrupt = "end-of-copy marker corrupt";
  constexpr std::string_view unlike = "end-of-copy marker does not match previous newline style";
  std::size_t length = 2;
  if (line_end_ == LineEnd::crnl) {
    const char c = peek(length++);
    if (c == '\n') return otherwise(unlike);
    if (c != '\r') return otherwise(corrupt);
  }
  const char c = peek(length++);
  if (c != '\r' && c != '\n') return otherwise(corrupt);
  const bool same = line_end_ == LineEnd::unknown || c == (line_end_ == LineEnd::cr ? '\r' : '\n');
  if (!same) return bad_format(unlike);
  at_ += length;
  return true;
}

// ---- binary: BinaryCopyRead -----------------------------------------------------------------------------------------

std::uint32_t CopySplitter::number(std::size_t at, std::size_t bytes) const {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i) value = value << 8 | static_cast<unsigned char>(buffer_[at + i]);
  return value;
}

std::optional<CopyRow> CopySplitter::broken(std::size_t end) {
  stage_ = Stage::over;
  at_ = end;
  return take(CopyRow::Kind::broken, end);
}

// There are not as many bytes as are needed: they may come, or the data ends in the middle.
std::optional<CopyRow> CopySplitter::cut_short() {
  return ended_ ? broken(buffer_.size()) : std::nullopt;
}

std::optional<CopyRow> CopySplitter::next_binary() {
  const std::size_t available = buffer_.size() - at_;
  switch (stage_) {
    case Stage::head: {
      const std::size_t told = std::min(available, signature.size());
      if (std::string_view(buffer_).substr(at_, told) != signature.substr(0, told)) return broken(buffer_.size());
      if (available < binary_head) return cut_short();
      const std::uint32_t flags = number(at_ + signature.size(), 4);
      const std::uint32_t extension = number(at_ + signature.size() + 4, 4);
      if ((flags & critical_flags) != 0 || extension > most_bytes_) return broken(buffer_.size());
      if (available < binary_head + extension) return cut_short();
      stage_ = Stage::rows;
      at_ += binary_head + extension;
      return take(CopyRow::Kind::everywhere, at_);
    }
    case Stage::rows:
      return next_binary_row();
    case Stage::ended:
      return available == 0 ? std::nullopt : broken(buffer_.size());
    case Stage::over:
      break;
  }
  return {};
}

std::optional<CopyRow> CopySplitter::next_binary_row() {
  const auto available = [this] { return buffer_.size() - at_; };
  if (!fields_) {
    if (available() < 2) return {};  // where the data ends without saying so, half a number is nothing
    const auto count = static_cast<std::int16_t>(number(at_, 2));
    at_ += 2;
    ++line_;
    if (count == -1) {
      stage_ = Stage::ended;
      return take(CopyRow::Kind::everywhere, at_);
    }
    if (count < 0) return broken(at_);
    fields_ = count;
  }
  for (; *fields_ > 0; --*fields_) {
    if (available() < 4) return cut_short();
    const auto size = static_cast<std::int32_t>(number(at_, 4));
    if (size < -1) return broken(at_ + 4);
    const std::size_t whole = 4 + (size < 0 ? 0 : static_cast<std::size_t>(size));
    if (available() < whole) return cut_short();
    at_ += whole;
  }
  fields_.reset();
  return take(CopyRow::Kind::row, at_);
}

// ---- values ---------------------------------------------------------------------------------------------------------

CopyFields::CopyFields(CopyFormat format, std::vector<CopyColumn> wanted)
    : format_(std::move(format)), wanted_(std::move(wanted)), values_(wanted_.size()), decoded_(wanted_.size()) {
  for (const CopyColumn& column : wanted_) last_ = std::max(last_, column.position);
}

std::size_t CopyFields::wanted_at(std::size_t position) const {
  return static_cast<std::size_t>(std::ranges::find(wanted_, position, &CopyColumn::position) - wanted_.begin());
}

bool CopyFields::read(const CopyRow& row) {
  if (wanted_.empty()) return true;
  switch (format_.kind) {
    case CopyFormat::Kind::text:
      return read_text(row.content);
    case CopyFormat::Kind::csv:
      return read_csv(row.content);
    case CopyFormat::Kind::binary:
      return read_binary(row.bytes);
  }
  return false;
}

// As the options say for its column. (Where one column is wanted twice, its value is there twice.)
void CopyFields::store(std::size_t index, bool null, std::string_view bytes) {
  const std::size_t position = wanted_[index].position;
  for (std::size_t i = index; i < wanted_.size(); ++i) {
    const CopyColumn& column = wanted_[i];
    if (column.position != position) continue;
    CopyValue value{null, bytes};
    if (null && column.force_not_null) value = {false, format_.null};
    // strcmp() looks no further than a zero byte, which no server takes anyway.
    if (!null && column.force_null && bytes == format_.null) value = {true, {}};
    values_[i] = value;
  }
}

// CopyReadAttributesText.
bool CopyFields::read_text(std::string_view content) {
  std::size_t at = 0;
  for (std::size_t position = 0;; ++position) {
    const std::size_t begin = at;
    std::size_t end = at;
    bool escaped = false;
    for (; at < content.size() && content[at] != format_.delimiter; end = ++at) {
      if (content[at] != '\\') continue;
      if (++at == content.size()) break;  // a backslash at the end is nothing
      escaped = true;
    }
    const std::string_view raw = content.substr(begin, end - begin);
    if (const std::size_t index = wanted_at(position); index < wanted_.size()) {
      const bool null = raw == format_.null;
      if (escaped && !null) decode_text(raw, decoded_[index]);
      store(index, null, null ? std::string_view() : escaped ? std::string_view(decoded_[index]) : raw);
    }
    if (position == last_) return true;
    if (at == content.size()) return false;
    ++at;
  }
}

void CopyFields::decode_text(std::string_view raw, std::string& out) const {
  out.clear();
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  const auto hex = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  for (std::size_t at = 0; at < raw.size();) {
    char c = raw[at++];
    if (c != '\\') {
      out += c;
      continue;
    }
    c = raw[at++];  // there is one
    if (octal(c)) {
      int value = c - '0';
      for (int i = 0; i < 2 && at < raw.size() && octal(raw[at]); ++i) value = (value << 3) + (raw[at++] - '0');
      c = static_cast<char>(value & 0377);
    } else if (c == 'x' && at < raw.size() && hex(raw[at]) >= 0) {
      int value = hex(raw[at++]);
      if (at < raw.size() && hex(raw[at]) >= 0) value = (value << 4) + hex(raw[at++]);
      c = static_cast<char>(value & 0xff);
    } else {
      constexpr std::string_view letters = "bfnrtv", meant = "\b\f\n\r\t\v";
      if (const std::size_t letter = letters.find(c); letter != std::string_view::npos) c = meant[letter];
    }
    out += c;
  }
}

// CopyReadAttributesCSV.
bool CopyFields::read_csv(std::string_view content) {
  std::size_t at = 0;
  for (std::size_t position = 0;; ++position) {
    const std::size_t begin = at;
    const std::size_t index = wanted_at(position);
    std::string* const out = index < wanted_.size() ? &decoded_[index] : nullptr;
    const auto add = [out](char c) {
      if (out != nullptr) *out += c;
    };
    if (out != nullptr) out->clear();
    bool quoted = false;
    for (; at < content.size() && content[at] != format_.delimiter; ++at) {
      if (content[at] != format_.quote) {
        add(content[at]);
        continue;
      }
      quoted = true;
      for (++at;; ++at) {
        if (at == content.size()) return false;  // unterminated
        const char c = content[at];
        const bool more = at + 1 < content.size();
        if (c == format_.escape && more && (content[at + 1] == format_.escape || content[at + 1] == format_.quote)) {
          add(content[++at]);
          continue;
        }
        if (c == format_.quote) break;
        add(c);
      }
    }
    if (out != nullptr) {
      const bool null = !quoted && content.substr(begin, at - begin) == format_.null;
      store(index, null, null ? std::string_view() : std::string_view(*out));
    }
    if (position == last_) return true;
    if (at == content.size()) return false;
    ++at;
  }
}

bool CopyFields::read_binary(std::string_view bytes) {
  const auto number = [bytes](std::size_t at, std::size_t size) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < size; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
    return value;
  };
  const std::size_t count = bytes.size() < 2 ? 0 : number(0, 2);
  if (count <= last_) return false;
  std::size_t at = 2;
  for (std::size_t position = 0; position <= last_; ++position) {
    if (bytes.size() - at < 4) return false;
    const auto size = static_cast<std::int32_t>(number(at, 4));
    at += 4;
    const std::size_t length = size < 0 ? 0 : static_cast<std::size_t>(size);
    if (bytes.size() - at < length) return false;
    if (const std::size_t index = wanted_at(position); index < wanted_.size())
      store(index, size < 0, bytes.substr(at, length));
    at += length;
  }
  return true;
}

}  // namespace tessera::parser
