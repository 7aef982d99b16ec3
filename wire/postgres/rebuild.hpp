// For tests and fuzzers: parses a message and builds it again. A body that a parser accepts has one spelling only, so
// what is built must be the very bytes that were read. Nothing means that the parser refused the body.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/postgres/backend.hpp"
#include "wire/postgres/frontend.hpp"

namespace tessera::postgres::testing {

using Rebuilt = std::optional<std::string>;

// The builder of something that a parser accepted must succeed; if it does not, the text says so and compares unequal.
template <typename Build>
Rebuilt built(bool parsed, Build build) {
  if (!parsed) return std::nullopt;
  std::string out;
  if (!build(out)) return "the builder refused what the parser accepted";
  return out;
}

inline Rebuilt rebuild_password(std::string_view body) {
  std::string_view password;
  return built(parse_password(body, password), [&](std::string& out) { return append_password(out, password); });
}

inline Rebuilt rebuild_sasl_initial(std::string_view body) {
  SaslInitialView view;
  return built(parse_sasl_initial(body, view), [&](std::string& out) { return append_sasl_initial(out, view); });
}

inline Rebuilt rebuild_frontend(char type, std::string_view body) {
  std::string_view text;
  ParseView parse;
  BindView bind;
  TargetView target;
  ExecuteView execute;
  FunctionCallView call;
  switch (type) {
    case frontend::query:
      return built(parse_query(body, text), [&](std::string& out) { return append_query(out, text); });
    case frontend::parse:
      return built(parse_parse(body, parse), [&](std::string& out) {
        return append_parse(out, parse.statement, parse.query, parse.parameter_types);
      });
    case frontend::bind:
      return built(parse_bind(body, bind), [&](std::string& out) {
        return append_bind(out, bind.portal, bind.statement, bind.parameters,
                           {bind.parameter_formats, bind.result_formats});
      });
    case frontend::describe:
      return built(parse_describe(body, target),
                   [&](std::string& out) { return append_describe(out, target.kind, target.name); });
    case frontend::close:
      return built(parse_close(body, target),
                   [&](std::string& out) { return append_close(out, target.kind, target.name); });
    case frontend::execute:
      return built(parse_execute(body, execute),
                   [&](std::string& out) { return append_execute(out, execute.portal, execute.max_rows); });
    case frontend::function_call:
      return built(parse_function_call(body, call), [&](std::string& out) { return append_function_call(out, call); });
    case frontend::copy_fail:
      return built(parse_copy_fail(body, text), [&](std::string& out) { return append_copy_fail(out, text); });
    default:
      return std::nullopt;
  }
}

inline Rebuilt rebuild_authentication(std::string_view body) {
  AuthenticationView view;
  return built(parse_authentication(body, view), [&](std::string& out) {
    switch (view.request) {
      case AuthRequest::ok:
        append_authentication_ok(out);
        return true;
      case AuthRequest::cleartext:
        append_authentication_cleartext(out);
        return true;
      case AuthRequest::md5:
        return append_authentication_md5(out, view.data);
      case AuthRequest::sasl:
        return append_authentication_sasl(out, view.mechanisms);
      case AuthRequest::sasl_continue:
        return append_authentication_sasl_continue(out, view.data);
      case AuthRequest::sasl_final:
        return append_authentication_sasl_final(out, view.data);
    }
    // A method that nobody here speaks has no builder: copied.
    out.assign(1, backend::authentication).append({0, 0, 0, static_cast<char>(body.size() + 4)}).append(body);
    return body.size() < 100;
  });
}

inline Rebuilt rebuild_errors(char type, std::string_view body) {
  ErrorFields fields;
  const bool parsed = parse_error_fields(body, fields);
  return built(parsed, [&](std::string& out) {
    std::vector<ErrorField> list;
    for (auto rest = fields; const auto field = rest.next();) list.push_back(*field);
    return append_error_fields(out, type, list);
  });
}

inline Rebuilt rebuild_row(std::string_view body) {
  DataRowReader reader(body);
  std::vector<Value> values;
  for (Value value; reader.next(value);) values.push_back(value);
  return built(reader.finished(), [&](std::string& out) { return append_data_row(out, values); });
}

inline Rebuilt rebuild_session_message(char type, std::string_view body) {
  ParameterStatusView status;
  BackendKeyDataView key;
  TransactionStatus transaction{};
  NotificationView notification;
  NegotiateProtocolVersionView negotiate;
  switch (type) {
    case backend::parameter_status:
      return built(parse_parameter_status(body, status),
                   [&](std::string& out) { return append_parameter_status(out, status.name, status.value); });
    case backend::backend_key_data:
      return built(parse_backend_key_data(body, key),
                   [&](std::string& out) { return append_backend_key_data(out, key.pid, key.key); });
    case backend::ready_for_query:
      return built(parse_ready_for_query(body, transaction), [&](std::string& out) {
        append_ready_for_query(out, transaction);
        return true;
      });
    case backend::notification_response:
      return built(parse_notification(body, notification),
                   [&](std::string& out) { return append_notification(out, notification); });
    case backend::negotiate_protocol_version:
      return built(parse_negotiate_protocol_version(body, negotiate), [&](std::string& out) {
        return append_negotiate_protocol_version(out, negotiate.version, negotiate.unknown_options);
      });
    default:
      return std::nullopt;
  }
}

inline Rebuilt rebuild_backend(char type, std::string_view body) {
  std::string_view tag;
  std::vector<FieldView> fields;
  std::vector<Oid> types;
  CopyResponseView copy;
  Value result;
  switch (type) {
    case backend::authentication:
      return rebuild_authentication(body);
    case backend::error_response:
    case backend::notice_response:
      return rebuild_errors(type, body);
    case backend::row_description:
      return built(parse_row_description(body, fields),
                   [&](std::string& out) { return append_row_description(out, fields); });
    case backend::data_row:
      return rebuild_row(body);
    case backend::command_complete:
      return built(parse_command_complete(body, tag),
                   [&](std::string& out) { return append_command_complete(out, tag); });
    case backend::parameter_description:
      return built(parse_parameter_description(body, types),
                   [&](std::string& out) { return append_parameter_description(out, types); });
    case backend::copy_in_response:
    case backend::copy_out_response:
    case backend::copy_both_response:
      return built(parse_copy_response(body, copy),
                   [&](std::string& out) { return append_copy_response(out, type, copy); });
    case backend::function_call_response:
      return built(parse_function_call_response(body, result),
                   [&](std::string& out) { return append_function_call_response(out, result); });
    default:
      return rebuild_session_message(type, body);
  }
}

}  // namespace tessera::postgres::testing
