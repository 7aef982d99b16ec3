// Errors are values. `Error` is what a user will finally read, whichever protocol carries it: a five-letter SQLSTATE, a
// sentence that says what and where, and, where one exists, a hint that says what would be right. Functions that can
// fail return `Result<T>`. Exceptions are used only in start-up code and inside `config`.
#pragma once

#include <array>
#include <expected>
#include <string>
#include <string_view>

namespace tessera {

// A SQLSTATE as PostgreSQL's appendix A lists them; always five characters.
class SqlState {
public:
  constexpr SqlState(const char (&code)[6]) : code_{code[0], code[1], code[2], code[3], code[4]} {}
  // Takes a code that came from a server. Anything but five characters becomes XX000 (internal_error).
  static SqlState from_wire(std::string_view code);

  constexpr std::string_view view() const { return {code_.data(), code_.size()}; }
  friend constexpr bool operator==(const SqlState&, const SqlState&) = default;

private:
  constexpr explicit SqlState(std::array<char, 5> code) : code_(code) {}
  std::array<char, 5> code_;
};

namespace sqlstate {
inline constexpr SqlState feature_not_supported{"0A000"};
inline constexpr SqlState protocol_violation{"08P01"};
inline constexpr SqlState connection_failure{"08006"};
inline constexpr SqlState connection_rejected{"08004"};
inline constexpr SqlState transaction_resolution_unknown{"08007"};
inline constexpr SqlState invalid_text_representation{"22P02"};
inline constexpr SqlState numeric_out_of_range{"22003"};
inline constexpr SqlState null_not_allowed{"22004"};
inline constexpr SqlState invalid_datetime{"22007"};
inline constexpr SqlState invalid_parameter_value{"22023"};
inline constexpr SqlState invalid_transaction_state{"25000"};
inline constexpr SqlState in_failed_transaction{"25P02"};
inline constexpr SqlState invalid_authorization{"28000"};
inline constexpr SqlState invalid_password{"28P01"};
inline constexpr SqlState invalid_catalog_name{"3D000"};
inline constexpr SqlState syntax_error{"42601"};
inline constexpr SqlState undefined_table{"42P01"};
inline constexpr SqlState undefined_object{"42704"};
inline constexpr SqlState insufficient_privilege{"42501"};
inline constexpr SqlState too_many_connections{"53300"};
inline constexpr SqlState out_of_memory{"53200"};
inline constexpr SqlState configuration_limit_exceeded{"53400"};
inline constexpr SqlState program_limit_exceeded{"54000"};
inline constexpr SqlState query_canceled{"57014"};
inline constexpr SqlState admin_shutdown{"57P01"};
inline constexpr SqlState crash_shutdown{"57P02"};
inline constexpr SqlState cannot_connect_now{"57P03"};
inline constexpr SqlState config_file_error{"F0000"};
inline constexpr SqlState internal_error{"XX000"};
}  // namespace sqlstate

struct Error {
  SqlState code = sqlstate::internal_error;
  std::string message;       // one sentence, no trailing full stop, no secrets
  std::string detail;        // may be empty
  std::string hint;          // what would be right; may be empty
  int position = 0;          // 1-based character in the statement that the client sent; 0: none
  std::string context = {};  // where it happened, as a server's CONTEXT; may be empty

  friend bool operator==(const Error&, const Error&) = default;
};

template <typename T>
using Result = std::expected<T, Error>;

// `return fail(sqlstate::syntax_error, "…")` in a function that returns a Result.
inline std::unexpected<Error> fail(SqlState code, std::string message, std::string hint = {}) {
  return std::unexpected(Error{code, std::move(message), {}, std::move(hint), 0});
}

}  // namespace tessera
