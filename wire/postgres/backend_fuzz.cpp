// A server's stream: as frontend_fuzz.cpp, for the other direction; and our own Error made from any ErrorResponse must
// be one that we can send.
#include <cstdlib>

#include "wire/postgres/rebuild.hpp"

namespace postgres = tessera::postgres;

namespace {

void check_error(std::string_view body) {
  postgres::ErrorFields fields;
  if (!postgres::parse_error_fields(body, fields)) return;
  const tessera::Error error = fields.to_error();
  std::string out;
  postgres::append_error(out, error, fields.is_fatal() ? postgres::Severity::fatal : postgres::Severity::error);
  postgres::ErrorFields again;
  if (!postgres::parse_error_fields(std::string_view(out).substr(postgres::frame_header_size), again)) std::abort();
  if (again.to_error() != error || again.is_fatal() != fields.is_fatal()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  for (postgres::FrameHeader header;
       postgres::peek_frame(rest, postgres::max_message_length, header) == postgres::FrameStatus::complete;) {
    const std::string_view body = postgres::frame_body(rest, header);
    const auto rebuilt = postgres::testing::rebuild_backend(header.type, body);
    // Authentication methods without a builder of ours are copied by the test's own code, up to a size.
    const bool exotic = header.type == postgres::backend::authentication && body.size() > 90;
    if (rebuilt && !exotic && std::string_view(*rebuilt).substr(postgres::frame_header_size) != body) std::abort();
    if (header.type == postgres::backend::error_response) check_error(body);
    rest.remove_prefix(header.total_size());
  }
  return 0;
}
