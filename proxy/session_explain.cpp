// EXPLAIN. EXPLAIN (TESSERA) is answered here. EXPLAIN of a statement over several shards has the transaction, the
// connections and the locks that the statement would have; each shard explains its part, and for a gather the merge
// node what is left, over temporary tables that are empty without ANALYZE.
#include <algorithm>
#include <fmt/format.h>
#include <ranges>

#include "executor/explain.hpp"
#include "executor/gather.hpp"
#include "pool/text_rows.hpp"
#include "proxy/explain_output.hpp"
#include "proxy/row_builder.hpp"
#include "proxy/session.hpp"
#include "proxy/show.hpp"
#include "router/rewrite.hpp"
#include "router/text.hpp"

namespace tessera::proxy {

using parser::Statement;

std::string Session::explain(const Statement& statement, std::string_view sql, std::optional<Error>& error) {
  if (!statement.explain.beside.empty()) {
    error = Error{sqlstate::feature_not_supported,
                  fmt::format("EXPLAIN (TESSERA) does not take the option \"{}\"", statement.explain.beside),
                  {},
                  "TESSERA alone shows where the statement goes, and runs nothing; without TESSERA the shard explains",
                  0};
    return {};
  }
  RowBuilder rows({"QUERY PLAN"});
  if (!statement.inner.empty()) {
    parser::Fingerprint print;
    parser::fingerprint(sql, view().lexer, print);
    // The hint stands before EXPLAIN, and counts for what is explained.
    std::string inner;
    if (print.hint_begin != print.hint_end)
      inner = fmt::format("/* tessera: {} */ ", sql.substr(print.hint_begin, print.hint_end - print.hint_begin));
    const parser::SourceSpan span = statement.inner.front().span;
    inner += sql.substr(span.begin, span.end - span.begin);
    router::PlannedTextRef planned;
    options_.database->plan(inner, view(), routing(), print, &planned);
    if (planned->gives_ids) {
      const router::GivenIds ids = *planned->statements.front().plan.ids;
      const std::string told = router::describe(ids, *routing()->topology);
      for (const auto line : std::views::split(std::string_view(told).substr(0, told.size() - 1), '\n'))
        rows.row({std::string(line.begin(), line.end())});
      std::vector<router::Moved> moves;
      const std::uint32_t first = router::largest_parameter(inner, view().lexer) + 1;
      inner = router::with_ids(inner, view().lexer, ids, router::id_parameters(ids, first), moves);
      options_.database->plan(inner, view(), routing(), print, &planned);
    }
    const auto together = [this](const router::Values& values, const router::Plan& plan) {
      const auto statements = options_.database->parsed_for_several(values.sql, view());
      if (!statements) return std::string();
      return router::describe_rows(plan, statements->front(), values, *routing()->topology, *routing()->catalog,
                                   view().session, in_transaction_ || lazy_.open());
    };
    for (const std::string& line : explain_lines(*planned, {inner, print.slots, {}}, *routing()->topology, together))
      rows.row({line});
  }
  return rows.all("EXPLAIN");
}

// What is known of it so far.
struct Session::Explaining {
  executor::Request request;
  Spread spread;
  ExplainedPlan plan;
  TimePoint began = Clock::now();
  // Of the merge node: its rows may be cut anywhere.
  std::vector<pool::TextRows::Row> rows = {};
  pool::TextRows reader = {};
  const parser::Explain& options() const { return spread.explain->options; }
};

Result<std::shared_ptr<const ExplainRequest>> Session::explain_request(std::string_view sql) {
  const auto statements = WorkerDatabase::parsed_for_several(sql, view());
  if (!statements) return std::unexpected(statements.error());
  const Statement& explain = statements->front();
  const std::uint32_t begin = explain.span.begin;
  return std::make_shared<const ExplainRequest>(
      ExplainRequest{explain.explain, std::string(sql.substr(begin, explain.inner.front().span.begin - begin))});
}

namespace {

std::string_view name_of(const Spread& spread) {
  switch (spread.plan.op) {
    case router::Operator::merge_sort:
      return spread.merge->keys.empty() ? "Limit" : "Merge Sort";
    case router::Operator::gather:
      return "Gather";
    case router::Operator::split:
      return "Split";
    case router::Operator::replicate:
      return "Replicate";
    default:
      return "Scatter";
  }
}

bool takes_part(const router::GatherFragment& fragment, ShardId shard) {
  return std::ranges::find(fragment.shards, shard) != fragment.shards.end();
}

// $1, $2, … are the client's, as far as the fragment uses them.
std::vector<int> parameters_of(const router::GatherFragment& fragment) {
  std::vector<int> numbers;
  for (const int number : fragment.parameters) {
    if (std::ssize(numbers) < number) numbers.resize(static_cast<std::size_t>(number));
    numbers[static_cast<std::size_t>(number - 1)] = number;
  }
  return numbers;
}

// EXPLAIN stands in front of the shards' text, as in the client's.
std::function<int(int)> merge_position(const Spread& spread, const std::string& client_sql) {
  const auto before = static_cast<int>(router::characters(spread.explain->words));
  return [merge = spread.merge, before, client_sql](int position) {
    return merge->position_in(client_sql, position - before);
  };
}

std::vector<executor::Explain::Question> questions_for(ShardId shard, const Spread& spread,
                                                       const std::string& client_sql) {
  const std::string& words = spread.explain->words;
  std::vector<executor::Explain::Question> questions;
  if (spread.gather) {
    for (const router::GatherFragment& fragment : spread.gather->fragments)
      if (takes_part(fragment, shard)) questions.push_back({words + fragment.query, parameters_of(fragment)});
  } else if (spread.merge) {
    questions.push_back({.sql = words + spread.merge->sql, .client_position = merge_position(spread, client_sql)});
  } else if (spread.split) {
    const auto part = std::ranges::find(spread.split->parts, shard, &router::SplitPart::shard);
    questions.push_back({words + part->sql, part->parameters});
  } else {
    questions.emplace_back();
  }
  return questions;
}

// The shards' answers, in the order of the questions.
void take_answers(const std::vector<ShardId>& shards,
                  const std::vector<std::vector<executor::Explain::Answer>>& answers, const router::Topology& topology,
                  const Spread& spread, ExplainedPlan& plan) {
  std::vector<std::size_t> taken(shards.size());
  const auto next = [&](std::size_t shard) {
    const executor::Explain::Answer& answer = answers[shard][taken[shard]++];
    return ShardPlan{
        .shard = std::string(topology.shard_name(shards[shard])), .lines = answer.lines, .took = answer.took};
  };
  if (!spread.gather) {
    for (std::size_t i = 0; i < shards.size(); ++i) {
      plan.shards.push_back(next(i));
      if (spread.split) plan.shards.back().statement = spread.split->parts[i].sql;
      if (spread.merge) plan.shards.back().statement = spread.merge->sql;
    }
    return;
  }
  for (const router::GatherFragment& fragment : spread.gather->fragments) {
    ExplainedFragment& told = plan.fragments.emplace_back(ExplainedFragment{fragment.table, fragment.query, {}});
    for (std::size_t i = 0; i < shards.size(); ++i)
      if (takes_part(fragment, shards[i])) told.shards.push_back(next(i));
  }
}

// As of a write that is not explained.
std::optional<Error> copies_differ(const ExplainedPlan& plan, bool json) {
  std::optional<std::uint64_t> first;
  for (const ShardPlan& shard : plan.shards) {
    const std::optional<std::uint64_t> changed = measure(shard.lines, json).changed;
    if (&shard == &plan.shards.front()) first = changed;
    if (changed == first) continue;
    return executor::Scatter::copies_differ(first.value_or(0), changed.value_or(0));
  }
  return {};
}

// Of the one column. `bind`: as in the request.
std::string description_of_plan(const std::string& bind, bool json) {
  constexpr postgres::Oid text_oid = 25, json_oid = 114;
  std::string buffer("\0\0", 2);
  buffer += bind.empty() ? std::string(6, '\0') : bind;
  postgres::BindView view;
  std::string out;
  if (!postgres::parse_bind(buffer, view)) return out;
  const auto format = postgres::format_of(view.result_formats, 0).value_or(postgres::Format::text);
  const postgres::FieldView column{.name = "QUERY PLAN",
                                   .type = json ? json_oid : text_oid,
                                   .type_size = -1,
                                   .format = static_cast<std::int16_t>(format)};
  if (!postgres::append_row_description(out, {&column, 1})) out.clear();
  return out;
}

}  // namespace

void Session::run_explain(executor::Request request, const Spread& spread) {
  auto work = std::make_shared<Explaining>(Explaining{.request = std::move(request), .spread = spread, .plan = {}});
  work->plan.node = name_of(spread);
  work->plan.changes_rows = spread.plan.writes;
  if (spread.merge) {
    for (const router::MergeKey& key : spread.merge->keys) work->plan.sort_keys.push_back(describe(key));
    work->plan.offset = spread.merge->offset;
    work->plan.limit = spread.merge->limit;
    work->plan.certain = spread.merge->certain;
  }
  work->plan.copies = spread.plan.op == router::Operator::replicate;
  const std::vector<ShardId> shards = spread.gather ? spread.gather->sources() : spread.plan.shards;
  const std::vector<executor::Place> places = places_of(shards);
  std::vector<executor::Explain::Share> shares;
  for (std::size_t i = 0; i < shards.size(); ++i)
    shares.push_back({places[i], questions_for(shards[i], spread, work->request.sql)});
  const auto done = [this, work, shards](const Result<void>& result) {
    if (!result) return explained(*work, result);
    take_answers(shards, static_cast<const executor::Explain&>(*scatter_).answers(), *routing()->topology, work->spread,
                 work->plan);
    if (work->spread.gather) return explain_gather(work);
    explained(*work, result);
  };
  // What has locked its tables need not wait for its turn.
  using Order = executor::Explain::Order;
  const Order order = spread.plan.writes && spread.copies.empty() ? Order::in_turn : Order::at_once;
  run_execution(std::make_unique<executor::Explain>(work->request, shares, order, settings_.current(),
                                                    options_.database->loop(), execution_events(done)));
  work->request.bound.clear();
}

// Makes the temporary tables and explains there what is left of the statement.
void Session::explain_gather(const std::shared_ptr<Explaining>& work) {
  take_execution();
  router::GatherPlan plan = *work->spread.gather;
  plan.statement = work->spread.explain->words + plan.statement;
  if (!work->options().analyze)
    for (router::GatherFragment& fragment : plan.fragments) fragment.shards.clear();
  const TimePoint began = Clock::now();
  executor::Events events = execution_events([this, work, began](const Result<void>& result) {
    if (!result) return explained(*work, result);
    const std::string merge(routing()->topology->shard_name(work->spread.gather->merge));
    ShardPlan& told = work->plan.merge.emplace(
        ShardPlan{.shard = merge, .statement = work->spread.gather->statement, .took = Clock::now() - began});
    for (pool::TextRows::Row& row : work->rows) told.lines.push_back(std::move(row.front()).value_or(""));
    for (const executor::Gather::Moved& moved : static_cast<const executor::Gather&>(*scatter_).moved())
      for (ShardPlan& shard : work->plan.fragments[moved.fragment].shards)
        if (shard.shard == routing()->topology->shard_name(moved.shard))
          shard.sent = MovedData{moved.rows, moved.bytes};
    explained(*work, result);
  });
  events.relay = [work](std::string_view bytes) { work->reader.take(bytes, work->rows); };
  executor::Request request = work->request;
  request.describe = false;
  request.limit = 0;
  std::vector<ShardId> shards = plan.sources();
  if (!in_transaction_) std::erase(shards, plan.merge);
  run_execution(std::make_unique<executor::Gather>(
      std::move(request), plan, executor::Place{.pool = &pool_of(plan.merge)}, places_of(shards), settings_.current(),
      in_transaction_ ? settings_.local_sql() : std::string(), options_.database->loop(), std::move(events)));
}

// The answer is complete, or it has failed.
void Session::explained(Explaining& work, const Result<void>& result) {
  const bool simple = work.request.simple;
  const bool json = work.options().format == "json";
  take_execution();
  if (!result) return statement_done(result, simple, false, {});
  work.plan.took = Clock::now() - work.began;
  if (work.plan.copies && work.plan.changes_rows)
    if (std::optional<Error> differ = copies_differ(work.plan, json))
      return statement_done(std::unexpected(*std::move(differ)), simple, false, {});
  Result<std::vector<std::string>> lines = explain_rows(work.plan, work.options());
  if (!lines) return statement_done(std::unexpected(lines.error()), simple, false, {});
  std::string answer, completion;
  if (work.request.describe) answer = description_of_plan(work.request.bind, json);
  const std::size_t limit = work.request.limit > 0 ? static_cast<std::size_t>(work.request.limit) : SIZE_MAX;
  const bool suspended = lines->size() >= limit;
  if (suspended) lines->resize(limit);
  for (const std::string& line : *lines) {
    const postgres::Value value = line;
    if (!postgres::append_data_row(answer, {&value, 1}))
      return statement_done(std::unexpected(executor::too_long()), simple, false, {});
  }
  if (suspended)
    postgres::append_portal_suspended(completion);
  else if (!postgres::append_command_complete(completion, "EXPLAIN"))
    completion.clear();
  host_.stream().append_large(answer);
  statement_done({}, simple, false, std::move(completion));
}

}  // namespace tessera::proxy
