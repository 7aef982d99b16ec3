// Messages of a server: parsed views and builders, by the same rules as frontend.hpp (views borrow, vectors are reused,
// builders return false and append nothing when something does not fit). Rows are read lazily: a relay never needs to
// look inside one. Errors and notices have a header of their own, error_message.hpp, included here.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_reader.hpp"
#include "wire/postgres/error_message.hpp"
#include "wire/postgres/frame.hpp"
#include "wire/postgres/frontend.hpp"

namespace tessera::postgres {

// ---- authentication -------------------------------------------------------------------------------------------------

enum class AuthRequest : std::uint32_t {
  ok = 0,
  cleartext = 3,
  md5 = 5,
  sasl = 10,
  sasl_continue = 11,
  sasl_final = 12,
  // Others (Kerberos, GSS, SSPI, SCM) carry their number; nothing here answers them.
};

struct AuthenticationView {
  AuthRequest request = AuthRequest::ok;
  std::string_view data;  // md5: 4 bytes of salt; sasl_continue, sasl_final: the mechanism's message; others: as sent
  std::vector<std::string_view> mechanisms;  // sasl
};

[[nodiscard]] bool parse_authentication(std::string_view body, AuthenticationView& out);
void append_authentication_ok(std::string& out);
void append_authentication_cleartext(std::string& out);
[[nodiscard]] bool append_authentication_md5(std::string& out, std::string_view salt);  // exactly 4 bytes
[[nodiscard]] bool append_authentication_sasl(std::string& out, std::span<const std::string_view> mechanisms);
[[nodiscard]] bool append_authentication_sasl_continue(std::string& out, std::string_view data);
[[nodiscard]] bool append_authentication_sasl_final(std::string& out, std::string_view data);

// ---- session --------------------------------------------------------------------------------------------------------

struct ParameterStatusView {
  std::string_view name;
  std::string_view value;
};
struct BackendKeyDataView {
  std::uint32_t pid = 0;
  std::string_view key;  // 4 bytes in protocol 3.0, up to 256 in 3.2
};
enum class TransactionStatus : char { idle = 'I', in_transaction = 'T', failed = 'E' };
struct NotificationView {
  std::uint32_t pid = 0;
  std::string_view channel;
  std::string_view payload;
};
struct NegotiateProtocolVersionView {
  std::uint32_t version = 0;  // servers send major << 16 | minor, though the documentation says minor only
  std::vector<std::string_view> unknown_options;
};

[[nodiscard]] bool parse_parameter_status(std::string_view body, ParameterStatusView& out);
[[nodiscard]] bool parse_backend_key_data(std::string_view body, BackendKeyDataView& out);
[[nodiscard]] bool parse_ready_for_query(std::string_view body, TransactionStatus& out);
[[nodiscard]] bool parse_notification(std::string_view body, NotificationView& out);
[[nodiscard]] bool parse_negotiate_protocol_version(std::string_view body, NegotiateProtocolVersionView& out);

[[nodiscard]] bool append_parameter_status(std::string& out, std::string_view name, std::string_view value);
[[nodiscard]] bool append_backend_key_data(std::string& out, std::uint32_t pid,
                                           std::string_view key);  // 4 to 256 bytes
void append_ready_for_query(std::string& out, TransactionStatus status);
[[nodiscard]] bool append_notification(std::string& out, const NotificationView& notification);
[[nodiscard]] bool append_negotiate_protocol_version(std::string& out, std::uint32_t version,
                                                     std::span<const std::string_view> unknown_options);

// ---- results --------------------------------------------------------------------------------------------------------

struct FieldView {
  std::string_view name;
  Oid table = 0;            // 0: not a plain column
  std::int16_t column = 0;  // attribute number in `table`
  Oid type = 0;
  std::int16_t type_size = 0;  // negative: variable width
  std::int32_t type_modifier = -1;
  std::int16_t format = 0;
  friend bool operator==(const FieldView&, const FieldView&) = default;
};

[[nodiscard]] bool parse_row_description(std::string_view body, std::vector<FieldView>& out);
[[nodiscard]] bool append_row_description(std::string& out, std::span<const FieldView> fields);

// Walks one DataRow: `while (reader.next(value)) …; if (!reader.finished()) malformed`.
class DataRowReader {
public:
  explicit DataRowReader(std::string_view body) : reader_(body), columns_(reader_.u16()), left_(columns_) {}
  std::uint16_t columns() const { return columns_; }
  // False: no further column, or the row is malformed.
  bool next(Value& value);
  // All columns were read and nothing is left over.
  bool finished() const { return left_ == 0 && reader_.finished(); }

private:
  ByteReader reader_;
  std::uint16_t columns_;
  std::uint16_t left_;
};

[[nodiscard]] bool append_data_row(std::string& out, std::span<const Value> values);

[[nodiscard]] bool parse_command_complete(std::string_view body, std::string_view& tag);
[[nodiscard]] bool parse_parameter_description(std::string_view body, std::vector<Oid>& types);
// CopyInResponse, CopyOutResponse, CopyBothResponse.
struct CopyResponseView {
  std::int8_t format = 0;  // 0 text, 1 binary
  std::vector<std::int16_t> column_formats;
};
[[nodiscard]] bool parse_copy_response(std::string_view body, CopyResponseView& out);
[[nodiscard]] bool parse_function_call_response(std::string_view body, Value& result);

[[nodiscard]] bool append_command_complete(std::string& out, std::string_view tag);
[[nodiscard]] bool append_parameter_description(std::string& out, std::span<const Oid> types);
// `type` is one of copy_in_response, copy_out_response, copy_both_response.
[[nodiscard]] bool append_copy_response(std::string& out, char type, const CopyResponseView& response);
[[nodiscard]] bool append_function_call_response(std::string& out, Value result);
// The messages without a body: ParseComplete, BindComplete, CloseComplete, NoData, EmptyQueryResponse, PortalSuspended.
void append_parse_complete(std::string& out);
void append_bind_complete(std::string& out);
void append_close_complete(std::string& out);
void append_no_data(std::string& out);
void append_empty_query_response(std::string& out);
void append_portal_suspended(std::string& out);

}  // namespace tessera::postgres
