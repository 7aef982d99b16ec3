// The first packet of a connection has no type byte: it is a start-up message, a request for TLS or GSS encryption, or
// a request to cancel. PostgreSQL reads it in ProcessStartupPacket (backend_startup.c, before 17 postmaster.c) and
// treats the `options` parameter like a command line (process_startup_options, pg_split_opts,
// process_postgres_switches); this does the same. Results own their text: they outlive the buffer. At most 10,000
// bytes, checked before anything else.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "wire/postgres/frame.hpp"

namespace tessera::postgres {

// Largest length field of a first packet (PostgreSQL: MAX_STARTUP_PACKET_LENGTH, which does not count the field
// itself).
inline constexpr std::uint32_t max_startup_length = 10'004;
// Names in one packet, and settings in its `options`: more is an attempt to make us search long lists.
inline constexpr std::size_t max_startup_settings = 500;
inline constexpr std::uint32_t protocol_3_0 = 3u << 16;

using Settings = std::vector<std::pair<std::string, std::string>>;  // name, value; each name once

struct SslRequest {
  friend bool operator==(const SslRequest&, const SslRequest&) = default;
};
struct GssEncRequest {
  friend bool operator==(const GssEncRequest&, const GssEncRequest&) = default;
};

struct CancelRequest {
  std::uint32_t pid = 0;
  std::string key;  // 4 bytes in protocol 3.0, up to 256 in 3.2
  friend bool operator==(const CancelRequest&, const CancelRequest&) = default;
};

struct StartupMessage {
  std::uint16_t major = 3;
  std::uint16_t minor = 0;
  std::string user;          // never empty once parsed
  std::string database;      // the user's name if the client named none, as in the server
  std::string replication;   // as sent; empty: not asked for
  std::string options;       // as sent
  Settings option_settings;  // what `options` sets; a server applies these first, then `parameters`
  Settings parameters;  // everything else (application_name, client_encoding, …): settings of the session. Of a name
                        // given twice the last value counts. Names as sent; the server ignores their case
  std::vector<std::string> protocol_options;  // names "_pq_.…", none of which we know

  // True if the client must be told by NegotiateProtocolVersion what it asked for in vain.
  bool needs_negotiation() const { return minor > 0 || !protocol_options.empty(); }
  friend bool operator==(const StartupMessage&, const StartupMessage&) = default;
};

using FirstPacket = std::variant<SslRequest, GssEncRequest, CancelRequest, StartupMessage>;

// Like peek_frame for a packet without a type; `total` is the packet's size with its length field.
FrameStatus peek_first_packet(std::string_view bytes, std::size_t& total);
// True if the bytes begin a TLS handshake: a client with sslnegotiation=direct. Never a PostgreSQL packet.
inline bool is_direct_tls(std::string_view bytes) {
  return !bytes.empty() && bytes[0] == 0x16;
}

// `packet` is exactly one packet, length included. Errors are those of the server: 08P01 for a bad layout, 0A000 for a
// protocol that is not 3.x, 28000 for a missing user name, 42601 for `options` that cannot be read, 54000
// for more than max_startup_settings names.
Result<FirstPacket> parse_first_packet(std::string_view packet);

// Splits on white space; a backslash takes the next character as it is (pg_split_opts).
std::vector<std::string> split_options(std::string_view options);
// -c name=value, -cname=value, --name=value, and the single letters that are short for settings. 42601 otherwise.
Result<Settings> parse_options(std::string_view options);

// Sets `name`, replacing an earlier value of exactly this name.
void set_setting(Settings& settings, std::string_view name, std::string_view value);

void append_ssl_request(std::string& out);
void append_gssenc_request(std::string& out);
// False, and nothing appended: the key is not 4 to 256 bytes.
[[nodiscard]] bool append_cancel_request(std::string& out, std::uint32_t pid, std::string_view key);
// Writes user, database, replication, options (as given, `option_settings` is not looked at), parameters and protocol
// options. False, and nothing appended: above 10,000 bytes, a zero byte in a text, or an empty name.
[[nodiscard]] bool append_startup(std::string& out, const StartupMessage& message);

}  // namespace tessera::postgres
