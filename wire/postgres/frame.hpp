// Frames of PostgreSQL's protocol 3.0 (protocol.sgml, "Message Formats"): one type byte, a big-endian length that
// counts itself but not the type, a body. `peek_frame` looks at the front of a buffer and says whether a whole frame
// stands there; it copies nothing and is on the path of every message. A type byte means one thing from a client and
// another from a server, hence two namespaces of constants.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tessera::postgres {

// The largest value of a length field that we build, and the most that a caller should pass to peek_frame: 1 GB - 1,
// the largest message that PostgreSQL itself can hold.
inline constexpr std::uint64_t max_message_length = 0x3fff'ffff;
// Largest messages while a peer is not yet authenticated (PostgreSQL: PG_MAX_AUTH_TOKEN_LENGTH).
inline constexpr std::uint64_t max_login_message_length = 65'535;
inline constexpr std::size_t frame_header_size = 5;

struct FrameHeader {
  char type = 0;
  std::uint32_t length = 0;  // as on the wire: includes its own 4 bytes, not the type

  std::size_t body_size() const { return length - 4u; }
  std::size_t total_size() const { return std::size_t{length} + 1u; }
};

enum class FrameStatus {
  complete,     // the whole frame is there
  header_only,  // the header is known and sound, the body is incomplete
  need_more,    // fewer bytes than a header
  malformed,    // a length below 4 or above the cap: the stream cannot be followed any further
};

inline std::uint32_t read_u32(const char* at) {
  const auto byte = [at](int i) { return std::uint32_t{static_cast<unsigned char>(at[i])}; };
  return byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3);
}

// `max_length` caps the length field. `out` is set unless the answer is need_more.
inline FrameStatus peek_frame(std::string_view bytes, std::uint64_t max_length, FrameHeader& out) {
  if (bytes.size() < frame_header_size) return FrameStatus::need_more;
  out = {bytes[0], read_u32(bytes.data() + 1)};
  if (out.length < 4 || out.length > max_length) return FrameStatus::malformed;
  return bytes.size() - 1 >= out.length ? FrameStatus::complete : FrameStatus::header_only;
}

// The body of a complete frame at the front of `bytes`.
inline std::string_view frame_body(std::string_view bytes, const FrameHeader& header) {
  return bytes.substr(frame_header_size, header.body_size());
}

// Messages of a client.
namespace frontend {
inline constexpr char bind = 'B';
inline constexpr char close = 'C';
inline constexpr char copy_data = 'd';
inline constexpr char copy_done = 'c';
inline constexpr char copy_fail = 'f';
inline constexpr char describe = 'D';
inline constexpr char execute = 'E';
inline constexpr char flush = 'H';
inline constexpr char function_call = 'F';
inline constexpr char parse = 'P';
inline constexpr char password = 'p';  // also GSSResponse, SASLInitialResponse and SASLResponse
inline constexpr char query = 'Q';
inline constexpr char sync = 'S';
inline constexpr char terminate = 'X';
}  // namespace frontend

// Messages of a server.
namespace backend {
inline constexpr char authentication = 'R';
inline constexpr char backend_key_data = 'K';
inline constexpr char bind_complete = '2';
inline constexpr char close_complete = '3';
inline constexpr char command_complete = 'C';
inline constexpr char copy_both_response = 'W';
inline constexpr char copy_data = 'd';
inline constexpr char copy_done = 'c';
inline constexpr char copy_in_response = 'G';
inline constexpr char copy_out_response = 'H';
inline constexpr char data_row = 'D';
inline constexpr char empty_query_response = 'I';
inline constexpr char error_response = 'E';
inline constexpr char function_call_response = 'V';
inline constexpr char negotiate_protocol_version = 'v';
inline constexpr char no_data = 'n';
inline constexpr char notice_response = 'N';
inline constexpr char notification_response = 'A';
inline constexpr char parameter_description = 't';
inline constexpr char parameter_status = 'S';
inline constexpr char parse_complete = '1';
inline constexpr char portal_suspended = 's';
inline constexpr char ready_for_query = 'Z';
inline constexpr char row_description = 'T';
}  // namespace backend

}  // namespace tessera::postgres
