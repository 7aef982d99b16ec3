#include "wire/postgres/startup.hpp"

#include <algorithm>
#include <fmt/format.h>

#include "base/byte_reader.hpp"
#include "wire/postgres/writer.hpp"

namespace tessera::postgres {

namespace {

constexpr std::uint32_t cancel_code = 80'877'102;
constexpr std::uint32_t ssl_code = 80'877'103;
constexpr std::uint32_t gssenc_code = 80'877'104;
constexpr std::size_t min_cancel_key = 4;
constexpr std::size_t max_cancel_key = 256;

std::unexpected<Error> bad_layout(std::string detail) {
  return std::unexpected(
      Error{sqlstate::protocol_violation, "invalid startup packet layout", std::move(detail), {}, 0});
}

// Gives one name-value pair its place in the message.
void place_parameter(StartupMessage& message, std::string_view name, std::string_view value) {
  if (name == "user") {
    message.user = value;
  } else if (name == "database") {
    message.database = value;
  } else if (name == "replication") {
    message.replication = value;
  } else if (name == "options") {
    message.options = value;
  } else if (name.starts_with("_pq_.")) {
    if (std::ranges::find(message.protocol_options, name) == message.protocol_options.end()) {
      message.protocol_options.emplace_back(name);
    }
  } else {
    set_setting(message.parameters, name, value);
  }
}

Result<FirstPacket> parse_startup(std::uint32_t version, ByteReader reader) {
  StartupMessage message;
  message.major = static_cast<std::uint16_t>(version >> 16);
  message.minor = static_cast<std::uint16_t>(version & 0xffff);
  if (message.major != 3) {
    return fail(
        sqlstate::feature_not_supported,
        fmt::format("unsupported frontend protocol {}.{}: server supports 3.0 to 3.0", message.major, message.minor));
  }
  std::size_t pairs = 0;
  while (true) {
    const std::string_view name = reader.c_string();
    if (name.empty()) break;  // the terminator, or the end of the packet without one
    const std::string_view value = reader.c_string();
    if (!reader.ok()) return bad_layout("a parameter has no value");
    if (++pairs > max_startup_settings) {
      return fail(sqlstate::program_limit_exceeded, "too many parameters in startup packet");
    }
    place_parameter(message, name, value);
  }
  if (!reader.finished()) return bad_layout("expected terminator as last byte");
  if (message.user.empty()) {
    return fail(sqlstate::invalid_authorization, "no PostgreSQL user name specified in startup packet");
  }
  if (message.database.empty()) message.database = message.user;
  auto settings = parse_options(message.options);
  if (!settings) return std::unexpected(std::move(settings.error()));
  message.option_settings = std::move(*settings);
  return message;
}

}  // namespace

FrameStatus peek_first_packet(std::string_view bytes, std::size_t& total) {
  total = 0;
  if (bytes.size() < 4) return FrameStatus::need_more;
  const std::uint32_t length = read_u32(bytes.data());
  if (length < 8 || length > max_startup_length) return FrameStatus::malformed;
  total = length;
  return bytes.size() >= total ? FrameStatus::complete : FrameStatus::header_only;
}

Result<FirstPacket> parse_first_packet(std::string_view packet) {
  std::size_t total = 0;
  if (peek_first_packet(packet, total) != FrameStatus::complete || total != packet.size()) {
    return fail(sqlstate::protocol_violation, "invalid length of startup packet");
  }
  ByteReader reader(packet.substr(4));
  const std::uint32_t code = reader.u32();
  if (code == ssl_code || code == gssenc_code) {
    if (!reader.finished()) return bad_layout("bytes follow an encryption request");
    if (code == ssl_code) return SslRequest{};
    return GssEncRequest{};
  }
  if (code != cancel_code) return parse_startup(code, reader);
  CancelRequest request{reader.u32(), std::string(reader.rest())};
  if (!reader.finished() || request.key.size() < min_cancel_key || request.key.size() > max_cancel_key) {
    return fail(sqlstate::protocol_violation, "invalid length of query cancel packet");
  }
  return request;
}

void set_setting(Settings& settings, std::string_view name, std::string_view value) {
  const auto known = std::ranges::find(settings, name, &Settings::value_type::first);
  if (known == settings.end()) {
    settings.emplace_back(name, value);
  } else {
    known->second = value;
  }
}

void append_ssl_request(std::string& out) {
  MessageWriter writer(out, 0);
  writer.u32(ssl_code);
  static_cast<void>(writer.finish());
}

void append_gssenc_request(std::string& out) {
  MessageWriter writer(out, 0);
  writer.u32(gssenc_code);
  static_cast<void>(writer.finish());
}

bool append_cancel_request(std::string& out, std::uint32_t pid, std::string_view key) {
  MessageWriter writer(out, 0);
  writer.u32(cancel_code);
  writer.u32(pid);
  writer.bytes(key);
  if (key.size() < min_cancel_key || key.size() > max_cancel_key) writer.fail();
  return writer.finish();
}

bool append_startup(std::string& out, const StartupMessage& message) {
  MessageWriter writer(out, 0);
  const auto pair = [&writer](std::string_view name, std::string_view value) {
    // An empty name would read as the terminator and hide what follows.
    if (name.empty()) writer.fail();
    writer.c_string(name);
    writer.c_string(value);
  };
  writer.u32(std::uint32_t{message.major} << 16 | message.minor);
  pair("user", message.user);
  if (!message.database.empty()) pair("database", message.database);
  if (!message.replication.empty()) pair("replication", message.replication);
  if (!message.options.empty()) pair("options", message.options);
  for (const auto& [name, value] : message.parameters) pair(name, value);
  for (const std::string& name : message.protocol_options) pair(name, "");
  writer.u8(0);
  if (writer.size() > max_startup_length) writer.fail();
  return writer.finish();
}

}  // namespace tessera::postgres
