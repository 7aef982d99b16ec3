// A client's stream: frames are cut as a session cuts them, and each body that a parser accepts must come out of the
// builder byte for byte.
#include <cstdlib>

#include "wire/postgres/rebuild.hpp"

namespace postgres = tessera::postgres;

namespace {

void check(const postgres::testing::Rebuilt& rebuilt, std::string_view body) {
  if (rebuilt && std::string_view(*rebuilt).substr(postgres::frame_header_size) != body) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  for (postgres::FrameHeader header;
       postgres::peek_frame(rest, postgres::max_message_length, header) == postgres::FrameStatus::complete;) {
    const std::string_view body = postgres::frame_body(rest, header);
    check(postgres::testing::rebuild_frontend(header.type, body), body);
    if (header.type == postgres::frontend::password) {
      check(postgres::testing::rebuild_password(body), body);
      check(postgres::testing::rebuild_sasl_initial(body), body);
    }
    rest.remove_prefix(header.total_size());
  }
  return 0;
}
