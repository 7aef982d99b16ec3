#include <algorithm>

#include "wire/postgres/backend.hpp"

namespace tessera::postgres {

namespace {

// See frontend_parse.cpp: a count is held against what is left before anything grows.
bool plausible(ByteReader& reader, std::size_t count, std::size_t entry_size) {
  if (count <= reader.left() / entry_size) return true;
  reader.fail();
  return false;
}

// A length and that many bytes; -1 is NULL.
Value read_value(ByteReader& reader) {
  const std::int32_t length = reader.i32();
  if (!reader.ok() || length == -1) return std::nullopt;
  if (length < 0) {
    reader.fail();
    return std::nullopt;
  }
  return reader.bytes(static_cast<std::size_t>(length));
}

}  // namespace

bool parse_authentication(std::string_view body, AuthenticationView& out) {
  ByteReader reader(body);
  out.request = static_cast<AuthRequest>(reader.u32());
  out.mechanisms.clear();
  out.data = {};
  switch (out.request) {
    case AuthRequest::ok:
    case AuthRequest::cleartext:
      break;
    case AuthRequest::md5:
      out.data = reader.bytes(4);
      break;
    case AuthRequest::sasl:
      while (true) {
        const std::string_view name = reader.c_string();
        if (name.empty()) break;
        out.mechanisms.push_back(name);
      }
      break;
    default:
      out.data = reader.rest();
  }
  return reader.finished();
}

bool parse_parameter_status(std::string_view body, ParameterStatusView& out) {
  ByteReader reader(body);
  out.name = reader.c_string();
  out.value = reader.c_string();
  return reader.finished();
}

bool parse_backend_key_data(std::string_view body, BackendKeyDataView& out) {
  ByteReader reader(body);
  out.pid = reader.u32();
  out.key = reader.rest();
  return reader.finished() && out.key.size() >= 4 && out.key.size() <= 256;
}

bool parse_ready_for_query(std::string_view body, TransactionStatus& out) {
  if (body.size() != 1 || (body[0] != 'I' && body[0] != 'T' && body[0] != 'E')) return false;
  out = static_cast<TransactionStatus>(body[0]);
  return true;
}

bool parse_notification(std::string_view body, NotificationView& out) {
  ByteReader reader(body);
  out.pid = reader.u32();
  out.channel = reader.c_string();
  out.payload = reader.c_string();
  return reader.finished();
}

bool parse_negotiate_protocol_version(std::string_view body, NegotiateProtocolVersionView& out) {
  ByteReader reader(body);
  out.version = reader.u32();
  const std::size_t count = reader.u32();
  out.unknown_options.clear();
  if (!plausible(reader, count, 1)) return false;
  for (std::size_t i = 0; i < count && reader.ok(); ++i) out.unknown_options.push_back(reader.c_string());
  return reader.finished();
}

bool parse_row_description(std::string_view body, std::vector<FieldView>& out) {
  ByteReader reader(body);
  const std::size_t count = reader.u16();
  out.clear();
  if (!plausible(reader, count, 19)) return false;
  for (std::size_t i = 0; i < count && reader.ok(); ++i) {
    FieldView& field = out.emplace_back();
    field.name = reader.c_string();
    field.table = reader.u32();
    field.column = reader.i16();
    field.type = reader.u32();
    field.type_size = reader.i16();
    field.type_modifier = reader.i32();
    field.format = reader.i16();
  }
  return reader.finished();
}

bool DataRowReader::next(Value& value) {
  if (left_ == 0 || !reader_.ok()) return false;
  value = read_value(reader_);
  if (!reader_.ok()) return false;
  --left_;
  return true;
}

bool parse_command_complete(std::string_view body, std::string_view& tag) {
  ByteReader reader(body);
  tag = reader.c_string();
  return reader.finished();
}

bool parse_parameter_description(std::string_view body, std::vector<Oid>& types) {
  ByteReader reader(body);
  const std::size_t count = reader.u16();
  types.clear();
  if (!plausible(reader, count, 4)) return false;
  for (std::size_t i = 0; i < count; ++i) types.push_back(reader.u32());
  return reader.finished();
}

bool parse_copy_response(std::string_view body, CopyResponseView& out) {
  ByteReader reader(body);
  out.format = static_cast<std::int8_t>(reader.u8());
  const std::size_t count = reader.u16();
  out.column_formats.clear();
  if (!plausible(reader, count, 2)) return false;
  for (std::size_t i = 0; i < count; ++i) out.column_formats.push_back(reader.i16());
  return reader.finished();
}

bool parse_function_call_response(std::string_view body, Value& result) {
  ByteReader reader(body);
  result = read_value(reader);
  return reader.finished();
}

}  // namespace tessera::postgres
