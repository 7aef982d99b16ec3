#include "pool/text_rows.hpp"

namespace tessera::pool {

void TextRows::take(std::string_view bytes, std::vector<Row>& rows) {
  buffer_.append(bytes);
  std::string_view left = buffer_;
  postgres::FrameHeader header;
  while (postgres::peek_frame(left, postgres::max_message_length, header) == postgres::FrameStatus::complete) {
    if (header.type == postgres::backend::data_row) {
      postgres::DataRowReader reader(postgres::frame_body(left, header));
      Row& row = rows.emplace_back();
      postgres::Value value;
      while (reader.next(value)) row.push_back(value ? std::optional<std::string>(*value) : std::nullopt);
    }
    left.remove_prefix(header.total_size());
  }
  buffer_.erase(0, buffer_.size() - left.size());
}

}  // namespace tessera::pool
