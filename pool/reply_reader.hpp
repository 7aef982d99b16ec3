// Follows what a server answers. Whoever sends a message to a server also says here what reply it expects; the reader
// then cuts the server's bytes into messages, matches them with the head of that queue and reports runs of bytes that
// belong to the client, without looking inside rows. A reply that the head does not allow means that we lost track:
// `consume` fails and the connection must be destroyed, because the next client could otherwise read an answer that is
// not its own.
//
// The rules are those of protocol.sgml: after an error in the extended protocol the server skips everything up to the
// next Sync, and so the entries up to it are dropped (on_skipped); in COPY IN it swallows Syncs that were already on
// their way. Pure: no sockets, no clock. One per server connection, on its worker's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "wire/postgres/backend.hpp"

namespace tessera::pool {

enum class ReplyKind : std::uint8_t {
  query,          // simple query: results until ReadyForQuery
  function_call,  // likewise
  parse,
  bind,
  describe_statement,
  describe_portal,
  execute,
  close,
  sync,        // ReadyForQuery
  maybe_sync,  // a Sync sent into a COPY IN: swallowed if read while copying, answered if the COPY has failed by then
  copy_end,    // nothing from the server: here the client ended a COPY IN that had perhaps not begun yet
  local        // nothing from the server: bytes of our own belong here in the client's stream
};

enum class Delivery : std::uint8_t {
  forward,  // to the client
  ignore,   // our own business: SET before a statement, a re-prepared statement
};

struct ExpectedReply {
  ReplyKind kind = ReplyKind::query;
  Delivery delivery = Delivery::forward;
  bool poison = false;           // an error that we provoke: the client gets `local` in its place
  bool hide_completion = false;  // forward the rows, keep CommandComplete: on_done has it
  bool ordered = false;  // bytes are delivered before the event that follows them, not in one run with later ones
  std::uint16_t hidden_parameters = 0;  // describe_statement: so many of the last ones are not the client's
  std::uint32_t tag = 0;                // the owner's own number
  void* note = nullptr;                 // the owner's own
  std::string local;                    // kind local, or poison: what the client gets
};

// Told by `consume`, in the order of the stream. Views are valid during the call.
class ReplySink {
public:
  virtual ~ReplySink() = default;
  // Bytes for the client: whole messages or parts of one.
  virtual void on_relay(std::string_view bytes) = 0;
  // One statement of a query ended (CommandComplete, EmptyQueryResponse), or an execute did (also PortalSuspended), or
  // another extended message was answered: `type` is the message.
  virtual void on_done(const ExpectedReply& expected, char type, std::string_view body) = 0;
  // True: the client shall see it as it is. (Fatal ones announce that the connection ends.)
  virtual bool on_error(const ExpectedReply& expected, const postgres::ErrorFields& fields) = 0;
  // Dropped by an error before it, or swallowed by COPY IN. Local entries too. What an error drops is told backwards,
  // and before the error itself.
  virtual void on_skipped(const ExpectedReply& expected) = 0;
  // ReadyForQuery. False: the client shall not see it as it is.
  virtual bool on_ready(const ExpectedReply& expected, postgres::TransactionStatus status) = 0;
  // A COPY begins: 'G' in, 'H' out, 'W' both.
  virtual void on_copy(const ExpectedReply& expected, char type) = 0;
  // ParameterStatus, at any time; false: not for the client. `forwarding`: the head of the queue is the client's.
  virtual bool on_parameter(std::string_view name, std::string_view value, bool forwarding) = 0;
  virtual bool on_notice(const postgres::ErrorFields& fields, bool forwarding) = 0;
  virtual bool on_notification(const postgres::NotificationView& notification) = 0;
};

class ReplyReader {
public:
  // `max_message`: cap for messages that are held whole (errors, notices, …); rows and copy data stream through.
  explicit ReplyReader(std::uint64_t max_message = postgres::max_message_length) : max_message_(max_message) {}

  void expect(ExpectedReply reply) {
    if (reply.kind == ReplyKind::sync && copying_in_) reply.kind = ReplyKind::maybe_sync;
    if (reply.kind == ReplyKind::maybe_sync) ++maybe_syncs_;
    if (reply.kind == ReplyKind::sync || reply.kind == ReplyKind::maybe_sync) skipping_ = false;
    queue_.push_back(std::move(reply));
  }
  // Gives `sink` the local entries at the head of the queue: call after expecting one, when nothing may be outstanding
  // before it.
  void deliver_local(ReplySink& sink);
  // Reads `bytes`; everything is taken. An error: the server broke the protocol.
  Result<void> consume(std::string_view bytes, ReplySink& sink);

  bool empty() const { return queue_.empty() && carry_.empty() && streaming_left_ == 0; }
  std::size_t outstanding() const { return queue_.size(); }
  // The server ignores everything until a Sync that was not sent yet.
  bool skipping() const { return skipping_; }
  bool copying_in() const { return copying_in_; }
  // It is not known yet whether some Sync was swallowed by a COPY IN.
  bool in_doubt() const { return maybe_syncs_ > 0 || doubtful_readies_ > 0; }
  // The client ended or failed its COPY IN: what follows is read again as usual.
  void end_copy_in() {
    if (!copying_in_ && !queue_.empty()) queue_.push_back({.kind = ReplyKind::copy_end, .delivery = Delivery::ignore});
    copying_in_ = false;
  }
  // A message was cut and its first part is with the client: nothing else may be sent to the client now.
  bool inside_message() const { return streaming_left_ > 0 && streaming_forward_; }
  const std::deque<ExpectedReply>& queue() const { return queue_; }
  std::deque<ExpectedReply>& queue() { return queue_; }

private:
  class Run;
  Result<void> message(const postgres::FrameHeader& header, std::string_view whole, Run& run, ReplySink& sink);
  Result<bool> asynchronous(char type, std::string_view body, ReplySink& sink, bool& relay);
  Result<void> answer(char type, std::string_view whole, Run& run, ReplySink& sink);
  Result<void> relay_without_hidden(std::string_view whole, Run& run, ReplySink& sink);
  Result<void> error(std::string_view whole, Run& run, ReplySink& sink);
  Result<void> ready(std::string_view whole, Run& run, ReplySink& sink);
  void pop(Run& run, ReplySink& sink);
  Result<void> skip_to_sync(const postgres::ErrorFields& fields, std::string_view whole, Run& run, ReplySink& sink);
  void doubt_syncs();
  void drop_swallowed(ReplySink& sink);
  bool settle_doubt(ReplySink& sink);
  std::string_view fill_carry(std::string_view bytes, std::size_t want);

  std::uint64_t max_message_;
  std::deque<ExpectedReply> queue_;
  std::string carry_;               // an incomplete header, or an incomplete message that must be seen whole
  std::size_t streaming_left_ = 0;  // bytes of a message that still pass through unread
  bool streaming_forward_ = false;
  bool skipping_ = false;
  bool copying_in_ = false;
  bool copied_in_ = false;            // the head of the queue is or was a COPY IN
  std::size_t maybe_syncs_ = 0;       // how many are in the queue
  std::size_t doubtful_readies_ = 0;  // ReadyForQuery put down to a maybe_sync; it may be that of the Sync behind it
};

}  // namespace tessera::pool
