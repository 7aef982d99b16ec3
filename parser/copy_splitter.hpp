// The data of COPY … FROM STDIN, cut into rows: bytes in, in pieces of any size; rows out, each with its exact bytes
// and its place in the stream. And the values of some columns of a row. The rules are those of PostgreSQL's
// copyfromparse.c (version 15), since every row is read by a server again: CopyReadLineText, CopyReadAttributesText,
// CopyReadAttributesCSV and the binary format of copy.sgml.
//
// What a server will refuse whatever server it is (a row that ends in the middle, a wrong number of fields) is no error
// here: such a row is `broken`, so that a server can say it in its own words. What a server with only a part of the
// rows cannot see (two kinds of line ends) is one.
//
// Pure; holds no more than one row and what was fed last. The text must be UTF-8 or another encoding whose multi-byte
// characters hold no ASCII bytes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace tessera::parser {

struct CopyFormat {
  enum class Kind : std::uint8_t { text, csv, binary };
  Kind kind = Kind::text;
  char delimiter = '\t';
  char quote = '"', escape = '"';  // csv
  std::string null = "\\N";
  bool header = false;  // the first line has names
  friend bool operator==(const CopyFormat&, const CopyFormat&) = default;
};

struct CopyRow {
  enum class Kind : std::uint8_t {
    row,
    everywhere,  // the header, or the end of binary data
    broken       // no server will take it; it is the last one
  };
  Kind kind = Kind::row;
  std::string_view bytes;            // as they came
  std::string_view content;          // of text and csv: without the end of the line
  std::uint64_t line = 0;            // where it ends, as a server counts: lines of text, or rows of binary data
  std::uint32_t lines = 1;           // how many it has…
  std::uint32_t lines_as_first = 1;  // …for a server that has seen none before it
};

class CopySplitter {
public:
  // `most_bytes`: of one row.
  CopySplitter(CopyFormat format, std::size_t most_bytes);

  // Ends the life of what `next` has given.
  void feed(std::string_view bytes);
  void end() { ended_ = true; }
  // The next row, or none: it needs more, or there is no more. Views live until the next feed.
  Result<std::optional<CopyRow>> next();
  // Of what comes next, for errors: where a server would be.
  std::uint64_t line() const { return line_ + 1 + embedded_; }

private:
  enum class Stage : std::uint8_t { head, rows, ended, over };  // ended: binary, nothing may follow
  enum class LineEnd : std::uint8_t { unknown, nl, cr, crnl };

  Result<std::optional<CopyRow>> next_line();
  Result<bool> line_ends(char c, std::size_t& content_end);
  Result<bool> marker_ends();
  bool note_quotes(char c);
  bool lacks(std::size_t bytes) const { return buffer_.size() - at_ < bytes && !ended_; }
  // Beyond the end: zero, as in the server's buffer.
  char peek(std::size_t behind) const { return at_ + behind < buffer_.size() ? buffer_[at_ + behind] : '\0'; }
  std::optional<CopyRow> take(CopyRow::Kind kind, std::size_t content_end);
  std::optional<CopyRow> next_binary();
  std::optional<CopyRow> next_binary_row();
  std::optional<CopyRow> broken(std::size_t end);
  std::optional<CopyRow> cut_short();
  std::uint32_t number(std::size_t at, std::size_t bytes) const;

  const CopyFormat format_;
  const std::size_t most_bytes_;
  std::array<bool, 256> special_{};  // what cannot just be passed over within a line
  std::string buffer_;
  std::size_t begin_ = 0;  // of the row at hand
  std::size_t at_ = 0;     // up to where it has been looked at
  bool ended_ = false;     // nothing comes any more
  Stage stage_ = Stage::head;
  LineEnd line_end_ = LineEnd::unknown;
  bool in_quotes_ = false, after_escape_ = false, first_in_line_ = true;
  std::uint32_t embedded_ = 0, embedded_as_first_ = 0;  // line ends within quotes
  std::uint64_t line_ = 0;
  // binary: fields of the row at hand that were not passed yet; none: their number is to come
  std::optional<int> fields_;
};

struct CopyValue {
  bool null = false;
  std::string_view bytes;  // decoded; binary: as they are
  friend bool operator==(const CopyValue&, const CopyValue&) = default;
};

// A column whose value is wanted.
struct CopyColumn {
  std::size_t position = 0;  // in the row
  bool force_null = false, force_not_null = false;
  friend bool operator==(const CopyColumn&, const CopyColumn&) = default;
};

class CopyFields {
public:
  CopyFields(CopyFormat format, std::vector<CopyColumn> wanted);
  // False: the row has not these columns, or is malformed before them. Values live as long as the row and until the
  // next call.
  bool read(const CopyRow& row);
  const std::vector<CopyValue>& values() const { return values_; }  // as `wanted` was given

private:
  bool read_text(std::string_view content);
  bool read_csv(std::string_view content);
  bool read_binary(std::string_view bytes);
  std::size_t wanted_at(std::size_t position) const;
  void decode_text(std::string_view raw, std::string& out) const;
  void store(std::size_t index, bool null, std::string_view bytes);

  const CopyFormat format_;
  const std::vector<CopyColumn> wanted_;
  std::size_t last_ = 0;  // the position behind which none is wanted
  std::vector<CopyValue> values_;
  std::vector<std::string> decoded_;
};

}  // namespace tessera::parser
