// Tests only: what a server says, and a sink that writes down what it is told. A trace can be compared between two ways
// of cutting the same bytes into pieces: events in order, and with each the number of bytes that the client had then,
// where the reader promises that order (see `Trace`).
#pragma once

#include <fmt/format.h>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pool/reply_reader.hpp"

namespace tessera::pool::script {

// A message with any type, body and length field.
inline std::string raw(char type, std::string_view body) {
  std::string out(1, type);
  const auto length = static_cast<std::uint32_t>(body.size() + 4);
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(length >> shift);
  return out.append(body);
}
inline std::string header(char type, std::uint32_t length) {
  std::string out = raw(type, "");
  for (int i = 0; i < 4; ++i) out[static_cast<std::size_t>(1 + i)] = static_cast<char>(length >> (24 - 8 * i));
  return out;
}
inline std::string fields(char type, std::string_view severity, std::string_view code, std::string_view message) {
  return raw(type, fmt::format("S{0}{3}V{0}{3}C{1}{3}M{2}{3}{3}", severity, code, message, std::string_view("\0", 1)));
}
inline std::string error(std::string_view code = "42601") {
  return fields('E', "ERROR", code, "no");
}
inline std::string fatal(std::string_view code = "57P01") {
  return fields('E', "FATAL", code, "going down");
}
inline std::string notice() {
  return fields('N', "NOTICE", "00000", "by the way");
}
inline std::string ready(char status = 'I') {
  return raw('Z', std::string(1, status));
}
inline std::string complete(std::string_view tag = "SELECT 1") {
  return raw('C', std::string(tag) + '\0');
}
inline std::string columns() {
  return raw('T', std::string("\0\1a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0", 22));
}
inline std::string row(std::string_view value = "v") {
  return raw('D', std::string("\0\1\0\0\0", 5) + static_cast<char>(value.size()) + std::string(value));
}
inline std::string parameter(std::string_view name = "TimeZone", std::string_view value = "UTC") {
  return raw('S', std::string(name) + '\0' + std::string(value) + '\0');
}
inline std::string notification() {
  return raw('A', std::string("\0\0\0\7news\0hello\0", 15));
}
inline std::string copy_response(char type) {
  return raw(type, std::string("\0\0\1\0\0", 5));
}

inline std::string name_of(ReplyKind kind) {
  switch (kind) {
    case ReplyKind::query:
      return "query";
    case ReplyKind::function_call:
      return "function_call";
    case ReplyKind::parse:
      return "parse";
    case ReplyKind::bind:
      return "bind";
    case ReplyKind::describe_statement:
      return "describe_statement";
    case ReplyKind::describe_portal:
      return "describe_portal";
    case ReplyKind::execute:
      return "execute";
    case ReplyKind::close:
      return "close";
    case ReplyKind::sync:
      return "sync";
    case ReplyKind::maybe_sync:
      return "maybe_sync";
    case ReplyKind::copy_end:
      return "copy_end";
    case ReplyKind::local:
      return "local";
    default:
      return "?";
  }
}
inline constexpr ReplyKind all_kinds[] = {ReplyKind::query,
                                          ReplyKind::function_call,
                                          ReplyKind::parse,
                                          ReplyKind::bind,
                                          ReplyKind::describe_statement,
                                          ReplyKind::describe_portal,
                                          ReplyKind::execute,
                                          ReplyKind::close,
                                          ReplyKind::sync,
                                          ReplyKind::maybe_sync,
                                          ReplyKind::copy_end,
                                          ReplyKind::local};

// `events`: what was told, with the client's bytes so far where order is promised ("@12"). `relayed`: the client's
// bytes.
struct Trace : ReplySink {
  std::vector<std::string> events;
  std::string relayed;
  bool relay_errors = true, relay_ready = true, relay_parameters = true, relay_notices = true,
       relay_notifications = true;

  void note(std::string event, bool positioned) {
    if (positioned) event += fmt::format(" @{}", relayed.size());
    events.push_back(std::move(event));
  }
  void on_relay(std::string_view bytes) override { relayed.append(bytes); }
  void on_done(const ExpectedReply& expected, char type, std::string_view body) override {
    std::string text = fmt::format("done {} {} {}", name_of(expected.kind), expected.tag, type == 0 ? '-' : type);
    if (type == 'C' || type == 'T')
      text += fmt::format(" {}", std::string(body.data(), body.empty() ? 0 : body.size() - 1));
    note(std::move(text), expected.ordered || expected.kind == ReplyKind::local);
  }
  bool on_error(const ExpectedReply& expected, const postgres::ErrorFields& fields) override {
    note(fmt::format("error {} {} {}{}", name_of(expected.kind), expected.tag, fields.find_or('C', ""),
                     expected.poison ? " poison" : ""),
         true);
    if (expected.poison) {
      relayed += expected.local;
      return false;
    }
    return relay_errors;
  }
  void on_skipped(const ExpectedReply& expected) override {
    note(fmt::format("skipped {} {}", name_of(expected.kind), expected.tag), false);
  }
  bool on_ready(const ExpectedReply& expected, postgres::TransactionStatus status) override {
    note(fmt::format("ready {} {} {}", name_of(expected.kind), expected.tag, static_cast<char>(status)), true);
    return relay_ready;
  }
  void on_copy(const ExpectedReply& expected, char type) override {
    note(fmt::format("copy {} {}", name_of(expected.kind), type), true);
  }
  bool on_parameter(std::string_view name, std::string_view value, bool forwarding) override {
    note(fmt::format("parameter {}={} {}", name, value, forwarding), true);
    return relay_parameters;
  }
  bool on_notice(const postgres::ErrorFields& fields, bool forwarding) override {
    note(fmt::format("notice {} {}", fields.find_or('M', ""), forwarding), true);
    return relay_notices;
  }
  bool on_notification(const postgres::NotificationView& notification) override {
    note(fmt::format("notification {}={}", notification.channel, notification.payload), true);
    return relay_notifications;
  }
};

// Takes everything and writes nothing down.
struct SilentSink : ReplySink {
  void on_relay(std::string_view) override {}
  void on_done(const ExpectedReply&, char, std::string_view) override {}
  bool on_error(const ExpectedReply&, const postgres::ErrorFields&) override { return true; }
  void on_skipped(const ExpectedReply&) override {}
  bool on_ready(const ExpectedReply&, postgres::TransactionStatus) override { return true; }
  void on_copy(const ExpectedReply&, char) override {}
  bool on_parameter(std::string_view, std::string_view, bool) override { return true; }
  bool on_notice(const postgres::ErrorFields&, bool) override { return true; }
  bool on_notification(const postgres::NotificationView&) override { return true; }
};

// Feeds `bytes` from a block of memory of its own, so that a view which is kept too long is seen by the sanitizer.
inline Result<void> feed(ReplyReader& reader, ReplySink& sink, std::string_view bytes) {
  const std::unique_ptr<char[]> copy(new char[bytes.size()]);
  bytes.copy(copy.get(), bytes.size());
  return reader.consume({copy.get(), bytes.size()}, sink);
}

}  // namespace tessera::pool::script
