#include "wire/postgres/error_message.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/byte_reader.hpp"
#include "wire/postgres/writer.hpp"

namespace tessera::postgres {

namespace {

bool is_error_severity(Severity severity) {
  return severity == Severity::error || severity == Severity::fatal || severity == Severity::panic;
}

std::string without_zero_bytes(std::string_view text) {
  std::string clean(text);
  std::ranges::replace(clean, '\0', '?');
  return clean;
}

bool append_our_error(std::string& out, const Error& error, Severity severity) {
  MessageWriter writer(out, is_error_severity(severity) ? backend::error_response : backend::notice_response);
  const auto field = [&writer](char code, std::string_view text) {
    writer.u8(static_cast<std::uint8_t>(code));
    writer.c_string(without_zero_bytes(text));
  };
  field(error_field::severity, severity_name(severity));
  field(error_field::severity_not_localized, severity_name(severity));
  field(error_field::code, error.code.view());
  field(error_field::message, error.message);
  if (!error.detail.empty()) field(error_field::detail, error.detail);
  if (!error.hint.empty()) field(error_field::hint, error.hint);
  if (error.position > 0) field(error_field::position, std::to_string(error.position));
  if (!error.context.empty()) field(error_field::where, error.context);
  writer.u8(0);
  return writer.finish();
}

}  // namespace

std::string_view severity_name(Severity severity) {
  constexpr std::array<std::string_view, 8> names = {"ERROR",  "FATAL", "PANIC", "WARNING",
                                                     "NOTICE", "DEBUG", "INFO",  "LOG"};
  return names[static_cast<std::size_t>(severity)];
}

bool parse_error_fields(std::string_view body, ErrorFields& out) {
  ByteReader reader(body);
  while (reader.u8() != 0) reader.c_string();
  if (!reader.finished()) return false;
  out.rest_ = body;
  return true;
}

std::optional<ErrorField> ErrorFields::next() {
  if (rest_.empty() || rest_[0] == '\0') return std::nullopt;
  const char code = rest_[0];
  const std::string_view text = rest_.substr(1, rest_.find('\0', 1) - 1);
  rest_.remove_prefix(text.size() + 2);
  return ErrorField{code, text};
}

std::optional<std::string_view> ErrorFields::find(char code) const {
  ErrorFields rest = *this;
  while (const auto field = rest.next()) {
    if (field->code == code) return field->text;
  }
  return std::nullopt;
}

bool ErrorFields::is_fatal() const {
  const auto localized = find(error_field::severity);
  const std::string_view severity = find_or(error_field::severity_not_localized, localized.value_or(""));
  return severity == "FATAL" || severity == "PANIC";
}

Error ErrorFields::to_error() const {
  Error error;
  error.code = SqlState::from_wire(find_or(error_field::code, ""));
  error.message = find_or(error_field::message, "unknown error");
  error.detail = find_or(error_field::detail, "");
  error.hint = find_or(error_field::hint, "");
  error.context = find_or(error_field::where, "");
  const std::string_view position = find_or(error_field::position, "");
  int value = 0;
  const auto [end, problem] = std::from_chars(position.data(), position.data() + position.size(), value);
  if (problem == std::errc{} && end == position.data() + position.size() && value > 0) error.position = value;
  return error;
}

bool append_error_fields(std::string& out, char type, std::span<const ErrorField> fields) {
  MessageWriter writer(out, type);
  for (const ErrorField& field : fields) {
    if (field.code == 0) writer.fail();  // would end the list
    writer.u8(static_cast<std::uint8_t>(field.code));
    writer.c_string(field.text);
  }
  writer.u8(0);
  return writer.finish();
}

void append_error(std::string& out, const Error& error, Severity severity) {
  if (append_our_error(out, error, severity)) return;
  const Error too_large{error.code, "an error occurred whose text is too long to be sent", {}, {}, 0};
  static_cast<void>(append_our_error(out, too_large, severity));  // a few dozen bytes: always fits
}

}  // namespace tessera::postgres
