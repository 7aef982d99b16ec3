// Statements that run on several shards: the session's side of executor::Execution.
#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include "executor/gather.hpp"
#include "executor/merge_sort.hpp"
#include "parser/lexer.hpp"
#include "proxy/session.hpp"

namespace tessera::proxy {

using pool::Backend;
using postgres::TransactionStatus;

// What stands in the way of the statement whatever else is under way.
std::optional<Error> Session::scatter_problem(const std::vector<ShardId>& shards, bool writes) const {
  if ((pins_ & pin_temporary) != 0)
    return Error{sqlstate::feature_not_supported,
                 "this session has temporary objects on one shard and cannot use several",
                 {},
                 "use another session",
                 0};
  if (in_transaction_ || !lazy_.none()) return {};
  if ((backend_ != nullptr && unit_open_) || describes_later())
    return Error{sqlstate::feature_not_supported,
                 "a statement over several shards cannot share a pipeline with others",
                 {},
                 "send Sync before it, or BEGIN before the pipeline",
                 0};
  const bool single =
      options_.database->settings().cross_shard_transactions == config::CrossShardTransactions::single_shard;
  if (writes && (single || options_.mode == config::PoolMode::statement))
    return Error{
        sqlstate::feature_not_supported, fmt::format("this statement writes to {} shards", shards.size()),
        single ? "cross_shard_transactions is single_shard" : "transactions are not allowed in statement pooling mode",
        "restrict it to one key", 0};
  return {};
}

// Ready: it can start; in a transaction all shards have joined that, otherwise nothing is under way.
Session::Got Session::prepare_scatter(const std::vector<ShardId>& shards, bool writes) {
  const bool transaction = in_transaction_ || lazy_.open();
  if (!transaction) {
    if (const Got got = wait_for_replies(); got != Got::ready) return got;
    release_if_free();
    if (!writes) return Got::ready;
    begin_autocommit();
  }
  return join_all(shards);
}

bool Session::start_scatter(executor::Request request, const Spread& spread, router::StatementCounters* counters) {
  if (lazy_.failed()) {
    refuse(failed_transaction_error());
    return true;
  }
  const bool transaction = in_transaction_ || lazy_.open();
  const executor::Cursor* open = spread.cursor && spread.cursor->cursor->is_open() ? &*spread.cursor->cursor : nullptr;
  const router::GatherPlan* gather = spread.merge || open != nullptr ? nullptr : spread.gather.get();
  const std::vector<ShardId> shards = open != nullptr     ? open->shards
                                      : gather == nullptr ? spread.plan.shards
                                      : transaction       ? gather->sources()
                                                          : gather->shards();
  const bool own_transaction = spread.plan.writes && !spread.outside_transaction;
  std::optional<Error> problem = scatter_problem(shards, own_transaction);
  copies_first_ = !spread.copies.empty() && (copies_first_ || !in_transaction_);
  if (!problem && !spread.copies.empty() && !copies_first_ && keeps_snapshot())
    problem = Error{sqlstate::feature_not_supported,
                    "a reference table can be written in a transaction of this isolation level by its first statement "
                    "only: each shard would see it as it was when it joined the transaction",
                    {},
                    "write it first, or use READ COMMITTED",
                    0};
  if (!problem && gather != nullptr) problem = gather_problem(*gather, transaction);
  if (!problem && spread.copy && !spread.copy->ids.empty() && holds_tables_)
    problem =
        Error{sqlstate::feature_not_supported,
              "COPY gives no ids in a transaction that has defined, emptied or locked tables: their sequence is asked "
              "outside of it",
              {},
              "name the column and give its values, or send it after COMMIT",
              0};
  if (!problem && !transaction && spread.kind == parser::StatementKind::lock_table)
    problem = Error{SqlState("25P01"), "LOCK TABLE can only be used in transaction blocks", {}, {}, 0};
  if (!problem && spread.cursor) problem = cursor_problem(spread, transaction);
  if (!problem) {
    if (const Got got = prepare_scatter(shards, own_transaction); got != Got::ready) return got == Got::refused;
    if (!in_transaction_) problem = own_connection_in_the_way(shards);
    if (in_transaction_ && gather != nullptr) problem = own_connection_in_the_way({gather->merge});
  }
  if (problem) {
    refuse(*problem);
    return true;
  }
  copies_first_ = false;
  request.bound = take_bound();
  emit_local_deferred();
  note_text(request.sql);
  count_scatter(spread, shards, counters);
  if (!spread.copies.empty())
    lock_copies(std::move(request), spread);
  else if (spread.explain)
    run_explain(std::move(request), spread);
  else if (spread.cursor)
    run_cursor(std::move(request), spread);
  else if (gather != nullptr)
    start_gather(std::move(request), *gather, statement_events(request.simple));
  else if (spread.merge)
    start_merge(std::move(request), spread);
  else if (spread.plan.op == router::Operator::replicate)
    run_in_turn(request, spread);
  else
    run_scatter(std::move(request), spread);
  return true;
}

executor::Events Session::statement_events(bool simple) {
  return execution_events([this, simple](const Result<void>& result) { scatter_done(result, simple); });
}

void Session::run_scatter(executor::Request request, const Spread& spread) {
  if (spread.explain) return run_explain(std::move(request), spread);
  if (spread.copy && spread.copy->from) return run_copy(std::move(request), spread);
  using executor::Combine;
  const Combine combine = spread.plan.op == router::Operator::replicate ? Combine::first
                          : spread.split && spread.split->returns_each  ? Combine::by_row
                                                                        : Combine::concatenate;
  // What has locked its tables need not wait for its turn.
  const auto order = spread.plan.writes && combine != Combine::first ? executor::Scatter::Order::in_turn
                                                                     : executor::Scatter::Order::at_once;
  executor::Events events = statement_events(request.simple);
  run_execution(std::make_unique<executor::Scatter>(std::move(request), pieces_of(spread), combine, order,
                                                    settings_.current(), options_.database->loop(), std::move(events)));
}

// What each shard runs.
std::vector<executor::Piece> Session::pieces_of(const Spread& spread) {
  std::vector<executor::Piece> pieces;
  for (const executor::Place& place : places_of(spread.plan.shards)) pieces.push_back({.place = place});
  if (spread.copy) {
    for (executor::Piece& piece : pieces) {
      piece.probe = spread.copy->probe;
      piece.copy_out.emplace(spread.copy->format, &piece == &pieces.front(), &piece == &pieces.back());
    }
  }
  if (!spread.split) return pieces;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const router::SplitPart& part = spread.split->parts[i];
    pieces[i].sql = part.sql;
    pieces[i].parameters = part.parameters;
    pieces[i].rows = part.rows;
    pieces[i].columns = part.columns;
    pieces[i].columns_at = part.columns_at;
  }
  return pieces;
}

// Two writes of a reference table meet in the same order on all shards: otherwise its copies could differ in the end.
void Session::lock_copies(executor::Request request, const Spread& spread) {
  std::string sql = "LOCK TABLE ";
  for (const std::string& copy : spread.copies) sql += copy + (&copy == &spread.copies.back() ? "" : ", ");
  sql += " IN SHARE ROW EXCLUSIVE MODE";
  const bool simple = request.simple;
  const auto done = [this, simple, request = std::move(request), spread](const Result<void>& result) mutable {
    if (!result) return scatter_done(result, simple);
    take_execution();
    run_scatter(std::move(request), spread);
  };
  run_everywhere(sql, executor::Everywhere::Order::in_turn, done);
}

// A definition, or what concerns tables as a whole. Two such meet in the same order on all shards.
void Session::run_in_turn(const executor::Request& request, const Spread& spread) {
  std::string& out = host_.stream().out();
  out += request.bound;
  if (!request.simple && request.describe) postgres::append_no_data(out);
  for (Backend* backend : participants()) {
    backend->mark_dirty();  // as any definition: before_sending()
    may_have_written_ = holds_tables_ = true;
  }
  if (spread.command.ends_with(" FUNCTION") || spread.command.ends_with(" PROCEDURE"))
    code_defined_under_ = routing()->version;
  const auto done = [this, simple = request.simple, kind = spread.kind](const Result<void>& result) {
    if (result && kind == parser::StatementKind::ddl) note_definition();
    scatter_done(result, simple);
  };
  run_execution(std::make_unique<executor::Everywhere>(request.sql, places_of(spread.plan.shards),
                                                       executor::Everywhere::Order::in_turn, settings_.current(),
                                                       options_.database->loop(), execution_events(done)));
}

// The merge node is a connection from the pool in any case: a transaction that made temporary tables could not be
// prepared.
void Session::start_gather(executor::Request request, const router::GatherPlan& plan, executor::Events events,
                           executor::Cursor* cursor) {
  std::vector<ShardId> shards = in_transaction_ ? plan.sources() : plan.shards();
  if (!in_transaction_) std::erase(shards, plan.merge);
  run_execution(std::make_unique<executor::Gather>(
      std::move(request), plan, executor::Place{.pool = &pool_of(plan.merge)}, places_of(shards), settings_.current(),
      in_transaction_ ? settings_.local_sql() : std::string(), options_.database->loop(), std::move(events), cursor));
}

// Only the shards know of some types; then nothing has run yet, and it is gathered.
void Session::start_merge(executor::Request request, const Spread& spread) {
  const std::vector<executor::Place> places = places_of(spread.plan.shards);
  std::shared_ptr<executor::Request> again;
  if (spread.gather) again = std::make_shared<executor::Request>(request);
  const auto done = [this, simple = request.simple, again, gather = spread.gather](const Result<void>& result) {
    const auto& merge = static_cast<const executor::MergeSort&>(*scatter_);
    if (!gather || !merge.unknown_order()) return scatter_done(result, simple);
    std::optional<Error> problem = gather_problem(*gather, in_transaction_);
    if (!problem) problem = own_connection_in_the_way(in_transaction_ ? std::vector{gather->merge} : gather->shards());
    if (problem) return scatter_done(std::unexpected(*std::move(problem)), simple);
    take_execution();
    start_gather(std::move(*again), *gather, statement_events(simple));
  };
  run_execution(std::make_unique<executor::MergeSort>(std::move(request), *spread.merge, places, settings_.current(),
                                                      options_.database->loop(), execution_events(done)));
}

std::optional<Error> Session::gather_problem(const router::GatherPlan& plan, bool transaction) const {
  if (plan.in_transaction != transaction)
    return Error{
        SqlState("34000"), "the statement must be sent again: a transaction has begun since it was bound", {}, {}, 0};
  if (!transaction || !holds_tables_) return {};
  // The merge node's connection is not part of the transaction, and would wait for it.
  return Error{sqlstate::feature_not_supported,
               "rows of several shards cannot be put together in a transaction that has defined, emptied or locked "
               "tables",
               {},
               "send it before that, or after COMMIT",
               0};
}

// Of the transaction at hand, or from the pools.
std::vector<executor::Place> Session::places_of(const std::vector<ShardId>& shards) {
  std::vector<executor::Place> places;
  if (!in_transaction_) {
    for (const ShardId shard : shards) places.push_back({.pool = &pool_of(shard)});
    return places;
  }
  for (Backend* backend : participants())
    if (std::ranges::find(shards, backend->endpoint().shard) != shards.end())
      places.push_back({.lent = backend, .lender = this});
  return places;
}

void Session::count_scatter(const Spread& spread, const std::vector<ShardId>& shards,
                            router::StatementCounters* counters) {
  DatabaseMetrics& metrics = options_.database->metrics();
  metrics.scattered.add();
  ++statements_;
  for (const ShardId shard : shards)
    metrics.shards[shard.value()].statements[static_cast<std::size_t>(class_of(spread.kind))].add();
  scatter_counters_ = counters;
  if (counters == nullptr) return;
  ++counters->calls;
  for (const ShardId shard : shards) counters->sent_to(shard);
}

// A scatter takes connections besides those that the session keeps. It would wait for one in vain where there may be no
// other.
std::optional<Error> Session::own_connection_in_the_way(const std::vector<ShardId>& shards) {
  std::vector<const pool::Backend*> own(parked_.begin(), parked_.end());
  own.insert(own.end(), others_.begin(), others_.end());
  if (backend_ != nullptr) own.push_back(backend_);
  for (const pool::Backend* backend : own) {
    const ShardId shard = backend->endpoint().shard;
    if (std::ranges::find(shards, shard) == shards.end() || pool_of(shard).budget().limit() > 1) continue;
    return Error{sqlstate::too_many_connections,
                 fmt::format("this session keeps the only connection to shard \"{}\" (pool.size is 1), and a statement "
                             "over several shards needs another",
                             backend->endpoint().name),
                 pins_ != 0        ? fmt::format("it is kept because of: {}", pin_reasons())
                 : in_transaction_ ? "it is in the transaction"
                                   : "it is kept by session pooling",
                 "raise pool.size, or use transaction pooling", 0};
  }
  return {};
}

// Is there a Describe of a statement among the messages that were put off?
bool Session::describes_later() const {
  return std::ranges::any_of(deferred_, [](const DeferredMessage& deferred) {
    return !deferred.local && deferred.type == postgres::frontend::describe;
  });
}

// ---- executions -----------------------------------------------------------------------------------------------------

executor::Events Session::execution_events(ExecutionDone done) {
  return {
      .relay = [this](std::string_view bytes) { host_.stream().append_large(bytes); },
      .flush = [this] { host_.stream().flush(); },
      .congested = [this] { return is_congested(); },
      .done = std::move(done),
      .stop = [this](Backend& backend) { host_.stop_statement(backend); },
      .lost =
          [this](const Backend& backend) {
            std::erase(others_, &backend);
            if (backend_ == &backend) backend_ = nullptr;
            lost_participant_ =
                Error{sqlstate::connection_failure, "a connection of this transaction was lost", {}, {}, 0};
          },
      .parameter =
          [this](std::string_view name, std::string_view value) {
            if (on_parameter(name, value, true) &&
                !postgres::append_parameter_status(host_.stream().out(), name, value))
              parameters_.erase(std::string(name));
          },
  };
}

void Session::run_execution(std::unique_ptr<executor::Execution> execution) {
  wait_ = Wait::scatter;
  scatter_ = std::move(execution);
  scatter_->start();
}

// It has ended: what it was lent is the session's again. CommandComplete, if it was not relayed.
std::string Session::take_execution() {
  const std::unique_ptr<executor::Execution> ended = std::move(scatter_);
  if (copy_in_ != nullptr) leave_copy();
  unnamed_on_backend_ = false;
  last_activity_ = options_.database->loop().now();
  options_.database->metrics().moved_bytes.add(ended->moved_bytes());
  return ended->completion();
}

Error Session::execution_error(const Error& error) {
  const bool timed_out = std::exchange(timed_out_at_, TimePoint{}) != TimePoint{};
  const Error told = timed_out && error.code == sqlstate::query_canceled ? timeout_error() : error;
  options_.database->metrics().count_error(told.code.view());
  return told;
}

void Session::scatter_done(const Result<void>& result, bool simple) {
  const bool cut = scatter_->cut();
  statement_done(result, simple, cut, take_execution());
}

void Session::statement_done(const Result<void>& result, bool simple, bool cut, std::string completion) {
  slow_log(last_activity_ - request_started_);
  if (scatter_counters_ != nullptr) {
    if (!result) ++scatter_counters_->errors;
    note_time(*scatter_counters_);
  }
  std::optional<Error> error;
  if (!result) error = execution_error(result.error());
  if (cut) {
    ending_ = true;
    return host_.end_session();
  }
  if (autocommit_ && simple && !lost_participant_)
    return end_autocommit(!error, std::move(error), std::move(completion), true);
  if (!in_transaction_) refresh_catalog();
  conclude(std::move(error), std::move(completion), simple);
}

// The connection of the transaction that has failed. False: none has.
bool Session::make_failed_current() {
  const auto failed = [](const Backend* backend) { return backend->transaction_status() == TransactionStatus::failed; };
  if (backend_ != nullptr && failed(backend_)) return true;
  const auto found = std::ranges::find_if(others_, failed);
  if (found == others_.end()) return false;
  std::swap(*found, backend_);
  return true;
}

// The answer to a statement over several shards, or to a command for all of them, is complete.
void Session::conclude(std::optional<Error> error, std::string completion, bool simple) {
  std::string& out = host_.stream().out();
  stop_waiting();
  if (error) completion.clear();  // what a part of it has said
  if (error && script_) script_->failed = true;
  if (lost_participant_) {
    if (!error) error = *lost_participant_;
    completion.clear();
    lose_transaction({});
    if (autocommit_ && simple) cancel_autocommit();
  }
  if (error && in_transaction_ && !make_failed_current()) {
    refuse(*error);  // so that the transaction fails
  } else {
    if (error) postgres::append_error(out, *error);
    if (error && !simple) skip_local_ = true;
    out += completion;
    if (simple) {
      const TransactionStatus status = in_transaction_ ? backend_->transaction_status() : local_status();
      append_ready(out, status);
    }
    request_ended();
  }
  run();
  release_if_free();
  host_.stream().flush();
  if (!blocked() && !ending_) host_.resume_reading();
}

// Each shard may get its own part of the parameters, or none of them, and would not miss one.
std::optional<Error> Session::parameter_count_error(const PreparedStatement& statement,
                                                    const postgres::BindView& bind) {
  std::size_t wanted = statement.parameter_types().size();
  const std::string_view sql = statement.sql_text();
  parser::Lexer lexer(sql, {});
  for (parser::Token token = lexer.next(); token.kind != parser::TokenKind::end; token = lexer.next()) {
    if (token.kind != parser::TokenKind::parameter) continue;
    std::size_t number = 0;
    std::from_chars(sql.data() + token.begin + 1, sql.data() + token.end, number);
    wanted = std::max(wanted, number);
  }
  if (bind.parameters.size() == wanted) return {};
  return Error{sqlstate::protocol_violation,
               fmt::format("bind message supplies {} parameters, but prepared statement \"{}\" requires {}",
                           bind.parameters.size(), bind.statement, wanted),
               {},
               {},
               0};
}

bool Session::bind_scatter(const PreparedStatement& statement, const postgres::BindView& bind, std::string_view whole,
                           const Target& target) {
  const router::Plan& plan = target.spread.plan;
  if (auto problem = parameter_count_error(statement, bind)) {
    refuse(*problem);
    return true;
  }
  if (engaged() && !in_transaction_ && unit_prepares_only_ && unit_open_) return leave_side_unit();
  if (!engaged() && describes_later()) {
    // What was asked about the statement itself is answered by one of the shards, before all of them run it.
    const Got got = settle();
    if (got != Got::ready) return got == Got::refused;
    return leave_side_unit();
  }
  if (engaged() && may_begin_around_unit()) return begin_around_unit() == Got::refused;
  if (engaged() && !in_transaction_) {
    refuse({sqlstate::feature_not_supported,
            fmt::format("this statement concerns {} shards and cannot run behind others in a pipeline",
                        plan.shards.size()),
            {},
            "send it alone, restrict it to one key, or send BEGIN before the pipeline",
            0});
    return true;
  }
  auto request = std::make_shared<executor::Request>();
  request->sql = statement.sql_text();
  request->types = statement.parameter_types();
  // What stands behind the two names: formats, values, result formats.
  request->bind = whole.substr(postgres::frame_header_size + bind.portal.size() + bind.statement.size() + 2);
  request->describe = false;
  if (statement.given) request->moved = statement.given->moves;
  set_portal(bind.portal, {.counters = statement.plan ? statement.plan->counters.get() : nullptr,
                           .scatter = std::move(request),
                           .spread = target.spread});
  std::string complete;
  postgres::append_bind_complete(complete);
  if (engaged()) return answer_in_unit(std::move(complete));
  defer_local(std::move(complete));
  deferred_.back().bound = true;
  return true;
}

bool Session::execute_scatter(std::string_view name, Portal& portal, std::int32_t max_rows) {
  if (described_ && described_ != portal.scatter) {
    refuse(undescribed());
    return true;
  }
  // Inside a transaction a portal can be read on where a row limit has stopped it.
  const bool lasts = in_transaction_ || lazy_.open();
  const bool query = portal.spread.kind == parser::StatementKind::select && !portal.spread.plan.writes;
  if (query && lasts && max_rows > 0 && !portal.executed) {
    if (const Result<void> planned = read_in_parts(name, portal); !planned) {
      refuse(planned.error());
      return true;
    }
  }
  if (portal.executed && portal.scatter->limit > 0 && !portal.spread.cursor) {
    refuse({sqlstate::feature_not_supported,
            "a portal over several shards cannot be read on where a row limit has stopped it",
            {},
            "fetch all rows at once (no row limit), or inside a transaction",
            0});
    return true;
  }
  if (portal.executed && portal.spread.plan.writes) {
    refuse({SqlState("55000"), fmt::format("portal \"{}\" cannot be run", name), {}, {}, 0});
    return true;
  }
  if (portal.executed && !portal.spread.cursor) {  // to its end, the server would say
    std::string complete;
    if (!postgres::append_command_complete(complete, "SELECT 0")) return true;
    return answer_in_unit(std::move(complete));
  }
  if (portal.spread.kind != parser::StatementKind::select && portal.spread.cursor &&
      (portal.executed || max_rows > 0)) {
    refuse({SqlState("55000"),
            fmt::format("portal \"{}\" cannot be run {}", name, portal.executed ? "" : "in parts"),
            {},
            {},
            0});
    return true;
  }
  if (query && portal.spread.cursor)
    portal.spread.cursor->portion = {.count = max_rows > 0 ? max_rows : parser::Cursor::all};
  else
    portal.scatter->limit = portal.spread.kind == parser::StatementKind::copy ? 0 : std::max(max_rows, 0);
  const bool taken = start_scatter(*portal.scatter, portal.spread, portal.counters);
  if (scatter_ == nullptr) return taken;
  portal.executed = true;
  described_.reset();
  portal.scatter->describe = false;
  return taken;
}

}  // namespace tessera::proxy
