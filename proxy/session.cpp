#include "proxy/session.hpp"

#include <algorithm>
#include <fmt/format.h>

#include "proxy/listen_hub.hpp"

namespace tessera::proxy {

using pool::Backend;
using pool::ReplyKind;
using postgres::FrameHeader;
using postgres::FrameStatus;
using postgres::TransactionStatus;
namespace frontend = postgres::frontend;

namespace {
constexpr int most_prepare_attempts = 3;
}

Session::Session(SessionOptions options, SessionHost& host)
    : options_(std::move(options)), host_(host), settings_(options_.startup_settings) {
  options_.database->metrics().clients.add();
  options_.database->session_opened();
  last_activity_ = options_.database->loop().now();
}

Session::~Session() {
  *alive_ = false;
  on_client_gone();
  options_.database->session_closed();
}

void Session::open(std::function<void(const pool::ParameterMap&)> ready, std::function<void(const Error&)> failed) {
  on_open_ = std::move(ready);
  on_open_failed_ = std::move(failed);
  wait_ = Wait::opening;
  const bool there =
      options_.database->ensure_catalog(options_.identity, [this, alive = alive_](const Result<void>& loaded) {
        if (!*alive) return;
        if (!loaded) return on_open_failed_(loaded.error());
        greet(0);
      });
  if (there) greet(0);
}

// Any shard can say what the servers' parameters are; one that cannot be reached is no reason to turn a client away.
void Session::greet(std::uint32_t attempt) {
  const auto shards = static_cast<std::uint32_t>(options_.database->shard_count());
  const ShardId shard((any_shard().value() + attempt) % shards);
  const GreetingRef known = options_.database->greeting(
      options_.identity, shard, settings_.current(),
      [this, attempt, shards, alive = alive_](const Result<GreetingRef>& greeting) {
        if (!*alive) return;
        if (greeting) return opened(*greeting);
        const std::string_view code = greeting.error().code.view();
        const bool unreachable = code.starts_with("08") || code.starts_with("53") || code.starts_with("57");
        if (unreachable && attempt + 1 < shards && !options_.database->retired()) return greet(attempt + 1);
        on_open_failed_(greeting.error());
      });
  if (known) opened(known);
}

void Session::opened(const GreetingRef& greeting) {
  greeting_ = greeting;
  encodings_.reset();
  stop_waiting();
  const auto ready = std::exchange(on_open_, nullptr);
  on_open_failed_ = nullptr;
  ready(greeting->parameters);
}

// ---- messages -------------------------------------------------------------------------------------------------------

void Session::on_client_bytes(std::string_view bytes) {
  last_activity_ = options_.database->loop().now();
  if (wait_ == Wait::none && input_.empty() && !running_ && !script_) {
    running_ = true;
    while (!bytes.empty() && wait_ == Wait::none && !ending_ && !script_) {
      const std::size_t taken = handle_front(bytes);
      if (taken == 0) break;
      bytes.remove_prefix(taken);
    }
    running_ = false;
    if (!ending_) input_.append(bytes);
    if (!script_) return finish_turn();
    bytes = {};
  }
  if (!ending_) input_.append(bytes);
  run();
}

void Session::run() {
  if (running_ || ending_) return;
  running_ = true;
  std::size_t done = 0;
  while (wait_ == Wait::none && !ending_) {
    // Its next statement comes before what the client has sent behind it, but for the data of a COPY.
    if (script_ && !takes_copy_data()) {
      if (!run_script()) break;
      continue;
    }
    if (done == input_.size()) break;
    const std::size_t taken = handle_front(std::string_view(input_).substr(done));
    if (taken == 0) break;
    done += taken;
  }
  input_.erase(0, done);
  if (input_.empty() && input_.capacity() > 4096) std::string().swap(input_);
  running_ = false;
  finish_turn();
}

// CopyData is never held as a whole, so the limit of what is held does not concern it.
std::uint64_t Session::longest_message(char type) const {
  return type == frontend::copy_data ? postgres::max_message_length : options_.database->settings().limits.message_size;
}

// Handles the message at the front; returns the bytes it took, 0 when it is incomplete or must wait.
std::size_t Session::handle_front(std::string_view bytes) {
  if (copy_in_ != nullptr) return feed_copy(bytes);
  if (copy_left_ > 0) return pass_copy_data(bytes);
  FrameHeader header;
  const std::uint64_t cap = longest_message(bytes.front());
  switch (postgres::peek_frame(bytes, cap, header)) {
    case FrameStatus::need_more:
      return 0;
    case FrameStatus::malformed:
      fatal({sqlstate::protocol_violation,
             fmt::format("invalid message length {}", header.length),
             {},
             fmt::format("messages may be up to {} bytes long (limits.message_size)", cap),
             0});
      return 0;
    case FrameStatus::header_only:
      if (header.type != frontend::copy_data || wait_for_copy()) return 0;
      copy_left_ = header.total_size();
      copy_dropped_ = backend_ == nullptr || backend_->replies().empty();
      return pass_copy_data(bytes);
    case FrameStatus::complete:
      break;
  }
  const std::string_view whole = bytes.substr(0, header.total_size());
  return handle(header.type, whole) ? whole.size() : 0;
}

namespace {
// The others belong to a request that has begun already, or to none: a COPY's data goes on coming when it has failed.
bool begins_request(char type) {
  return type != frontend::copy_data && type != frontend::copy_done && type != frontend::copy_fail &&
         type != frontend::flush;
}
}  // namespace

bool Session::handle(char type, std::string_view whole) {
  const bool taken = handle_now(type, whole);
  if (taken) giving_.drop();
  return taken;
}

bool Session::handle_now(char type, std::string_view whole) {
  if (options_.database->retired() && is_settled() && !skip_local_) {
    host_.leave_retired_database();
    if (ending_) return true;
  }
  if (backend_ != nullptr && backend_->pending() > net::Stream::high_water) {
    // A client that sends and does not read stops the server, and we must not take what the server does not.
    wait_ = Wait::drain;
    return false;
  }
  if (wait_for_copy()) return false;
  if (type == frontend::terminate) return handle_terminate();
  if (discard_until_sync() && type != frontend::sync) return true;
  if (awaited_reading_ != 0 && is_settled() && begins_request(type) && wait_for_catalog()) return false;
  // Of a transaction that is open in name only: what has been asked on the side may fail, and it with that.
  if ((lazy_.open() || aside_ != Aside::none) && wait_for_replies() == Got::wait) return false;
  if (breaks_copy_ || breaks_copy(type)) return break_copy(whole);
  if (is_congested()) {
    // Our own answers would pile up: as from a server, who does not read is not read from.
    wait_ = Wait::client;
    return false;
  }
  handling_extended_ = type != frontend::query && type != frontend::function_call;
  asks_sequences_ = false;
  if (request_started_ == TimePoint{} && begins_request(type)) request_started_ = options_.database->loop().now();
  if (handling_extended_ && begins_request(type) && type != frontend::sync) {
    if (const Got got = relieve_unit(); got != Got::ready) return got == Got::refused;
  }
  const bool taken = dispatch(type, whole);
  if (taken) note_for_retry(type, whole);
  return taken;
}

bool Session::dispatch(char type, std::string_view whole) {
  switch (type) {
    case frontend::query:
      return handle_query(whole);
    case frontend::parse:
      return handle_parse(whole);
    case frontend::bind:
      return handle_bind(whole);
    case frontend::describe:
      return handle_describe(whole);
    case frontend::execute:
      return handle_execute(whole);
    case frontend::close:
      return handle_close(whole);
    case frontend::flush:
      return handle_flush(whole);
    case frontend::sync:
      return handle_sync(whole);
    case frontend::function_call:
      return handle_function_call(whole);
    case frontend::copy_data:
    case frontend::copy_done:
    case frontend::copy_fail:
      return handle_copy(type, whole);
    default:
      fatal({sqlstate::protocol_violation,
             fmt::format("invalid frontend message type {}", static_cast<int>(static_cast<unsigned char>(type))),
             {},
             {},
             0});
      return true;
  }
}

// Everything that this turn produced goes out, one write for each peer.
void Session::finish_turn() {
  if (!deferred_.empty() && deferred_bytes_.capacity() == 0) deferred_bytes_.reserve(256);
  // Who waits for a queue to be empty must see it as it is.
  const bool waits = wait_ != Wait::none || ending_;
  if (backend_ != nullptr) waits ? backend_->flush() : backend_->flush_soon();
  if (!waits) release_if_free();
  deliver_notifications();
  if (!ending_) flush_client();
  // The kernel took it all, and no event will come.
  if (wait_ == Wait::client && !is_congested()) continue_after_wait();
}

void Session::expect(ReplyKind kind, std::uint32_t tag, pool::Delivery delivery) {
  backend_->replies().expect({.kind = kind, .delivery = delivery, .tag = tag});
}

void Session::expect_named(ReplyKind kind, std::string_view statement) {
  backend_->replies().expect({.kind = kind, .local = std::string(statement)});
}

// In the order of the client's stream: at once if nothing is outstanding, else as an entry of the reply queue.
void Session::local_reply(std::string_view bytes, std::uint32_t tag) {
  if (backend_ != nullptr && !backend_->replies().empty()) {
    backend_->replies().expect({.kind = ReplyKind::local, .tag = tag, .local = std::string(bytes)});
    return;
  }
  host_.stream().append(bytes);
  undo_log_.forget(tag);
}

// ---- errors of our own ----------------------------------------------------------------------------------------------

bool Session::in_failed_transaction() const {
  return backend_ != nullptr && backend_->replies().empty() && !unit_open_ &&
         backend_->transaction_status() == TransactionStatus::failed;
}

// Answers the message at hand with an error, as the server would: the transaction, also an implicit one, fails with it.
// On a server connection with a transaction that is done by making the server fail there, and replacing its words by
// ours.
void Session::refuse(const Error& error, std::uint32_t tag) {
  if (script_) script_->failed = true;
  options_.database->metrics().refused.add();
  options_.database->metrics().count_error(error.code.view());
  std::string message;
  postgres::append_error(message, error);
  const bool simple = !handling_extended_;
  const bool on_server = backend_ != nullptr && (unit_open_ || in_transaction_ || !backend_->replies().empty());
  if (on_server) {
    backend_->replies().expect(
        {.kind = simple ? ReplyKind::query : ReplyKind::parse, .poison = true, .tag = tag, .local = message});
    constexpr std::string_view nonsense = "refused by tessera";
    const bool built = simple ? postgres::append_query(backend_->out(), nonsense)
                              : postgres::append_parse(backend_->out(), "", nonsense);
    if (!built) return fatal(error);
    if (simple && autocommit_) wait_ = Wait::drain;  // what comes next is not part of its transaction
    if (!simple) {
      unit_open_ = true;
      unnamed_on_backend_ = false;
    }
    return;
  }
  undo_log_.forget(tag);
  if (autocommit_ && lazy_.open()) cancel_autocommit();
  if (lazy_.open()) fail_lazy();
  if (simple) {
    append_ready(message, local_status());
    request_ended();
  } else {
    emit_local_deferred();
    skip_local_ = true;
  }
  host_.stream().append(message);
}

// ---- configurations -------------------------------------------------------------------------------------------------

// Nothing is under way that began under an older configuration.
bool Session::is_settled() const {
  return lazy_.none() && !script_ && no_server_works();
}

bool Session::no_server_works() const {
  return !in_transaction_ && !unit_open_ && deferred_.empty() && !scatter_ &&
         (backend_ == nullptr ||
          (backend_->replies().empty() && backend_->transaction_status() == TransactionStatus::idle));
}

// Rules and catalog: a transaction ends under those that it began with, which a BEGIN alone is not yet.
const RoutingRef& Session::routing() {
  const RoutingRef& now = options_.database->routing();
  if (routing_ != now && (!routing_ || no_server_works())) routing_ = now;
  return routing_;
}

// The hub knows its sessions by their roles.
void Session::set_identity(pool::IdentityRef identity) {
  if (options_.listen == nullptr || identity->user == options_.identity->user) {
    options_.identity = std::move(identity);
    return;
  }
  const std::vector<std::string> channels = options_.listen->channels_of(*this);
  options_.listen->forget(*this);
  options_.identity = std::move(identity);
  for (const std::string& channel : channels) options_.listen->listen(*this, channel);
  if (wait_ == Wait::listening) continue_after_wait();  // the LISTEN at hand is asked of the new role
}

bool Session::move_to(WorkerDatabase& database, ListenHub* listen, pool::IdentityRef identity) {
  release_if_free();
  if (backend_ != nullptr || !parked_.empty() || pins_ != 0 || holds_cursor()) return false;
  if (options_.listen != nullptr) options_.listen->forget(*this);
  options_.database->session_closed();
  options_.database = &database;
  options_.listen = listen;
  options_.identity = std::move(identity);
  database.session_opened();
  routing_ = database.routing();
  view_stale_ = true;
  // What was read for the one before is nothing to this one.
  if (awaited_reading_ != 0) awaited_reading_ = database.catalog_changed(options_.identity);
  // The hub listens again by itself; what is notified until it does is lost, as when a server is replaced.
  if (listen != nullptr)
    for (const auto& [channel, unused] : settings_.channels()) listen->listen(*this, channel);
  return true;
}

// ---- leases ---------------------------------------------------------------------------------------------------------

pool::Pool& Session::pool_of(ShardId shard) {
  return options_.database->pool(options_.identity, options_.identity->user, shard);
}

// The pool that a leased connection belongs to: the session's credentials may have changed since.
pool::Pool& Session::pool_of(const Backend& backend) {
  return static_cast<pool::Pool&>(backend.observer());
}

ShardId Session::any_shard() const {
  const auto shards = static_cast<std::uint32_t>(options_.database->shard_count());
  return ShardId(options_.number % shards);
}

// While the session's own cannot be reached the next one that can: what may run anywhere does not fail with a shard.
ShardId Session::reachable_shard() {
  const auto shards = static_cast<std::uint32_t>(options_.database->shard_count());
  for (std::uint32_t i = 0; i < shards; ++i) {
    const ShardId shard((any_shard().value() + i) % shards);
    if (pool_of(shard).healthy()) return shard;
  }
  return any_shard();
}

// Makes a connection to `shard` (or to whichever shard is at hand) current.
Session::Got Session::engage(std::optional<ShardId> shard) {
  if (wait_error_) {
    // The wait for this very message ended badly.
    come_back();
    const Error error = *std::exchange(wait_error_, std::nullopt);
    const bool elsewhere = std::exchange(unreached_, false) && !shard && error.code.view().starts_with("08") &&
                           pool_of(reachable_shard()).healthy();
    if (!elsewhere) {
      refuse(error);
      return Got::refused;
    }
  }
  if (backend_ != nullptr) {
    if (!shard || backend_->endpoint().shard == *shard) return use(*backend_);
    if (!backend_->replies().empty() && !unit_open_) {
      wait_ = Wait::drain;
      return Got::wait;
    }
    if (unit_open_ || backend_->transaction_status() != TransactionStatus::idle) return change_shard(*shard);
    if (must_keep())
      park();
    else
      release(*backend_);
  }
  return acquire(shard ? *shard : reachable_shard());
}

// The unnamed statement that the connection may have is an older one, or somebody else's.
void Session::become_current(Backend& backend) {
  backend_ = &backend;
  unnamed_on_backend_ = false;
}

void Session::park() {
  parked_.push_back(std::exchange(backend_, nullptr));
}

Session::Got Session::acquire(ShardId shard) {
  for (Backend*& parked : parked_) {
    if (parked->endpoint().shard != shard) continue;
    become_current(*std::exchange(parked, nullptr));
    std::erase(parked_, nullptr);
    return use(*backend_);
  }
  pool::Pool& pool = pool_of(shard);
  if (Backend* found = pool.checkout(*this)) {
    found->lease(*this);
    become_current(*found);
    return use(*found);
  }
  waiting_in_ = &pool;
  wait_ = Wait::checkout;
  return Got::wait;
}

Session::Got Session::use(Backend& backend) {
  if (backend.cancel_in_flight() && backend.replies().empty()) {
    // The request was for a statement that has ended by now; it must not hit the next one.
    wait_ = Wait::cancel;
    return Got::wait;
  }
  const TransactionStatus status = backend.transaction_status();
  if (asks_sequences_ && status != TransactionStatus::failed && sequences_are_elsewhere(backend)) {
    refuse({sqlstate::feature_not_supported,
            "currval() and lastval() cannot be answered: the sequence was advanced on another server connection",
            {},
            "use INSERT … RETURNING, ask in the transaction that inserts, or use session pooling",
            0});
    return Got::refused;
  }
  // Inside a transaction nothing is replayed, but for what its own RESET took away.
  const bool ask_anew = asks_sequences_ && !advanced_sequences_;
  if (ask_anew && backend.has_foreign_sequences()) {
    // Another session's numbers, which cannot be taken away now.
    if (unit_open_) {
      refuse({SqlState("55000"), "currval() and lastval() are not yet defined in this session", {}, {}, 0});
      return Got::refused;
    }
    if (wait_for_replies() == Got::wait) return Got::wait;
  }
  const bool may_prepare = status == TransactionStatus::idle ||
                           (status == TransactionStatus::in_transaction && (!defaulted_.empty() || ask_anew));
  if (!backend.replies().empty() || unit_open_ || !may_prepare) return Got::ready;
  backend.used_by(options_.number);
  const bool forget_sequences = ask_anew && backend.take_foreign_sequences();
  // One that joins a transaction is told afterwards what that has set.
  const pool::Settings& wanted = spans() ? settings_.at_begin() : settings_.current();
  if (backend.prepare(wanted, forget_sequences ? "DISCARD SEQUENCES" : "")) {
    defaulted_.clear();
    return Got::ready;
  }
  wait_ = Wait::prepare;
  return Got::wait;
}

// What sequences remember for a session is on the connection where it has advanced one last, until somebody else does.
bool Session::sequences_are_elsewhere(const Backend& backend) const {
  return advanced_sequences_ && (backend.id() != sequence_backend_ || backend.last_advancer() != options_.number);
}

Session::Got Session::refuse_second_shard(ShardId wanted) {
  const bool implicit = unit_open_ && backend_->transaction_status() == TransactionStatus::idle;
  const std::string_view here = backend_->endpoint().name;
  const std::string_view there = options_.database->runtime().primaries[wanted.value()]->name;
  refuse({sqlstate::feature_not_supported,
          fmt::format("this {} runs on shard \"{}\" and cannot continue on shard \"{}\"",
                      implicit ? "pipeline (one implicit transaction)" : "transaction", here, there),
          implicit ? "a pipeline outside of a transaction stays on one shard"
          : lazy_.recorded()
              ? "cross_shard_transactions is single_shard"
              : "what this transaction has been told so far cannot be told to another shard: it began together with "
                "other statements, or ran code that may have changed settings, or has too many savepoints",
          implicit
              ? "send Sync between statements that concern different keys, or BEGIN before them"
              : "begin with a statement that names the key, keep to keys of one shard, or end the transaction first",
          0});
  return Got::refused;
}

bool Session::must_keep() const {
  return pins_ != 0 || options_.mode == config::PoolMode::session;
}

// After replies: back to the pool with the connection if nothing holds it.
void Session::release_if_free() {
  if (backend_ == nullptr || unit_open_ || sends_copy_data() || !backend_->replies().empty() ||
      backend_->transaction_status() != TransactionStatus::idle)
    return;
  if (must_keep()) return;
  release(*std::exchange(backend_, nullptr));
}

void Session::release(Backend& backend) {
  if (backend_ == &backend) backend_ = nullptr;
  unnamed_on_backend_ = false;
  portals_.erase_if([](const Portal& portal) { return portal.on_server(); });
  if (unnamed_portal_.on_server()) unnamed_portal_ = {};
  pool_of(backend).checkin(backend, needs_reset_);
}

void Session::on_checkout(Backend& backend) {
  waiting_in_ = nullptr;
  backend.lease(*this);
  become_current(backend);
  continue_after_wait();
}

void Session::on_checkout_failed(const Error& reason) {
  waiting_in_ = nullptr;
  wait_error_ = reason;
  unreached_ = true;
  continue_after_wait();
}

void Session::on_backend_prepared(Backend&, const Result<void>& result) {
  defaulted_.clear();
  if (!result) {
    // What stopped it may be what the session before has left there (its statement_timeout): another connection is
    // tried.
    const bool again = result.error().code == sqlstate::query_canceled && ++prepare_attempts_ < most_prepare_attempts;
    if (again) {
      backend_->mark_spoiled();
    } else {
      prepare_attempts_ = 0;
      wait_error_ = result.error();
      wait_error_->detail = "while the session's settings were being restored";
    }
    release(*backend_);
  } else {
    prepare_attempts_ = 0;
  }
  continue_after_wait();
}

// From the loop, not from inside whoever called us.
void Session::continue_after_wait() {
  options_.database->loop().defer([this, alive = alive_, number = ++continuation_] {
    // The wait may have ended otherwise by now, and another one begun.
    if (!*alive || ending_ || number != continuation_) return;
    stop_waiting();
    run();
    release_if_free();
    if (!blocked() && !ending_) host_.resume_reading();
  });
}

// ---- the client -----------------------------------------------------------------------------------------------------

bool Session::is_congested() const {
  return farewell_ != Farewell::said && host_.stream().pending() > net::Stream::high_water;
}

void Session::on_client_drained() {
  if (backend_ != nullptr) backend_->resume_reading();
  if (scatter_) scatter_->resume();
  if (wait_ == Wait::client) return continue_after_wait();
  if (held_notifications_.empty()) return;
  deliver_notifications();
  host_.stream().flush();
}

void Session::on_backend_drained(Backend&) {
  if (wait_ == Wait::drain) continue_after_wait();
}

void Session::cancel_wait() {
  const Error reason{sqlstate::query_canceled, "canceling statement due to user request", {}, {}, 0};
  if (wait_ == Wait::prepare) prepare_attempts_ = most_prepare_attempts;  // the server will say so; that ends it
  if (scatter_) return scatter_->cancel(reason);
  if (wait_ == Wait::ids) return ids_there(std::unexpected(reason));
  const bool waits_here = (wait_ == Wait::checkout && waiting_in_ != nullptr) || wait_ == Wait::listening;
  if (!waits_here) return;
  if (waiting_in_ != nullptr) std::exchange(waiting_in_, nullptr)->forget(*this);
  wait_error_ = reason;
  continue_after_wait();
}

}  // namespace tessera::proxy
