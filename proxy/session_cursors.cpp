// Cursors over several shards (executor/cursor.hpp): DECLARE, FETCH, MOVE and CLOSE, and portals that are executed with
// a row limit inside a transaction. They are among the session's portals. What can be answered shard by shard is
// read so, forward; everything else, and what is to be read in other directions or to outlive its transaction, from a
// merge node, which keeps its rows.
#include <fmt/format.h>

#include "executor/gather.hpp"
#include "executor/sender.hpp"
#include "proxy/session.hpp"
#include "router/rewrite.hpp"

namespace tessera::proxy {

using parser::StatementKind;
using Direction = parser::Cursor::Direction;

namespace {

// The cursor that the text declares, reads or closes; nullptr: it does none of these, or closes all.
const parser::Cursor* named_cursor(const router::PlannedText& text) {
  if (!text.single() || !text.statements.front().statement) return nullptr;
  const parser::Statement& statement = *text.statements.front().statement;
  return statement.cursor && !statement.cursor->name.empty() ? &*statement.cursor : nullptr;
}

Error connection_lost() {
  return {sqlstate::connection_failure, "the connection that this cursor reads from was lost", {}, {}, 0};
}

}  // namespace

// ---- what the statement concerns ------------------------------------------------------------------------------------

// Whether the cursor is still there depends on whether its transaction is, and that may be on its way.
Session::Got Session::wait_for_cursor(const router::PlannedText& text) {
  const parser::Cursor* cursor = named_cursor(text);
  return cursor != nullptr && awaits_portals_end(cursor->name) ? Got::wait : Got::ready;
}

// Where a cursor is read that SQL has declared on one shard.
std::optional<ShardId> Session::home_of_cursor(const router::PlannedText& text) const {
  const parser::Cursor* cursor = named_cursor(text);
  const Portal* portal = cursor != nullptr ? portals_.find(cursor->name) : nullptr;
  return portal != nullptr ? portal->home : std::nullopt;
}

// One over several shards: a connection that is kept for it belongs to the pools of this database.
bool Session::holds_cursor() const {
  return portals_.any([](const Portal& portal) { return portal.hold; });
}

// Of FETCH from a cursor over several shards: its RowDescription. Empty: a server can say it.
std::string Session::fetched_columns(const router::PlannedText& text) const {
  const parser::Cursor* cursor = named_cursor(text);
  const Portal* portal = cursor != nullptr ? portals_.find(cursor->name) : nullptr;
  const bool reads = portal != nullptr && portal->spread.cursor && text.statements.front().plan.command == "FETCH";
  return reads ? portal->spread.cursor->cursor->description : std::string();
}

// Without shards: it goes its ordinary way.
Result<Target> Session::cursor_target(const router::PlannedStatement& planned, const router::Values& values) {
  Target target;
  const parser::Statement* statement = planned.statement.get();
  if (statement == nullptr || !statement->cursor || !multi_shard()) return target;
  const Portal* portal = portals_.find(statement->cursor->name);
  if (statement->kind == StatementKind::declare_cursor) {
    // Whether a portal on one shard is still there that shard says.
    const bool known = portal != nullptr && (!portal->on_server() || portal->home);
    const bool there = known && (in_transaction_ || lazy_.open() || portal->hold);
    if (there) return fail(SqlState("42P03"), fmt::format("cursor \"{}\" already exists", statement->cursor->name));
    if (planned.plan.hinted_shard || planned.plan.refusal) return target;
    return declared_target(*statement, values);
  }
  if (portal == nullptr) return target;
  target.shard = portal->home;
  if (!portal->spread.cursor) return target;
  target.scatter = true;
  target.spread.kind = statement->kind;
  CursorStep& step = target.spread.cursor.emplace(*portal->spread.cursor);
  step.name = statement->cursor->name;
  step.closes = statement->kind == StatementKind::close_cursor;
  step.portion.reset();
  if (step.closes) return target;
  const auto by = statement->command == "MOVE" ? executor::Portion::By::move : executor::Portion::By::fetch;
  step.portion = {.by = by, .direction = statement->cursor->direction, .count = statement->cursor->count};
  return target;
}

// A cursor whose query concerns several shards.
Result<Target> Session::declared_target(const parser::Statement& statement, const router::Values& values) {
  const parser::Cursor& declared = *statement.cursor;
  const parser::SourceSpan span = statement.inner.front().span;
  const std::string_view query = router::text_of(values.sql, span);
  const int before = router::position_of(values.sql, span.begin) - 1;
  parser::Fingerprint print;
  router::PlannedTextRef text;
  options_.database->plan(query, view(), routing(), print, &text);
  const router::Values own{query, print.slots, values.parameters, values.same_encoding};
  Result<Target> target = target_of(*text, own);
  if (!target) {
    Error error = target.error();
    if (error.position > 0) error.position += before;
    return std::unexpected(std::move(error));
  }
  if (!target->scatter) return Target{};
  if (target->spread.plan.writes && !statement.inner.front().effects.locks_rows)
    return fail(sqlstate::feature_not_supported, "DECLARE CURSOR must not contain data-modifying statements in WITH");
  if (declared.binary)
    return fail(sqlstate::feature_not_supported, "a cursor over several shards cannot be BINARY",
                "leave it out, and ask for binary results with FETCH by the extended protocol");
  if (!target->spread.gather && (declared.scroll || declared.hold || target->spread.merge)) {
    auto gather = options_.database->gather(own, view(), *routing(), in_transaction_ || lazy_.open());
    if (!gather) return std::unexpected(gather.error());
    target->spread.gather = std::make_shared<const router::GatherPlan>(std::move(*gather));
  }
  target->spread.merge.reset();  // rows in order are kept in order where they have been put together
  target->spread.kind = StatementKind::declare_cursor;
  CursorStep& step = target->spread.cursor.emplace();
  step.name = declared.name;
  step.query = query;
  step.before = before;
  step.hold = declared.hold;
  step.cursor->scroll = declared.scroll;
  return target;
}

// A portal that is executed with a row limit is a cursor from now on.
Result<void> Session::read_in_parts(std::string_view name, Portal& portal) {
  Spread& spread = portal.spread;
  if (spread.merge && !spread.gather) {
    const executor::Request& request = *portal.scatter;
    postgres::BindView bind;
    std::string buffer;
    if (!executor::parse_parameters(request.bind, buffer, bind))
      return std::unexpected(postgres::invalid_message("Bind"));
    parser::Fingerprint print;
    options_.database->plan(request.sql, view(), routing(), print, nullptr);
    const router::Values values{request.sql, print.slots, parameters_of(bind, request.types), same_encoding()};
    auto gather = options_.database->gather(values, view(), *routing(), true);
    if (!gather) return std::unexpected(gather.error());
    spread.gather = std::make_shared<const router::GatherPlan>(std::move(*gather));
  }
  spread.merge.reset();
  spread.cursor = CursorStep{.name = std::string(name)};
  return {};
}

std::optional<Error> Session::cursor_problem(const Spread& spread, bool transaction) {
  const CursorStep& step = *spread.cursor;
  const executor::Cursor& cursor = *step.cursor;
  if (spread.kind == StatementKind::declare_cursor) {
    if (!transaction && !step.hold)
      return Error{SqlState("25P01"), "DECLARE CURSOR can only be used in transaction blocks", {}, {}, 0};
    if (transaction && step.hold)
      return Error{sqlstate::feature_not_supported,
                   "a cursor over several shards cannot be declared WITH HOLD inside a transaction",
                   {},
                   "declare it outside of one, or without HOLD",
                   0};
    return portal_refusal(step.name, false, step.query.size());
  }
  if (!step.portion) return {};
  if (cursor.failed) return Error{SqlState("55000"), fmt::format("portal \"{}\" cannot be run", step.name), {}, {}, 0};
  if (cursor.merged && cursor.merged->lost()) return connection_lost();
  const bool forward = step.portion->direction == Direction::forward && step.portion->count > 0;
  if (cursor.scroll || forward) return {};
  step.cursor->failed = true;  // as a server's would be
  return Error{SqlState("55000"), "cursor can only scan forward",
               "over several shards that is so unless it is declared SCROLL",
               "Declare it with SCROLL option to enable backward scan.", 0};
}

// DECLARE has succeeded on one shard, or CLOSE.
void Session::note_cursor(const parser::Statement& statement) {
  if (!statement.cursor || !multi_shard()) return;
  const parser::Cursor& cursor = *statement.cursor;
  if (statement.kind == StatementKind::close_cursor) {
    if (cursor.name.empty())
      portals_.clear();
    else
      portals_.erase(cursor.name);
    return;
  }
  if (cursor.hold || backend_ == nullptr || portal_refusal(cursor.name, true, 0)) return;
  portals_.put(cursor.name, {.unit = unit_ - 1, .savepoints = lazy_.savepoints(), .home = backend_->endpoint().shard});
}

// ---- at work --------------------------------------------------------------------------------------------------------

void Session::run_cursor(executor::Request request, const Spread& spread) {
  const CursorStep& step = *spread.cursor;
  if (step.closes) return close_cursor(request, step);
  if (!step.cursor->is_open()) return open_cursor(std::move(request), spread);
  host_.stream().append(std::exchange(request.bound, {}));
  read_cursor(std::move(request), step);
}

void Session::open_cursor(executor::Request request, const Spread& spread) {
  const CursorStep& step = *spread.cursor;
  step.cursor->name = fmt::format("tessera_cursor_{}", ++cursors_);
  if (!spread.gather) step.cursor->shards = spread.plan.shards;
  executor::Request open = request;
  if (!step.query.empty()) open.sql = step.query;
  open.describe = false;
  executor::Events events = execution_events([this, request, spread](const Result<void>& result) {
    spread.cursor->cursor->failed = !result;
    if (!result || !spread.cursor->portion) return cursor_declared(request, spread, result);
    take_execution();
    read_cursor(request, *spread.cursor);
  });
  if (spread.gather) return start_gather(std::move(open), *spread.gather, std::move(events), step.cursor.get());
  run_execution(std::make_unique<executor::OpenCursor>(std::move(open), *step.cursor, places_of(spread.plan.shards),
                                                       options_.database->loop(), std::move(events)));
}

void Session::read_cursor(executor::Request request, const CursorStep& step) {
  executor::Events events =
      execution_events([this, cursor = step.cursor, simple = request.simple](const Result<void>& result) {
        cursor->failed = !result;
        scatter_done(result, simple);
      });
  std::vector<executor::Place> places;
  if (step.cursor->merged) {
    places.push_back(step.cursor->merged->place());
    events.lost = [cursor = step.cursor](const pool::Backend&) { cursor->merged->forget(); };
  } else {
    places = places_of(step.cursor->shards);
  }
  run_execution(std::make_unique<executor::ReadCursor>(std::move(request), *step.cursor, *step.portion, places,
                                                       options_.database->loop(), std::move(events)));
}

// As run_cursor's: `spread` says which one.
void Session::cursor_declared(const executor::Request& request, const Spread& spread, const Result<void>& result) {
  const CursorStep& step = *spread.cursor;
  if (result && spread.kind == StatementKind::declare_cursor) {
    if (!request.simple && request.describe) postgres::append_no_data(host_.stream().out());
    Portal portal{.executed = true,
                  .unit = unit_ - 1,
                  .scatter = std::make_shared<executor::Request>(executor::Request{.describe = false}),
                  .spread = spread,
                  .hold = step.hold,
                  .savepoints = lazy_.savepoints()};
    portal.spread.kind = StatementKind::select;
    portal.spread.gather.reset();
    portals_.put(step.name, std::move(portal));
  }
  if (result || result.error().position == 0) return scatter_done(result, request.simple);
  Error error = result.error();
  error.position += step.before;
  scatter_done(std::unexpected(std::move(error)), request.simple);
}

// On a merge node it ends with what is kept there.
void Session::close_cursor(const executor::Request& request, const CursorStep& step) {
  std::string& out = host_.stream().out();
  out += request.bound;
  if (!request.simple && request.describe) postgres::append_no_data(out);
  std::string completion;
  if (step.by_message)
    postgres::append_close_complete(completion);
  else if (!postgres::append_command_complete(completion, "CLOSE CURSOR"))
    completion.clear();
  const auto done = [this, name = step.name, completion, simple = request.simple](const Result<void>& result) {
    take_execution();
    std::optional<Error> error;
    if (!result) error = execution_error(result.error());
    if (!error && name.empty()) unnamed_portal_ = {};
    if (!error) portals_.erase(name);
    conclude(std::move(error), completion, simple);
  };
  const auto places = step.cursor->merged ? std::vector<executor::Place>() : places_of(step.cursor->shards);
  run_execution(std::make_unique<executor::Everywhere>("CLOSE " + step.cursor->name, places,
                                                       executor::Everywhere::Order::at_once, pool::no_settings(),
                                                       options_.database->loop(), execution_events(done)));
}

// The message Close, of a portal that is open on shards. Nothing: it ends here alone.
std::optional<bool> Session::close_on_shards(std::string_view name, const Portal& portal) {
  if (!portal.scatter || !portal.spread.cursor) return {};
  const CursorStep& open = *portal.spread.cursor;
  const bool ends_alone = open.cursor->merged || !open.cursor->is_open() || open.closes;
  if (ends_alone || !in_transaction_ || in_failed_transaction() || discard_until_sync()) return {};
  Spread spread{.kind = StatementKind::close_cursor, .cursor = open};
  spread.cursor->name = name;
  spread.cursor->closes = spread.cursor->by_message = true;
  return start_scatter({.describe = false}, spread, nullptr);
}

}  // namespace tessera::proxy
