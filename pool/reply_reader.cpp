#include "pool/reply_reader.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <utility>
#include <vector>

namespace tessera::pool {

using postgres::FrameHeader;
using postgres::FrameStatus;
namespace backend = postgres::backend;

// A run of consecutive bytes for the client, handed over as late as possible and in one piece.
class ReplyReader::Run {
public:
  explicit Run(ReplySink& sink) : sink_(sink) {}
  ~Run() { flush(); }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  void add(std::string_view bytes) {
    if (bytes_.data() + bytes_.size() == bytes.data()) {
      bytes_ = {bytes_.data(), bytes_.size() + bytes.size()};
      return;
    }
    flush();
    bytes_ = bytes;
  }
  void flush() {
    if (!bytes_.empty()) sink_.on_relay(bytes_);
    bytes_ = {};
  }

private:
  ReplySink& sink_;
  std::string_view bytes_;
};

namespace {

// Messages whose body nobody here reads: they may pass in pieces.
bool passes_unread(char type) {
  return type == backend::data_row || type == backend::copy_data || type == backend::row_description ||
         type == backend::function_call_response || type == backend::parameter_description;
}

bool is_result(char type) {
  switch (type) {
    case backend::data_row:
    case backend::command_complete:
    case backend::empty_query_response:
    case backend::copy_in_response:
    case backend::copy_out_response:
    case backend::copy_both_response:
    case backend::copy_data:
    case backend::copy_done:
      return true;
    default:
      return false;
  }
}

bool allowed(ReplyKind kind, char type) {
  switch (kind) {
    case ReplyKind::query:
      return is_result(type) || type == backend::row_description;
    case ReplyKind::function_call:
      return type == backend::function_call_response;
    case ReplyKind::parse:
      return type == backend::parse_complete;
    case ReplyKind::bind:
      return type == backend::bind_complete;
    case ReplyKind::describe_statement:
      return type == backend::parameter_description || type == backend::row_description || type == backend::no_data;
    case ReplyKind::describe_portal:
      return type == backend::row_description || type == backend::no_data;
    case ReplyKind::execute:
      return is_result(type) || type == backend::portal_suspended;
    case ReplyKind::close:
      return type == backend::close_complete;
    case ReplyKind::sync:
    case ReplyKind::maybe_sync:
    case ReplyKind::copy_end:
    case ReplyKind::local:
      return false;
  }
  return false;
}

// Does this message, being allowed, end the entry?
bool completes(ReplyKind kind, char type) {
  switch (kind) {
    case ReplyKind::query:
    case ReplyKind::function_call:
    case ReplyKind::sync:
    case ReplyKind::maybe_sync:
    case ReplyKind::copy_end:
    case ReplyKind::local:
      return false;
    case ReplyKind::describe_statement:
      return type != backend::parameter_description;
    case ReplyKind::execute:
      return type == backend::command_complete || type == backend::empty_query_response ||
             type == backend::portal_suspended;
    case ReplyKind::parse:
    case ReplyKind::bind:
    case ReplyKind::describe_portal:
    case ReplyKind::close:
      return true;
  }
  return false;
}

std::string_view body_of(std::string_view whole) {
  return whole.substr(postgres::frame_header_size);
}

bool is_sync(ReplyKind kind) {
  return kind == ReplyKind::sync || kind == ReplyKind::maybe_sync;
}

bool ends_with_ready(ReplyKind kind) {
  return kind == ReplyKind::query || kind == ReplyKind::function_call || is_sync(kind);
}

// The client has failed its COPY IN, and the server has read all that came before that as part of the COPY.
bool is_copy_fail(const postgres::ErrorFields& fields) {
  return fields.find_or(postgres::error_field::code, "") == sqlstate::query_canceled.view() &&
         fields.find_or(postgres::error_field::routine, "") == "CopyGetData";
}

std::unexpected<Error> violation(std::string_view what) {
  return fail(sqlstate::protocol_violation, fmt::format("the server broke the protocol: {}", what));
}

}  // namespace

Result<void> ReplyReader::consume(std::string_view bytes, ReplySink& sink) {
  Run run(sink);
  while (!bytes.empty()) {
    if (streaming_left_ > 0) {
      const std::string_view part = bytes.substr(0, streaming_left_);
      if (streaming_forward_) run.add(part);
      streaming_left_ -= part.size();
      bytes.remove_prefix(part.size());
      continue;
    }
    FrameHeader header;
    if (!carry_.empty()) {
      bytes = fill_carry(bytes, postgres::frame_header_size);
      if (carry_.size() < postgres::frame_header_size) break;
    }
    const std::string_view front = carry_.empty() ? bytes : std::string_view(carry_);
    const FrameStatus status = postgres::peek_frame(front, postgres::max_message_length, header);
    if (status == FrameStatus::malformed) return violation(fmt::format("message length {}", header.length));
    if (status == FrameStatus::need_more) {
      carry_.assign(bytes);
      break;
    }
    // A message that ends its entry is held until it is whole: what follows the entry must not come in between.
    const bool streams =
        passes_unread(header.type) && (queue_.empty() || queue_.front().hidden_parameters == 0) &&
        (queue_.empty() || !(completes(queue_.front().kind, header.type) || is_sync(queue_.front().kind)));
    if (!streams && header.length > max_message_) return violation(fmt::format("a message of {} bytes", header.length));
    if (status == FrameStatus::complete && carry_.empty()) {
      const std::string_view whole = bytes.substr(0, header.total_size());
      if (Result<void> done = message(header, whole, run, sink); !done) return done;
      bytes.remove_prefix(whole.size());
      continue;
    }
    if (streams) {
      if (Result<void> done = message(header, front, run, sink); !done) return done;
      streaming_left_ = header.total_size() - front.size();
      streaming_forward_ = !queue_.empty() && queue_.front().delivery == Delivery::forward;
      if (!carry_.empty()) {
        run.flush();
        carry_.clear();
      } else {
        bytes = {};
      }
      continue;
    }
    if (carry_.empty()) {
      carry_.assign(bytes);
      break;
    }
    bytes = fill_carry(bytes, header.total_size());
    if (carry_.size() < header.total_size()) break;
    const std::string whole = std::exchange(carry_, {});
    Result<void> done = message(header, whole, run, sink);
    run.flush();
    if (!done) return done;
  }
  return {};
}

std::string_view ReplyReader::fill_carry(std::string_view bytes, std::size_t want) {
  if (carry_.size() >= want) return bytes;
  const std::size_t n = std::min(want - carry_.size(), bytes.size());
  carry_.append(bytes.substr(0, n));
  return bytes.substr(n);
}

// `whole` is the complete message, or, for one that passes unread, as much of it as is there.
Result<void> ReplyReader::message(const FrameHeader& header, std::string_view whole, Run& run, ReplySink& sink) {
  switch (header.type) {
    case backend::parameter_status:
    case backend::notice_response:
    case backend::notification_response: {
      bool relay = false;
      run.flush();
      const Result<bool> known = asynchronous(header.type, body_of(whole), sink, relay);
      if (!known) return std::unexpected(known.error());
      if (relay) run.add(whole);
      return {};
    }
    case backend::error_response:
      return error(whole, run, sink);
    case backend::ready_for_query:
      return ready(whole, run, sink);
    default:
      return answer(header.type, whole, run, sink);
  }
}

Result<bool> ReplyReader::asynchronous(char type, std::string_view body, ReplySink& sink, bool& relay) {
  const bool forwarding = !queue_.empty() && queue_.front().delivery == Delivery::forward;
  if (type == backend::parameter_status) {
    postgres::ParameterStatusView parameter;
    if (!postgres::parse_parameter_status(body, parameter)) return violation("malformed ParameterStatus");
    relay = sink.on_parameter(parameter.name, parameter.value, forwarding);
  } else if (type == backend::notice_response) {
    postgres::ErrorFields fields;
    if (!postgres::parse_error_fields(body, fields)) return violation("malformed NoticeResponse");
    relay = sink.on_notice(fields, forwarding);
  } else {
    postgres::NotificationView notification;
    if (!postgres::parse_notification(body, notification)) return violation("malformed NotificationResponse");
    relay = sink.on_notification(notification);
  }
  return true;
}

Result<void> ReplyReader::answer(char type, std::string_view whole, Run& run, ReplySink& sink) {
  if (queue_.empty()) return violation(fmt::format("unexpected message '{}'", type));
  if (is_sync(queue_.front().kind) && (!settle_doubt(sink) || queue_.empty()))
    return violation(fmt::format("unexpected message '{}'", type));
  ExpectedReply& head = queue_.front();
  if (!allowed(head.kind, type)) return violation(fmt::format("message '{}' does not answer what was asked", type));
  const bool ends =
      type == backend::command_complete || type == backend::empty_query_response || type == backend::portal_suspended;
  if (type == backend::parameter_description && head.hidden_parameters > 0)
    return relay_without_hidden(whole, run, sink);
  if (head.delivery == Delivery::forward && !(ends && head.hide_completion)) run.add(whole);
  if (type == backend::data_row || type == backend::copy_data) return {};
  if (type == backend::copy_in_response || type == backend::copy_out_response || type == backend::copy_both_response) {
    run.flush();
    if (type == backend::copy_in_response) copying_in_ = copied_in_ = true;
    sink.on_copy(head, type);
    if (type == backend::copy_in_response) doubt_syncs();
    return {};
  }
  if (completes(head.kind, type)) {
    if (copied_in_) drop_swallowed(sink);
    if (queue_.front().ordered) run.flush();
    sink.on_done(queue_.front(), type, body_of(whole));
    pop(run, sink);
  } else if (type == backend::command_complete || type == backend::empty_query_response) {
    if (copied_in_) drop_swallowed(sink);
    if (queue_.front().ordered) run.flush();
    sink.on_done(queue_.front(), type, body_of(whole));
  }
  return {};
}

Result<void> ReplyReader::relay_without_hidden(std::string_view whole, Run& run, ReplySink& sink) {
  const ExpectedReply& head = queue_.front();
  std::vector<postgres::Oid> types;
  if (!postgres::parse_parameter_description(body_of(whole), types) || types.size() < head.hidden_parameters)
    return violation("malformed ParameterDescription");
  if (head.delivery != Delivery::forward) return {};
  types.resize(types.size() - head.hidden_parameters);
  std::string described;
  if (!postgres::append_parameter_description(described, types)) return violation("ParameterDescription");
  run.flush();
  sink.on_relay(described);
  return {};
}

Result<void> ReplyReader::error(std::string_view whole, Run& run, ReplySink& sink) {
  postgres::ErrorFields fields;
  if (!postgres::parse_error_fields(body_of(whole), fields)) return violation("malformed ErrorResponse");
  copying_in_ = false;
  if (queue_.empty()) {
    // A server that ends the connection by itself (shutdown, timeout) says why without having been asked. A timeout is
    // the client's to know by its code; to a client a server that goes is a lost connection, at work or not.
    const Error reason = fields.to_error();
    const bool shutdown = reason.code == sqlstate::admin_shutdown || reason.code == sqlstate::crash_shutdown;
    return std::unexpected(Error{shutdown ? sqlstate::connection_failure : reason.code,
                                 fmt::format("the server closed the connection: {}", reason.message),
                                 {},
                                 {},
                                 0});
  }
  run.flush();
  if (copied_in_ && is_copy_fail(fields)) drop_swallowed(sink);
  if (!ends_with_ready(queue_.front().kind)) return skip_to_sync(fields, whole, run, sink);
  if (sink.on_error(queue_.front(), fields)) run.add(whole);
  run.flush();
  return {};
}

Result<void> ReplyReader::ready(std::string_view whole, Run& run, ReplySink& sink) {
  postgres::TransactionStatus status;
  if (!postgres::parse_ready_for_query(body_of(whole), status)) return violation("malformed ReadyForQuery");
  if (queue_.empty() || !ends_with_ready(queue_.front().kind)) return violation("ReadyForQuery out of place");
  copying_in_ = false;
  if (queue_.front().kind == ReplyKind::maybe_sync) {
    ++doubtful_readies_;
    --maybe_syncs_;
  }
  const bool forward = queue_.front().delivery == Delivery::forward;
  run.flush();
  // The owner may start the client's next statement from here, so the entry leaves the queue first.
  const ExpectedReply entry = std::move(queue_.front());
  queue_.pop_front();
  const bool relay = sink.on_ready(entry, status);
  if (forward && relay) run.add(whole);
  run.flush();
  deliver_local(sink);
  if (queue_.empty()) doubtful_readies_ = 0;
  return {};
}

void ReplyReader::pop(Run& run, ReplySink& sink) {
  queue_.pop_front();
  if (queue_.empty() || (queue_.front().kind != ReplyKind::local && queue_.front().kind != ReplyKind::copy_end)) return;
  run.flush();
  deliver_local(sink);
}

void ReplyReader::deliver_local(ReplySink& sink) {
  while (!queue_.empty() && (queue_.front().kind == ReplyKind::local || queue_.front().kind == ReplyKind::copy_end)) {
    const ExpectedReply entry = std::move(queue_.front());
    queue_.pop_front();
    if (entry.kind == ReplyKind::copy_end) continue;
    if (entry.delivery == Delivery::forward && !entry.local.empty()) sink.on_relay(entry.local);
    sink.on_done(entry, 0, {});
  }
}

// The head has failed, and with it everything up to the next Sync. The last one comes first, so that who undoes what he
// had noted for each ends where he began.
Result<void> ReplyReader::skip_to_sync(const postgres::ErrorFields& fields, std::string_view whole, Run& run,
                                       ReplySink& sink) {
  std::vector<ExpectedReply> dropped;
  while (!queue_.empty() && !is_sync(queue_.front().kind)) {
    dropped.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  skipping_ = queue_.empty();
  for (std::size_t i = dropped.size(); i-- > 1;) sink.on_skipped(dropped[i]);
  if (sink.on_error(dropped.front(), fields)) run.add(whole);
  run.flush();
  return {};
}

// A COPY IN begins: Syncs that were sent behind it, before the client ended the COPY, may be read as part of it.
void ReplyReader::doubt_syncs() {
  for (std::size_t i = 1; i < queue_.size(); ++i) {
    if (queue_[i].kind == ReplyKind::sync) {
      queue_[i].kind = ReplyKind::maybe_sync;
      ++maybe_syncs_;
    } else if (queue_[i].kind == ReplyKind::copy_end) {
      copying_in_ = false;  // the client has ended the COPY already; later Syncs count
      return;
    } else if (queue_[i].kind != ReplyKind::maybe_sync) {
      return;
    }
  }
}

// The COPY at the head went well, so it has swallowed what was sent into it.
void ReplyReader::drop_swallowed(ReplySink& sink) {
  copying_in_ = copied_in_ = false;
  while (queue_.size() > 1 && queue_[1].kind == ReplyKind::maybe_sync) {
    const ExpectedReply entry = std::move(queue_[1]);
    queue_.erase(queue_.begin() + 1);
    --maybe_syncs_;
    sink.on_skipped(entry);
  }
}

// Something other than ReadyForQuery comes while Syncs in doubt are at the head: they were swallowed. A Sync behind
// them was answered by a ReadyForQuery that we put down to one of them. False: there was none.
bool ReplyReader::settle_doubt(ReplySink& sink) {
  while (!queue_.empty() && (is_sync(queue_.front().kind) || queue_.front().kind == ReplyKind::copy_end)) {
    if (queue_.front().kind == ReplyKind::sync && doubtful_readies_-- == 0) return false;
    if (queue_.front().kind == ReplyKind::maybe_sync) --maybe_syncs_;
    const ExpectedReply entry = std::move(queue_.front());
    queue_.pop_front();
    if (entry.kind != ReplyKind::copy_end) sink.on_skipped(entry);
  }
  doubtful_readies_ = 0;
  return true;
}

}  // namespace tessera::pool
