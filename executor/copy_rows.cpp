#include "executor/copy_rows.hpp"

#include <algorithm>

#include "wire/postgres/frame.hpp"
#include "wire/postgres/frontend.hpp"

namespace tessera::executor {

namespace {
// copy.sgml: signature, flags, length of the header's extension; and the field count that ends the data.
constexpr std::string_view header("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
constexpr std::string_view trailer("\377\377", 2);
}  // namespace

std::size_t CopyRows::append(std::string_view rows, std::string& out) {
  std::size_t begun = 0;
  while (!rows.empty()) {
    if (left_ == 0) {
      const std::size_t missing = postgres::frame_header_size - header_.size();
      header_.append(rows.substr(0, missing));
      rows.remove_prefix(std::min(missing, rows.size()));
      postgres::FrameHeader row;
      if (postgres::peek_frame(header_, postgres::max_message_length, row) == postgres::FrameStatus::malformed) break;
      if (header_.size() < postgres::frame_header_size) break;
      ++begun;
      out += postgres::frontend::copy_data;
      out.append(header_, 1);
      left_ = row.total_size() - postgres::frame_header_size;
      header_.clear();
      continue;
    }
    const std::string_view part = rows.substr(0, left_);
    out.append(part);
    left_ -= part.size();
    rows.remove_prefix(part.size());
  }
  return begun;
}

void CopyRows::append_header(std::string& out) {
  (void)postgres::append_copy_data(out, header);
}

void CopyRows::append_trailer(std::string& out) {
  (void)postgres::append_copy_data(out, trailer);
}

}  // namespace tessera::executor
