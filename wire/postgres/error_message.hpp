// ErrorResponse and NoticeResponse: a list of (letter, text) fields (protocol.sgml, "Error and Notice Message Fields").
// `ErrorFields` finds fields in a body without copying; `append_error` turns our own Error into a message.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "wire/postgres/frame.hpp"

namespace tessera::postgres {

namespace error_field {
inline constexpr char severity = 'S';                // translated
inline constexpr char severity_not_localized = 'V';  // from 9.6 on
inline constexpr char code = 'C';
inline constexpr char message = 'M';
inline constexpr char detail = 'D';
inline constexpr char hint = 'H';
inline constexpr char position = 'P';
inline constexpr char internal_position = 'p';
inline constexpr char internal_query = 'q';
inline constexpr char where = 'W';
inline constexpr char schema = 's';
inline constexpr char table = 't';
inline constexpr char column = 'c';
inline constexpr char data_type = 'd';
inline constexpr char constraint = 'n';
inline constexpr char file = 'F';
inline constexpr char line = 'L';
inline constexpr char routine = 'R';
}  // namespace error_field

enum class Severity { error, fatal, panic, warning, notice, debug, info, log };
std::string_view severity_name(Severity severity);  // "ERROR", …

struct ErrorField {
  char code = 0;
  std::string_view text;
  friend bool operator==(const ErrorField&, const ErrorField&) = default;
};

// Borrows the body. Only a body that `parse_error_fields` accepted is ever inside.
class ErrorFields {
public:
  ErrorFields() = default;
  // The first field with this letter.
  std::optional<std::string_view> find(char code) const;
  std::string_view find_or(char code, std::string_view otherwise) const { return find(code).value_or(otherwise); }
  // Takes the next field off a copy: `for (auto rest = fields; auto field = rest.next();)`.
  std::optional<ErrorField> next();
  bool is_fatal() const;  // FATAL or PANIC: the server closes the connection
  // SQLSTATE, message, detail, hint, position, context. What is missing becomes XX000 and "unknown error".
  Error to_error() const;

private:
  friend bool parse_error_fields(std::string_view body, ErrorFields& out);
  std::string_view rest_;
};

[[nodiscard]] bool parse_error_fields(std::string_view body, ErrorFields& out);

// Either type, any fields. False, nothing appended: too large, a zero byte in a text, or a letter 0.
[[nodiscard]] bool append_error_fields(std::string& out, char type, std::span<const ErrorField> fields);
// ErrorResponse for `error`, fatal, panic; NoticeResponse for the other severities. Cannot fail: zero bytes become '?',
// and an error that would exceed the largest message is replaced by one that says so.
void append_error(std::string& out, const Error& error, Severity severity = Severity::error);

}  // namespace tessera::postgres
