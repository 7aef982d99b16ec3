// The extended protocol, second half: Describe, Execute, Close, and what ends a unit, Flush and Sync.
#include <fmt/format.h>

#include "proxy/extended_messages.hpp"
#include "proxy/session.hpp"

namespace tessera::proxy {

using parser::StatementKind;
using pool::ReplyKind;
namespace frontend = postgres::frontend;

// ---- portals --------------------------------------------------------------------------------------------------------

void Session::set_portal(std::string_view name, Portal portal) {
  portal.unit = unit_;
  portal.savepoints = lazy_.savepoints();
  if (name.empty())
    unnamed_portal_ = std::move(portal);
  else
    portals_.put(name, std::move(portal));
}

Portal* Session::find_portal(std::string_view name) {
  return name.empty() ? &unnamed_portal_ : portals_.find(name);
}

// May there be another portal, of this name? Where both are the server's it says so itself.
std::optional<Error> Session::portal_refusal(std::string_view name, bool on_server, std::size_t bytes) {
  if (name.empty()) return {};
  const Portal* there = portals_.find(name);
  if (there != nullptr && there->on_server() && (on_server || (there->unit != unit_ && !in_transaction_)))
    there = nullptr;
  if (there != nullptr) return Error{SqlState("42P03"), fmt::format("cursor \"{}\" already exists", name), {}, {}, 0};
  const std::uint64_t most = options_.database->settings().limits.prepared_memory;
  if (portals_.bytes() + PreparedTable<Portal>::around + name.size() + bytes <= most) return {};
  return Error{
      sqlstate::configuration_limit_exceeded, "the session has too many portals",
      fmt::format("{} of them take {} bytes, and all of them may take {}", portals_.size(), portals_.bytes(), most),
      "close those that are not used any more, send Sync, or raise limits.prepared_memory", 0};
}

// Whether a portal that was bound before the last Sync is still there depends on whether a transaction is open, and
// that may be on its way.
bool Session::awaits_portals_end(std::string_view name) {
  const Portal* portal = find_portal(name);
  return portal != nullptr && !portal->on_server() && portal->unit != unit_ && wait_for_replies() == Got::wait;
}

// Those that were made behind a savepoint have ended with it: the transaction has gone back to its last one. Of the
// portals of one shard that server knows.
void Session::end_portals_behind_savepoint() {
  const auto ended = [this](const Portal& portal) {
    return (!portal.on_server() || portal.home) && portal.savepoints >= lazy_.savepoints();
  };
  if (ended(unnamed_portal_)) unnamed_portal_ = {};
  portals_.erase_if(ended);
}

// Those behind a savepoint that was released are of the one before it.
void Session::keep_portals_of_released() {
  const auto keep = [this](Portal& portal) { portal.savepoints = std::min(portal.savepoints, lazy_.savepoints()); };
  keep(unnamed_portal_);
  portals_.each(keep);
}

// No transaction is open: portals have ended, but for those of the unit at hand.
void Session::end_portals() {
  const auto ended = [&](const Portal& portal) { return portal.unit != unit_ && !portal.hold; };
  if (ended(unnamed_portal_)) unnamed_portal_ = {};
  portals_.erase_if(ended);
}

// Those of the unit at hand, too: its transaction is lost. (The message at hand may look for the unnamed one again.)
void Session::end_all_portals() {
  portals_.erase_if([](const Portal& portal) { return !portal.hold; });
}

// ---- Describe, Execute, Close ---------------------------------------------------------------------------------------

bool Session::handle_describe(std::string_view whole) {
  if (wait_for_effects() == Got::wait) return false;
  postgres::TargetView target;
  if (!postgres::parse_describe(body_of(whole), target)) {
    refuse(postgres::invalid_message("Describe"));
    return true;
  }
  if (target.kind == 'P') return describe_portal(whole, target.name);
  if (wait_for_definition(target.name) == Got::wait) return false;
  PreparedStatement* statement = find_prepared(target.name);
  if (statement == nullptr || target.kind != 'S') return forward_unknown(whole, target.name);
  if (is_ours(current_plan(*statement))) {
    std::string description;
    if (!postgres::append_parameter_description(description, statement->parameter_types())) return true;
    description += describe_local({.plan = statement->plan, .sql = std::string(statement->sql_text()), .local = true});
    return answer_in_unit(std::move(description));
  }
  if (const std::string columns = fetched_columns(*statement->plan); !columns.empty()) {
    std::string description;
    if (!postgres::append_parameter_description(description, statement->parameter_types())) return true;
    return answer_in_unit(description + columns);
  }
  if (const Got got = go_home(*statement->plan); got != Got::ready) return got == Got::refused;
  if (engaged()) {
    emit_describe(*statement, whole);
    return true;
  }
  // An earlier unit's Parse may yet fail, and the answer may come from another connection than that.
  const bool certain = !target.name.empty() || unnamed_is_certain_ || unnamed_sent_ != unnamed_defined_;
  if (!certain && wait_for_replies() == Got::wait) return false;
  defer(frontend::describe, whole, 0);
  deferred_.back().shard = preparing_shard(*statement->plan);
  deferred_.back().statement = *statement;
  return true;
}

void Session::emit_describe(const PreparedStatement& statement, std::string_view raw) {
  if (const pool::PreparedTextRef text = text_here(statement); text != statement.text)
    return emit_describe({.text = text, .given = statement.given, .literals = statement.literals}, raw);
  if (statement.text) arm_retry(statement, raw);
  ensure_prepared(statement);
  if (statement.text)
    append_renamed(backend_->out(), raw, 1, body_of(raw).substr(1, body_of(raw).size() - 2),
                   statement.text->server_name);
  else
    backend_->append_large(raw);
  expect_named(ReplyKind::describe_statement,
               statement.text ? body_of(raw).substr(1, body_of(raw).size() - 2) : std::string_view());
  if (statement.given)
    backend_->replies().queue().back().hidden_parameters = static_cast<std::uint16_t>(statement.given->ids.count());
  unit_open_ = true;
}

// No such statement: the server says so in its own words.
bool Session::forward_unknown(std::string_view whole, std::string_view name) {
  // Names of ours are nobody else's; and no server is asked in a transaction that has failed before it had one.
  if (name.starts_with(pool::prepared_prefix) || lazy_.failed()) {
    refuse({SqlState("26000"),
            name.empty() ? "unnamed prepared statement does not exist"
                         : fmt::format("prepared statement \"{}\" does not exist", name),
            {},
            {},
            0});
    return true;
  }
  const Got got = settle();
  if (got != Got::ready) return got == Got::refused;
  // The connection may still hold another client's unnamed statement.
  if (name.empty() && postgres::append_close(backend_->out(), 'S', ""))
    expect(ReplyKind::close, 0, pool::Delivery::ignore);
  backend_->append_large(whole);
  expect(whole[0] == frontend::bind ? ReplyKind::bind : ReplyKind::describe_statement);
  unit_open_ = true;
  return true;
}

// What Describe of a statement that is answered here says of its rows.
std::string Session::describe_local(const Portal& portal) {
  const parser::Statement& statement = *portal.plan->statements.front().statement;
  if (statement.explain.tessera || statement.kind == StatementKind::show) {
    std::optional<Error> error;
    const std::string all = run_local(portal, error);
    postgres::FrameHeader header;
    if (!error && postgres::peek_frame(all, postgres::max_message_length, header) == postgres::FrameStatus::complete)
      return all.substr(0, header.total_size());
  }
  return made<postgres::append_no_data>();
}

bool Session::describe_portal(std::string_view whole, std::string_view name) {
  if (awaits_portals_end(name)) return false;
  Portal* portal = find_portal(name);
  if (portal != nullptr && portal->local) return answer_in_unit(describe_local(*portal));
  if (portal != nullptr && portal->scatter) {
    // A cursor that SQL has declared has been described by the servers.
    const CursorStep* const step = portal->spread.cursor ? &*portal->spread.cursor : nullptr;
    if (step != nullptr && !step->portion && !step->closes && step->cursor->is_open())
      return answer_in_unit(step->cursor->description);
    if (portal->executed || described_) {
      refuse(undescribed());
      return true;
    }
    portal->scatter->describe = true;
    described_ = portal->scatter;
    return true;
  }
  return forward_portal(whole, ReplyKind::describe_portal, 0);
}

// The description of a scatter comes with its rows.
Error Session::undescribed() {
  return {sqlstate::feature_not_supported,
          "a portal over several shards cannot be described without being executed next",
          {},
          "describe the statement instead, or execute the portal right behind its description",
          0};
}

bool Session::forward_portal(std::string_view whole, ReplyKind kind, std::uint32_t tag) {
  const Got got = settle();
  if (got != Got::ready) return got == Got::refused;
  backend_->append_large(whole);
  expect(kind, tag);
  unit_open_ = true;
  if (kind != ReplyKind::close) unit_prepares_only_ = false;
  return true;
}

bool Session::handle_execute(std::string_view whole) {
  if (wait_for_effects() == Got::wait) return false;
  postgres::ExecuteView execute;
  if (!postgres::parse_execute(body_of(whole), execute)) {
    refuse(postgres::invalid_message("Execute"));
    return true;
  }
  if (awaits_portals_end(execute.portal)) return false;
  Portal* portal = find_portal(execute.portal);
  if (portal == nullptr) return forward_portal(whole, ReplyKind::execute, 0);
  if (portal->plan) {
    if (auto problem = implicit_refusal(*portal->plan)) {
      refuse(*problem);
      return true;
    }
  }
  if (portal->local) {
    if (wait_for_replies() == Got::wait) return false;
    if (portal->executed) {
      refuse({SqlState("55000"), fmt::format("portal \"{}\" cannot be run", execute.portal), {}, {}, 0});
      return true;
    }
    if (is_for_all(*portal->plan)) {
      const bool taken = run_for_all(portal->plan, portal->sql, false);
      if (scatter_) portal->executed = true;
      return taken;
    }
    if (spans() && in_failed_transaction()) {
      refuse(failed_transaction_error());
      return true;
    }
    if (const Got got = wait_for_listen(*portal->plan); got != Got::ready) return got == Got::refused;
    if (const Got got = try_out(*portal->plan, portal->sql); got != Got::ready) return got == Got::refused;
    portal->executed = true;
    return execute_local(*portal);
  }
  if (portal->scatter) return execute_scatter(execute.portal, *portal, execute.max_rows);
  std::uint32_t tag = 0;
  if (portal->plan) {
    const Got got = settle();
    if (got != Got::ready) return got == Got::refused;
    begin_effects(portal->plan, portal->sql, portal->changes, tag);
  }
  router::StatementCounters* counters = portal->counters;
  const std::size_t before = backend_ != nullptr ? backend_->replies().outstanding() : 0;
  const bool may_copy = portal->may_copy;
  const bool handled = forward_portal(whole, ReplyKind::execute, tag);
  copy_awaited_ = copy_awaited_ || (handled && may_copy);
  if (backend_ != nullptr && backend_->replies().outstanding() > before)
    backend_->replies().queue().back().note = counters;
  return handled;
}

bool Session::execute_local(const Portal& portal) {
  std::optional<Error> error;
  std::string reply = run_local(portal, error);
  postgres::FrameHeader header;
  std::string_view rows = reply;
  if (error) {
    refuse(*error);
    return true;
  }
  // Execute gives rows without their description.
  if (postgres::peek_frame(rows, postgres::max_message_length, header) == postgres::FrameStatus::complete &&
      header.type == postgres::backend::row_description)
    rows.remove_prefix(header.total_size());
  if (header.type == postgres::backend::error_response) {
    emit_local_deferred();
    skip_local_ = true;
    local_reply(rows);
    return true;
  }
  options_.database->metrics().local.add();
  return answer_in_unit(std::string(rows));
}

bool Session::handle_close(std::string_view whole) {
  postgres::TargetView target;
  if (!postgres::parse_close(body_of(whole), target)) {
    refuse(postgres::invalid_message("Close"));
    return true;
  }
  if (target.kind == 'P') {
    Portal* portal = find_portal(target.name);
    if (portal != nullptr)
      if (const std::optional<bool> taken = close_on_shards(target.name, *portal)) return *taken;
    const bool here = portal == nullptr || portal->local || portal->scatter || !engaged();
    if (target.name.empty())
      unnamed_portal_ = {};
    else
      portals_.erase(target.name);
    if (!here || (portal == nullptr && engaged())) return forward_portal(whole, ReplyKind::close, 0);
    return answer_in_unit(made<postgres::append_close_complete>());
  }
  if (target.kind != 'S') return forward_portal(whole, ReplyKind::close, 0);
  if (wait_for_definition(target.name) == Got::wait) return false;
  std::uint32_t tag = 0;
  const bool may_be_skipped = engaged() || !deferred_.empty();
  if (target.name.empty()) {
    if (may_be_skipped && unnamed_.valid) keep_unnamed(undo_log_.add(unit_, tag));
    unnamed_.valid = false;
  } else if (PreparedStatement* found = prepared_.find(target.name)) {
    if (may_be_skipped) {
      Undo& undo = undo_log_.add(unit_, tag);
      undo.named = true;
      undo.name = target.name;
      undo.previous = std::move(*found);
    }
    prepared_.erase(target.name);
  }
  if (engaged()) unit_open_ = true;
  return answer_in_unit(made<postgres::append_close_complete>(), tag);
}

// ---- Flush and Sync -------------------------------------------------------------------------------------------------

bool Session::needs_server() const {
  for (const DeferredMessage& deferred : deferred_)
    if (!deferred.local) return true;
  return false;
}

// To a server, if one must answer it.
Session::Got Session::pass_on_deferred() {
  if (needs_server()) return settle();
  if (!deferred_.empty()) emit_local_deferred();
  return Got::ready;
}

// Before a message of a unit: a client may send any number of them without a Sync, and what is held for them here must
// not grow with it. What waits for a shard is passed on as if the client had sent Flush; what an error would bring back
// is let go by the answers.
Session::Got Session::relieve_unit() {
  constexpr std::size_t most_deferred = 1000;
  constexpr std::size_t most_outstanding = 10'000;  // the server may hold its answers back, and ours wait behind them
  constexpr std::size_t most_bytes = 1024 * 1024;   // of texts
  if (deferred_.size() >= most_deferred || deferred_bytes_.size() >= most_bytes) return pass_on_deferred();
  if (!engaged()) return Got::ready;
  if (undo_log_.bytes() >= most_bytes || backend_->replies().outstanding() >= most_outstanding)
    return wait_for_replies();
  return Got::ready;
}

bool Session::handle_flush(std::string_view whole) {
  if (std::exchange(described_, nullptr) && !discard_until_sync()) refuse(undescribed());
  if (const Got got = pass_on_deferred(); got != Got::ready) return got == Got::refused;
  if (engaged()) backend_->append(whole);
  return true;
}

bool Session::handle_sync(std::string_view whole) {
  if (std::exchange(described_, nullptr) && !discard_until_sync()) refuse(undescribed());
  if (autocommit_) return sync_autocommit();
  if (in_transaction_ && backend_ != nullptr) skip_local_ = false;  // the server knows the transaction's status
  if (skip_local_ && !engaged() && wait_for_replies() == Got::wait) return false;
  if (!skip_local_ && needs_server()) {
    const Got got = settle();
    if (got == Got::wait) return false;
  }
  if (skip_local_ || (!engaged() && (backend_ == nullptr || backend_->replies().empty()))) {
    local_sync();
    return true;
  }
  if (!deferred_.empty()) emit_deferred();
  const bool into_copy = backend_->replies().copying_in();
  backend_->append(whole);
  expect(ReplyKind::sync);
  close_aside();
  ++unit_;
  if (!into_copy) {
    unit_open_ = false;
    unit_prepares_only_ = true;
  }
  return true;
}

void Session::local_sync() {
  emit_local_deferred();
  ++unit_;
  skip_local_ = false;
  error_in_unit_ = false;
  unit_open_ = false;
  unit_prepares_only_ = true;
  request_ended();
  if (lazy_.none()) end_portals();
  postgres::append_ready_for_query(host_.stream().out(), local_status());
}

}  // namespace tessera::proxy
