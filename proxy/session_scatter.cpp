// Statements that run on several shards: the session's side of executor::Execution.
#include <algorithm>
#include <fmt/format.h>

#include "executor/gather.hpp"
#include "executor/scatter.hpp"
#include "proxy/session.hpp"

namespace tessera::proxy {

using postgres::TransactionStatus;

bool Session::start_scatter(executor::Request request, const router::Plan& plan, GatherPlanRef gather,
                            router::StatementCounters* counters) {
  if (in_transaction_ || !lazy_.none()) {
    refuse({sqlstate::feature_not_supported,
            fmt::format("this statement concerns {} shards and cannot run inside a transaction", plan.shards.size()),
            {},
            "run it outside of the transaction, or restrict it to one key; transactions over several shards are not "
            "supported by this version",
            0});
    return true;
  }
  if (pins_ != 0 && (pins_ & pin_temporary) != 0) {
    refuse({sqlstate::feature_not_supported,
            "this session has temporary objects on one shard and cannot read from several",
            {},
            "use another session",
            0});
    return true;
  }
  if ((backend_ != nullptr && unit_open_) || describes_later()) {
    refuse({sqlstate::feature_not_supported,
            "a statement over several shards cannot share a pipeline with others",
            {},
            "send Sync before it",
            0});
    return true;
  }
  if (wait_for_replies() == Got::wait) return false;
  release_if_free();
  const std::vector<ShardId> shards = gather ? gather->shards() : plan.shards;
  if (const std::optional<Error> problem = own_connection_in_the_way(shards)) {
    refuse(*problem);
    return true;
  }
  request.bound = take_bound();
  emit_local_deferred();
  std::vector<pool::Pool*> pools;
  for (const ShardId shard : shards) pools.push_back(&pool_of(shard));
  DatabaseMetrics& metrics = options_.database->metrics();
  metrics.scattered.add();
  note_text(request.sql);
  ++statements_;
  for (const ShardId shard : shards)
    metrics.shards[shard.value()].statements[static_cast<std::size_t>(StatementClass::select)].add();
  scatter_counters_ = counters;
  if (counters != nullptr) {
    ++counters->calls;
    for (const ShardId shard : shards) counters->sent_to(shard);
  }
  wait_ = Wait::scatter;
  executor::Events events{
      .relay = [this](std::string_view bytes) { host_.stream().append_large(bytes); },
      .flush = [this] { host_.stream().flush(); },
      .congested = [this] { return is_congested(); },
      .done = [this](const Result<void>& result) { scatter_done(result); },
  };
  net::EventLoop& loop = options_.database->loop();
  if (gather)
    scatter_ = std::make_unique<executor::Gather>(std::move(request), *gather, pools, settings_.current(), loop,
                                                  std::move(events));
  else
    scatter_ =
        std::make_unique<executor::Scatter>(std::move(request), pools, settings_.current(), loop, std::move(events));
  scatter_->start();
  return true;
}

// A scatter takes connections besides those that the session keeps. It would wait for one in vain where there may be no
// other.
std::optional<Error> Session::own_connection_in_the_way(const std::vector<ShardId>& shards) {
  std::vector<const pool::Backend*> own(parked_.begin(), parked_.end());
  if (backend_ != nullptr) own.push_back(backend_);
  for (const pool::Backend* backend : own) {
    const ShardId shard = backend->endpoint().shard;
    if (std::ranges::find(shards, shard) == shards.end() || pool_of(shard).budget().limit() > 1) continue;
    return Error{sqlstate::too_many_connections,
                 fmt::format("this session keeps the only connection to shard \"{}\" (pool.size is 1), and a statement "
                             "over several shards needs another",
                             backend->endpoint().name),
                 pins_ != 0 ? fmt::format("it is kept because of: {}", pin_reasons()) : "it is kept by session pooling",
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

void Session::scatter_done(const Result<void>& result) {
  const std::unique_ptr<executor::Execution> ended = std::move(scatter_);
  std::string& out = host_.stream().out();
  last_activity_ = options_.database->loop().now();
  slow_log(last_activity_ - request_started_);
  if (scatter_counters_ != nullptr) {
    if (!result) ++scatter_counters_->errors;
    note_time(*scatter_counters_);
  }
  if (!result) {
    const bool timed_out = std::exchange(timed_out_at_, TimePoint{}) != TimePoint{};
    const Error error = timed_out && result.error().code == sqlstate::query_canceled ? timeout_error() : result.error();
    options_.database->metrics().count_error(error.code.view());
    if (ended->cut()) {
      ending_ = true;
      return host_.end_session();
    }
    postgres::append_error(out, error);
    if (!ended->request().simple) skip_local_ = true;
  }
  if (ended->request().simple) postgres::append_ready_for_query(out, local_status());
  request_ended();
  stop_waiting();
  run();
  release_if_free();
  host_.stream().flush();
  if (!blocked() && !ending_) host_.resume_reading();
}

bool Session::bind_scatter(const PreparedStatement& statement, const postgres::BindView& bind, std::string_view whole,
                           const Target& target) {
  const router::Plan& plan = target.plan;
  if (engaged() && !in_transaction_ && unit_prepares_only_ && unit_open_) return leave_side_unit();
  if (!engaged() && lazy_.none() && describes_later()) {
    // What was asked about the statement itself is answered by one of the shards, before all of them run it.
    const Got got = settle();
    if (got != Got::ready) return got == Got::refused;
    return leave_side_unit();
  }
  if (engaged() || !lazy_.none()) {
    refuse(
        {sqlstate::feature_not_supported,
         fmt::format(
             "this statement concerns {} shards and cannot run inside a transaction or behind others in a pipeline",
             plan.shards.size()),
         {},
         "send it alone, or restrict it to one key; transactions over several shards are not supported by this version",
         0});
    return true;
  }
  auto request = std::make_shared<executor::Request>();
  request->sql = statement.sql_text();
  request->types = statement.parameter_types();
  // What stands behind the two names: formats, values, result formats.
  request->bind = whole.substr(postgres::frame_header_size + bind.portal.size() + bind.statement.size() + 2);
  request->describe = false;
  set_portal(bind.portal, {.counters = statement.plan ? statement.plan->counters.get() : nullptr,
                           .scatter = std::move(request),
                           .scatter_plan = plan,
                           .gather = target.gather});
  std::string complete;
  postgres::append_bind_complete(complete);
  defer_local(std::move(complete));
  deferred_.back().bound = true;
  return true;
}

bool Session::execute_scatter(Portal& portal, std::int32_t max_rows) {
  if (max_rows > 0) {
    refuse({sqlstate::feature_not_supported,
            "a portal over several shards cannot be read in parts",
            {},
            "fetch all rows at once (no row limit)",
            0});
    return true;
  }
  if (described_ && described_ != portal.scatter) {
    refuse(undescribed());
    return true;
  }
  if (portal.executed) {  // to its end, the server would say
    std::string complete;
    if (!postgres::append_command_complete(complete, "SELECT 0")) return true;
    return answer_in_unit(std::move(complete));
  }
  const bool taken = start_scatter(*portal.scatter, portal.scatter_plan, portal.gather, portal.counters);
  portal.executed = scatter_ != nullptr;
  if (portal.executed) described_.reset();
  return taken;
}

}  // namespace tessera::proxy
