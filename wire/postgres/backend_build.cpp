#include "wire/postgres/backend.hpp"
#include "wire/postgres/writer.hpp"

namespace tessera::postgres {

namespace {

bool append_auth(std::string& out, AuthRequest request, std::string_view data) {
  MessageWriter writer(out, backend::authentication);
  writer.u32(static_cast<std::uint32_t>(request));
  writer.bytes(data);
  return writer.finish();
}

void append_auth_number(std::string& out, AuthRequest request) {
  out.append({backend::authentication, 0, 0, 0, 8, 0, 0, 0, static_cast<char>(request)});
}

void append_empty(std::string& out, char type) {
  out.append({type, 0, 0, 0, 4});
}

void write_value(MessageWriter& writer, const Value& value) {
  if (value) {
    writer.sized(*value);
  } else {
    writer.i32(-1);
  }
}

}  // namespace

void append_authentication_ok(std::string& out) {
  append_auth_number(out, AuthRequest::ok);
}
void append_authentication_cleartext(std::string& out) {
  append_auth_number(out, AuthRequest::cleartext);
}

bool append_authentication_md5(std::string& out, std::string_view salt) {
  return salt.size() == 4 && append_auth(out, AuthRequest::md5, salt);
}

bool append_authentication_sasl(std::string& out, std::span<const std::string_view> mechanisms) {
  MessageWriter writer(out, backend::authentication);
  writer.u32(static_cast<std::uint32_t>(AuthRequest::sasl));
  for (const std::string_view mechanism : mechanisms) {
    if (mechanism.empty()) writer.fail();  // would end the list
    writer.c_string(mechanism);
  }
  writer.u8(0);
  return writer.finish();
}

bool append_authentication_sasl_continue(std::string& out, std::string_view data) {
  return append_auth(out, AuthRequest::sasl_continue, data);
}

bool append_authentication_sasl_final(std::string& out, std::string_view data) {
  return append_auth(out, AuthRequest::sasl_final, data);
}

bool append_parameter_status(std::string& out, std::string_view name, std::string_view value) {
  MessageWriter writer(out, backend::parameter_status);
  writer.c_string(name);
  writer.c_string(value);
  return writer.finish();
}

bool append_backend_key_data(std::string& out, std::uint32_t pid, std::string_view key) {
  MessageWriter writer(out, backend::backend_key_data);
  writer.u32(pid);
  writer.bytes(key);
  if (key.size() < 4 || key.size() > 256) writer.fail();
  return writer.finish();
}

void append_ready_for_query(std::string& out, TransactionStatus status) {
  out.append({backend::ready_for_query, 0, 0, 0, 5, static_cast<char>(status)});
}

bool append_notification(std::string& out, const NotificationView& notification) {
  MessageWriter writer(out, backend::notification_response);
  writer.u32(notification.pid);
  writer.c_string(notification.channel);
  writer.c_string(notification.payload);
  return writer.finish();
}

bool append_negotiate_protocol_version(std::string& out, std::uint32_t version,
                                       std::span<const std::string_view> unknown_options) {
  MessageWriter writer(out, backend::negotiate_protocol_version);
  writer.u32(version);
  if (unknown_options.size() > max_message_length) writer.fail();
  writer.u32(static_cast<std::uint32_t>(unknown_options.size()));
  for (const std::string_view option : unknown_options) writer.c_string(option);
  return writer.finish();
}

bool append_row_description(std::string& out, std::span<const FieldView> fields) {
  MessageWriter writer(out, backend::row_description);
  writer.count16(fields.size());
  for (const FieldView& field : fields) {
    writer.c_string(field.name);
    writer.u32(field.table);
    writer.i16(field.column);
    writer.u32(field.type);
    writer.i16(field.type_size);
    writer.i32(field.type_modifier);
    writer.i16(field.format);
  }
  return writer.finish();
}

bool append_data_row(std::string& out, std::span<const Value> values) {
  MessageWriter writer(out, backend::data_row);
  writer.count16(values.size());
  for (const Value& value : values) write_value(writer, value);
  return writer.finish();
}

bool append_command_complete(std::string& out, std::string_view tag) {
  MessageWriter writer(out, backend::command_complete);
  writer.c_string(tag);
  return writer.finish();
}

bool append_parameter_description(std::string& out, std::span<const Oid> types) {
  MessageWriter writer(out, backend::parameter_description);
  writer.count16(types.size());
  for (const Oid type : types) writer.u32(type);
  return writer.finish();
}

bool append_copy_response(std::string& out, char type, const CopyResponseView& response) {
  MessageWriter writer(out, type);
  writer.u8(static_cast<std::uint8_t>(response.format));
  writer.count16(response.column_formats.size());
  for (const std::int16_t format : response.column_formats) writer.i16(format);
  return writer.finish();
}

bool append_function_call_response(std::string& out, Value result) {
  MessageWriter writer(out, backend::function_call_response);
  write_value(writer, result);
  return writer.finish();
}

void append_parse_complete(std::string& out) {
  append_empty(out, backend::parse_complete);
}
void append_bind_complete(std::string& out) {
  append_empty(out, backend::bind_complete);
}
void append_close_complete(std::string& out) {
  append_empty(out, backend::close_complete);
}
void append_no_data(std::string& out) {
  append_empty(out, backend::no_data);
}
void append_empty_query_response(std::string& out) {
  append_empty(out, backend::empty_query_response);
}
void append_portal_suspended(std::string& out) {
  append_empty(out, backend::portal_suspended);
}

}  // namespace tessera::postgres
