#include "executor/copy_out.hpp"

#include <algorithm>
#include <utility>

#include "wire/postgres/frame.hpp"
#include "wire/postgres/frontend.hpp"

namespace tessera::executor {

namespace {
// copy.sgml: signature, flags, length of the extension, which servers leave empty; a number of fields.
constexpr std::size_t binary_header = 19, field_count = 2;
constexpr std::string_view trailer("\377\377", 2);

void append_frame(std::string& out, char type, std::size_t body) {
  out += type;
  const std::size_t length = body + 4;
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(length >> shift);
}
}  // namespace

void CopyOut::append(std::string_view bytes, std::string& out) {
  const auto take = [&bytes](std::size_t most) {
    const std::string_view part = bytes.substr(0, most);
    bytes.remove_prefix(part.size());
    return part;
  };
  while (!bytes.empty()) {
    if (left_ > 0) {
      const std::string_view part = take(left_);
      left_ -= part.size();
      if (keep_) out += part;
      continue;
    }
    postgres::FrameHeader header;
    if (head_.size() < postgres::frame_header_size) {
      head_ += take(postgres::frame_header_size - head_.size());
      if (head_.size() < postgres::frame_header_size) return;
    }
    if (postgres::peek_frame(head_, postgres::max_message_length, header) == postgres::FrameStatus::malformed) return;
    const std::size_t body = header.total_size() - postgres::frame_header_size;
    const bool looked_into = binary_ && header.type == postgres::frontend::copy_data;
    const std::size_t wanted = std::min(body, looked_into ? (data_seen_ ? 0 : binary_header) + field_count : 0);
    const std::size_t missing = postgres::frame_header_size + wanted - head_.size();
    head_ += take(missing);
    if (head_.size() < postgres::frame_header_size + wanted) return;
    left_ = body - wanted;
    if (looked_into)
      begin_binary(out);
    else
      begin_message(out);
    head_.clear();
  }
}

void CopyOut::begin_message(std::string& out) {
  const char type = head_.front();
  if (type == postgres::backend::copy_out_response) {
    keep_ = first_;
  } else if (type == postgres::backend::copy_done) {
    keep_ = last_;
  } else {
    const bool names = header_ && !std::exchange(data_seen_, true);
    keep_ = first_ || !names;
  }
  if (keep_) out += head_;
}

void CopyOut::begin_binary(std::string& out) {
  std::string_view seen = std::string_view(head_).substr(postgres::frame_header_size);
  const std::string_view header = data_seen_ ? std::string_view() : seen.substr(0, binary_header);
  data_seen_ = true;
  seen.remove_prefix(header.size());
  const std::string_view given = first_ ? header : std::string_view();
  keep_ = last_ || seen != trailer;
  const std::size_t rest = keep_ ? seen.size() + left_ : 0;
  if (given.size() + rest == 0) return;
  append_frame(out, postgres::frontend::copy_data, given.size() + rest);
  out += given;
  if (keep_) out += seen;
}

}  // namespace tessera::executor
