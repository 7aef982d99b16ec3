#include <fmt/format.h>

#include "base/byte_reader.hpp"
#include "wire/postgres/frontend.hpp"

namespace tessera::postgres {

namespace {

// A count on the wire never reserves memory by itself: each entry needs at least `entry_size` bytes, so a count that
// the rest of the message cannot hold is refused before anything grows.
bool plausible(ByteReader& reader, std::size_t count, std::size_t entry_size) {
  if (count <= reader.left() / entry_size) return true;
  reader.fail();
  return false;
}

void read_formats(ByteReader& reader, std::vector<std::int16_t>& out) {
  const std::size_t count = reader.u16();
  out.clear();
  if (!plausible(reader, count, 2)) return;
  for (std::size_t i = 0; i < count; ++i) out.push_back(reader.i16());
}

void read_values(ByteReader& reader, std::vector<Value>& out) {
  const std::size_t count = reader.u16();
  out.clear();
  if (!plausible(reader, count, 4)) return;
  for (std::size_t i = 0; i < count && reader.ok(); ++i) {
    const std::int32_t length = reader.i32();
    if (length == -1) {
      out.emplace_back(std::nullopt);
    } else if (length < 0) {
      reader.fail();
    } else {
      out.emplace_back(reader.bytes(static_cast<std::size_t>(length)));
    }
  }
}

bool parse_text(std::string_view body, std::string_view& out) {
  ByteReader reader(body);
  out = reader.c_string();
  return reader.finished();
}

bool parse_target(std::string_view body, TargetView& out) {
  ByteReader reader(body);
  out.kind = static_cast<char>(reader.u8());
  out.name = reader.c_string();
  return reader.finished();
}

}  // namespace

Error invalid_message(std::string_view what) {
  return Error{sqlstate::protocol_violation, "invalid message format", fmt::format("in {}", what), {}, 0};
}

std::optional<Format> format_of(std::span<const std::int16_t> codes, std::size_t index) {
  if (codes.empty()) return Format::text;
  if (codes.size() == 1) index = 0;
  if (index >= codes.size() || codes[index] < 0 || codes[index] > 1) return std::nullopt;
  return static_cast<Format>(codes[index]);
}

bool parse_query(std::string_view body, std::string_view& sql) {
  return parse_text(body, sql);
}
bool parse_copy_fail(std::string_view body, std::string_view& reason) {
  return parse_text(body, reason);
}
bool parse_password(std::string_view body, std::string_view& password) {
  return parse_text(body, password);
}
bool parse_describe(std::string_view body, TargetView& out) {
  return parse_target(body, out);
}
bool parse_close(std::string_view body, TargetView& out) {
  return parse_target(body, out);
}

bool parse_parse(std::string_view body, ParseView& out) {
  ByteReader reader(body);
  out.statement = reader.c_string();
  out.query = reader.c_string();
  const std::size_t count = reader.u16();
  out.parameter_types.clear();
  if (!plausible(reader, count, 4)) return false;
  for (std::size_t i = 0; i < count; ++i) out.parameter_types.push_back(reader.u32());
  return reader.finished();
}

bool parse_bind(std::string_view body, BindView& out) {
  ByteReader reader(body);
  out.portal = reader.c_string();
  out.statement = reader.c_string();
  read_formats(reader, out.parameter_formats);
  read_values(reader, out.parameters);
  read_formats(reader, out.result_formats);
  return reader.finished();
}

bool parse_execute(std::string_view body, ExecuteView& out) {
  ByteReader reader(body);
  out.portal = reader.c_string();
  out.max_rows = reader.i32();
  return reader.finished();
}

bool parse_function_call(std::string_view body, FunctionCallView& out) {
  ByteReader reader(body);
  out.function = reader.u32();
  read_formats(reader, out.argument_formats);
  read_values(reader, out.arguments);
  out.result_format = reader.i16();
  return reader.finished();
}

bool parse_sasl_initial(std::string_view body, SaslInitialView& out) {
  ByteReader reader(body);
  out.mechanism = reader.c_string();
  out.data = std::nullopt;
  const std::int32_t length = reader.i32();
  if (length < -1) reader.fail();
  if (length >= 0) out.data = reader.bytes(static_cast<std::size_t>(length));
  return reader.finished();
}

}  // namespace tessera::postgres
