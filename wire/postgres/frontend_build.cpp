#include "wire/postgres/frontend.hpp"
#include "wire/postgres/writer.hpp"

namespace tessera::postgres {

namespace {

bool append_text(std::string& out, char type, std::string_view text) {
  MessageWriter writer(out, type);
  writer.c_string(text);
  return writer.finish();
}

bool append_raw(std::string& out, char type, std::string_view data) {
  MessageWriter writer(out, type);
  writer.bytes(data);
  return writer.finish();
}

bool append_target(std::string& out, char type, char kind, std::string_view name) {
  MessageWriter writer(out, type);
  writer.u8(static_cast<std::uint8_t>(kind));
  writer.c_string(name);
  return writer.finish();
}

void append_empty(std::string& out, char type) {
  out.append({type, 0, 0, 0, 4});
}

void write_formats(MessageWriter& writer, std::span<const std::int16_t> formats) {
  writer.count16(formats.size());
  for (const std::int16_t format : formats) writer.i16(format);
}

void write_values(MessageWriter& writer, std::span<const Value> values) {
  writer.count16(values.size());
  for (const Value& value : values) {
    if (value) {
      writer.sized(*value);
    } else {
      writer.i32(-1);
    }
  }
}

}  // namespace

bool append_query(std::string& out, std::string_view sql) {
  return append_text(out, frontend::query, sql);
}

bool append_parse(std::string& out, std::string_view statement, std::string_view query,
                  std::span<const Oid> parameter_types) {
  MessageWriter writer(out, frontend::parse);
  writer.c_string(statement);
  writer.c_string(query);
  writer.count16(parameter_types.size());
  for (const Oid type : parameter_types) writer.u32(type);
  return writer.finish();
}

bool append_bind(std::string& out, std::string_view portal, std::string_view statement,
                 std::span<const Value> parameters, BindFormats formats) {
  MessageWriter writer(out, frontend::bind);
  writer.c_string(portal);
  writer.c_string(statement);
  write_formats(writer, formats.parameters);
  write_values(writer, parameters);
  write_formats(writer, formats.results);
  return writer.finish();
}

bool append_describe(std::string& out, char kind, std::string_view name) {
  return append_target(out, frontend::describe, kind, name);
}

bool append_close(std::string& out, char kind, std::string_view name) {
  return append_target(out, frontend::close, kind, name);
}

bool append_execute(std::string& out, std::string_view portal, std::int32_t max_rows) {
  MessageWriter writer(out, frontend::execute);
  writer.c_string(portal);
  writer.i32(max_rows);
  return writer.finish();
}

bool append_function_call(std::string& out, const FunctionCallView& call) {
  MessageWriter writer(out, frontend::function_call);
  writer.u32(call.function);
  write_formats(writer, call.argument_formats);
  write_values(writer, call.arguments);
  writer.i16(call.result_format);
  return writer.finish();
}

bool append_copy_data(std::string& out, std::string_view data) {
  return append_raw(out, frontend::copy_data, data);
}

bool append_copy_fail(std::string& out, std::string_view reason) {
  return append_text(out, frontend::copy_fail, reason);
}

bool append_password(std::string& out, std::string_view password) {
  return append_text(out, frontend::password, password);
}

bool append_sasl_initial(std::string& out, const SaslInitialView& message) {
  MessageWriter writer(out, frontend::password);
  writer.c_string(message.mechanism);
  if (message.data) {
    writer.sized(*message.data);
  } else {
    writer.i32(-1);
  }
  return writer.finish();
}

bool append_sasl_response(std::string& out, std::string_view data) {
  return append_raw(out, frontend::password, data);
}

void append_copy_done(std::string& out) {
  append_empty(out, frontend::copy_done);
}
void append_sync(std::string& out) {
  append_empty(out, frontend::sync);
}
void append_flush(std::string& out) {
  append_empty(out, frontend::flush);
}
void append_terminate(std::string& out) {
  append_empty(out, frontend::terminate);
}

}  // namespace tessera::postgres
