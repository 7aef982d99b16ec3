// Messages of a client: parsed views and builders. A view borrows from the body it was parsed from; parse functions
// reuse the vectors of the view they are given, so that parsing allocates nothing once they have grown. They accept
// exactly what PostgreSQL accepts as well formed, leftover bytes refused; whether names exist or counts agree with a
// statement is the server's business. A parse function that returns false leaves its output unspecified; the answer to
// the client is `invalid_message()`. Builders return false, and append nothing, if a text holds a zero byte or a size
// does not fit.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "wire/postgres/frame.hpp"

namespace tessera::postgres {

using Oid = std::uint32_t;
using Value = std::optional<std::string_view>;  // a parameter or a column; nothing: NULL

enum class Format : std::int16_t { text = 0, binary = 1 };

// 08P01 "invalid message format", as pq_getmsgend says; `what` names the message in the detail.
Error invalid_message(std::string_view what);

// The format of value `index` by the rule that Bind, RowDescription and COPY share: no codes mean text for all, one
// code counts for all, else one code each. Nothing: there is no code for `index`, or it is neither 0 nor 1.
std::optional<Format> format_of(std::span<const std::int16_t> codes, std::size_t index);

struct ParseView {
  std::string_view statement;  // empty: the unnamed one
  std::string_view query;
  std::vector<Oid> parameter_types;  // 0: not given
};

struct BindView {
  std::string_view portal;
  std::string_view statement;
  std::vector<std::int16_t> parameter_formats;
  std::vector<Value> parameters;
  std::vector<std::int16_t> result_formats;
};

// Describe and Close.
struct TargetView {
  char kind = 'S';  // 'S' statement, 'P' portal; another letter is well formed, and an error of the server
  std::string_view name;
};

struct ExecuteView {
  std::string_view portal;
  std::int32_t max_rows = 0;  // <= 0: all
};

struct FunctionCallView {
  Oid function = 0;
  std::vector<std::int16_t> argument_formats;
  std::vector<Value> arguments;
  std::int16_t result_format = 0;
};

struct SaslInitialView {
  std::string_view mechanism;
  std::optional<std::string_view> data;  // nothing: no initial response (length -1)
};

[[nodiscard]] bool parse_query(std::string_view body, std::string_view& sql);
[[nodiscard]] bool parse_parse(std::string_view body, ParseView& out);
[[nodiscard]] bool parse_bind(std::string_view body, BindView& out);
[[nodiscard]] bool parse_describe(std::string_view body, TargetView& out);
[[nodiscard]] bool parse_close(std::string_view body, TargetView& out);
[[nodiscard]] bool parse_execute(std::string_view body, ExecuteView& out);
[[nodiscard]] bool parse_function_call(std::string_view body, FunctionCallView& out);
[[nodiscard]] bool parse_copy_fail(std::string_view body, std::string_view& reason);
[[nodiscard]] bool parse_password(std::string_view body, std::string_view& password);
[[nodiscard]] bool parse_sasl_initial(std::string_view body, SaslInitialView& out);
// SASLResponse and CopyData are their body. Sync, Flush, Terminate and CopyDone must have an empty one.

[[nodiscard]] bool append_query(std::string& out, std::string_view sql);
[[nodiscard]] bool append_parse(std::string& out, std::string_view statement, std::string_view query,
                                std::span<const Oid> parameter_types = {});

struct BindFormats {
  std::span<const std::int16_t> parameters;
  std::span<const std::int16_t> results;
};
[[nodiscard]] bool append_bind(std::string& out, std::string_view portal, std::string_view statement,
                               std::span<const Value> parameters, BindFormats formats = {});
[[nodiscard]] bool append_describe(std::string& out, char kind, std::string_view name);
[[nodiscard]] bool append_close(std::string& out, char kind, std::string_view name);
[[nodiscard]] bool append_execute(std::string& out, std::string_view portal, std::int32_t max_rows = 0);
[[nodiscard]] bool append_function_call(std::string& out, const FunctionCallView& call);
[[nodiscard]] bool append_copy_data(std::string& out, std::string_view data);  // either direction
[[nodiscard]] bool append_copy_fail(std::string& out, std::string_view reason);
[[nodiscard]] bool append_password(std::string& out, std::string_view password);
[[nodiscard]] bool append_sasl_initial(std::string& out, const SaslInitialView& message);
[[nodiscard]] bool append_sasl_response(std::string& out, std::string_view data);
void append_copy_done(std::string& out);  // either direction
void append_sync(std::string& out);
void append_flush(std::string& out);
void append_terminate(std::string& out);

}  // namespace tessera::postgres
