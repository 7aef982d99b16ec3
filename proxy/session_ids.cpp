// INSERTs that leave serial and identity columns to their sequences: they are given values of the default shard's
// sequence, which stand in the text from then on, or in parameters behind the client's own, and are handled as if the
// client had sent them so.
#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <ranges>

#include "executor/inquiry.hpp"
#include "proxy/session.hpp"

namespace tessera::proxy {

// In a transaction that has failed nothing is given: the server says so.
bool Session::gives_ids(const router::PlannedText& text) const {
  return text.gives_ids && !giving_.now && !in_failed_transaction() && !lazy_.failed();
}

bool Session::query_with_ids(std::string_view sql, const router::PlannedTextRef& text) {
  const router::GivenIds& ids = *text->statements.front().plan.ids;
  if (const Got got = take_ids(ids); got != Got::ready) return got == Got::refused;
  std::vector<std::vector<std::string>> texts = giving_.texts(ids);
  for (std::size_t i = 0; i < texts.size(); ++i)
    if (ids.columns[i].is_asked() && !texts[i].front().empty()) texts[i].front() += "::bigint";
  std::string message;
  std::vector<router::Moved> moves;
  if (!postgres::append_query(message, router::with_ids(sql, view().lexer, ids, texts, moves))) {
    refuse({sqlstate::program_limit_exceeded, "the statement is too long", {}, {}, 0});
    return true;
  }
  giving_.moved = std::move(moves);
  giving_.now = true;
  const bool taken = handle_query(message);
  giving_.now = false;
  giving_.moved.clear();
  if (taken) giving_.note(ids);
  return taken;
}

bool Session::parse_with_ids(const postgres::ParseView& parse, const router::PlannedTextRef& text) {
  auto given = std::make_shared<GivenParameters>();
  given->ids = *text->statements.front().plan.ids;
  given->own = std::max(static_cast<std::uint32_t>(parse.parameter_types.size()),
                        router::largest_parameter(parse.query, view().lexer));
  const std::string sql = router::with_ids(parse.query, view().lexer, given->ids,
                                           router::id_parameters(given->ids, given->own + 1), given->moves);
  std::string message;
  constexpr std::uint32_t most = 65'535;
  if (given->own + given->ids.count() > most ||
      !postgres::append_parse(message, parse.statement, sql, parse.parameter_types))
    return refuse_parse(parse.statement, {sqlstate::program_limit_exceeded,
                                          "the statement is too long, or has too many parameters, for the ids that it "
                                          "is given",
                                          {},
                                          "insert fewer rows at once",
                                          0});
  giving_.parameters = std::move(given);
  giving_.now = true;
  const bool taken = handle_parse(message);
  giving_.now = false;
  giving_.parameters.reset();
  return taken;
}

bool Session::bind_with_ids(std::string_view whole, const postgres::BindView& bind,
                            const PreparedStatement& statement) {
  const std::shared_ptr<const GivenParameters> given = statement.given;
  if (bind.parameters.size() != given->own) {
    refuse({sqlstate::protocol_violation,
            fmt::format("bind message supplies {} parameters, but prepared statement \"{}\" requires {}",
                        bind.parameters.size(), bind.statement, given->own),
            {},
            {},
            0});
    return true;
  }
  std::vector<postgres::Value> values(bind.parameters.begin(), bind.parameters.end());
  std::vector<std::vector<std::string>> texts;
  if (in_failed_transaction() || lazy_.failed()) {
    values.resize(given->own + given->ids.count());  // the server does not look at them
  } else {
    if (const Got got = take_ids(given->ids); got != Got::ready) return got == Got::refused;
    texts = giving_.texts(given->ids);
    for (const std::vector<std::string>& column : texts)
      for (const std::string& text : column) values.push_back(text.empty() ? postgres::Value() : postgres::Value(text));
    giving_.answers = std::ranges::none_of(giving_.numbers, &IdSource::Numbers::empty);
  }
  std::vector<std::int16_t> formats = bind.parameter_formats;
  if (!formats.empty()) {  // one format is for all
    if (formats.size() == 1) formats.resize(given->own, formats.front());
    formats.resize(values.size(), 0);
  }
  std::string message;
  if (!postgres::append_bind(message, bind.portal, bind.statement, values, {formats, bind.result_formats})) {
    refuse({sqlstate::program_limit_exceeded, "the parameters are too long", {}, {}, 0});
    return true;
  }
  giving_.bind = whole;
  giving_.now = true;
  const bool taken = handle_bind(message);
  giving_.now = giving_.answers = false;
  giving_.bind = {};
  if (taken && !texts.empty()) giving_.note(given->ids);
  return taken;
}

// ---- their values ---------------------------------------------------------------------------------------------------

std::vector<std::vector<std::string>> Giving::texts(const router::GivenIds& ids) const {
  std::vector<std::vector<std::string>> texts;
  for (const IdSource::Numbers& known : numbers) {
    std::vector<std::string>& column = texts.emplace_back(ids.columns[texts.size()].count);
    for (std::size_t i = 0; i < known.size(); ++i) column[i] = fmt::format("{}", known[i]);
  }
  return texts;
}

// With the role that the server would ask the sequence as.
SequenceOfRole Session::sequence_of(const router::GivenIds::Column& column) const {
  pool::SettingsMap settings;
  for (const std::string_view name : {"role", "session_authorization"})
    if (const std::string_view sql = settings_.effective(name); !sql.empty()) settings.set(name, sql);
  std::uint32_t slot = 0;
  if (column.source == router::GivenIds::Source::made) slot = options_.database->ids().next_slot(column.slots);
  return {options_.identity,
          settings.empty() ? pool::no_settings()
                           : pool::interned(std::make_shared<const pool::SettingsMap>(std::move(settings))),
          column.sequence, slot, backend_ != nullptr || !others_.empty() || scatter_ != nullptr};
}

// The values for all columns are there, in giving_.numbers.
Session::Got Session::take_ids(const router::GivenIds& ids) {
  if (giving_.error) {
    if (in_transaction_) make_failed_current();
    refuse(*std::exchange(giving_.error, std::nullopt));
    return Got::refused;
  }
  // While it waited for a connection the statement may have been planned anew, by another catalog.
  const auto fits = [](const router::GivenIds::Column& column, const IdSource::Numbers& numbers) {
    return column.is_asked() || column.count == numbers.size();
  };
  if (!std::ranges::equal(ids.columns | std::views::take(std::ssize(giving_.numbers)), giving_.numbers, fits))
    giving_.numbers.clear();
  if (giving_.numbers.size() == ids.columns.size()) return Got::ready;
  if (std::ranges::all_of(ids.columns, &router::GivenIds::Column::is_asked)) {
    for (const router::GivenIds::Column& column : ids.columns)
      if (!take_known(column)) return Got::refused;
    return Got::ready;
  }
  // What sets a sequence comes first.
  if ((giving_.sets_sequences || holds_tables_) && wait_for_replies() == Got::wait) return Got::wait;
  if (giving_.sets_sequences) options_.database->ids().forget();
  const bool of_sequence = std::ranges::any_of(
      ids.columns, [](const auto& column) { return column.source == router::GivenIds::Source::next; });
  if (of_sequence && holds_tables_ && in_transaction_) return ask_for_own_ids(ids);
  if (of_sequence && holds_tables_ && unit_open_) {
    refuse({sqlstate::feature_not_supported,
            "a sequence cannot be asked for numbers in a pipeline that has defined, emptied or locked tables",
            {},
            "send Sync before the INSERT, or BEGIN before the pipeline",
            0});
    return Got::refused;
  }
  while (giving_.numbers.size() < ids.columns.size()) {
    const router::GivenIds::Column& column = ids.columns[giving_.numbers.size()];
    if (column.is_asked()) {
      if (!take_known(column)) return Got::refused;
      continue;
    }
    wait_ = Wait::ids;
    auto numbers =
        options_.database->ids().take(sequence_of(column), column.count,
                                      [this, alive = alive_, asked = ++giving_.asked](Result<IdSource::Numbers> came) {
                                        if (*alive && !ending_ && asked == giving_.asked && wait_ == Wait::ids)
                                          ids_there(std::move(came));
                                      });
    if (!numbers) return Got::wait;
    stop_waiting();
    giving_.numbers.push_back(std::move(*numbers));
  }
  return Got::ready;
}

// lastval() and currval(). False: refused.
bool Session::take_known(const router::GivenIds::Column& column) {
  std::optional<std::int64_t> known = giving_.last;
  if (column.source == router::GivenIds::Source::current) {
    const auto found = giving_.current.find(column.sequence);
    if (found != giving_.current.end() && !found->second) {
      refuse({sqlstate::feature_not_supported,
              "currval() cannot be answered: the session may have asked a server for numbers since it was given one",
              {},
              "use INSERT … RETURNING, or ask right after the INSERT",
              0});
      return false;
    }
    known = found == giving_.current.end() ? std::nullopt : found->second;
  }
  giving_.numbers.push_back(known ? IdSource::Numbers{*known} : IdSource::Numbers{});
  return true;
}

void Giving::note(const router::GivenIds& ids) {
  for (std::size_t i = 0; i < ids.columns.size() && i < numbers.size(); ++i)
    if (!numbers[i].empty()) note(ids.columns[i], numbers[i].back());
}

void Giving::note(const router::GivenIds::Column& column, std::int64_t number) {
  if (column.source == router::GivenIds::Source::next) last = current[column.sequence] = number;
}

// The server answers from now on.
void Giving::forget(const router::PlannedStatement& sent) {
  const bool hinted = sent.plan.kind == parser::StatementKind::insert && sent.plan.hinted_shard.has_value();
  const bool any = sent.advances_sequences || sent.changes_hidden_state || sent.plan.effects.opaque_code || hinted;
  const std::vector<std::string>& own = sent.plan.own_sequences;
  if (any || !own.empty()) last.reset();
  for (auto& [sequence, number] : current)
    if (any || std::ranges::any_of(own, [&](const std::string& name) { return name.empty() || name == sequence; }))
      number.reset();
  if (sent.plan.command != "DISCARD SEQUENCES") return;
  last.reset();
  current.clear();
}

void Giving::drop() {
  numbers.clear();
  error.reset();
}

void Session::ids_there(Result<IdSource::Numbers> numbers) {
  if (numbers) {
    giving_.numbers.push_back(std::move(*numbers));
  } else {
    ++giving_.asked;
    giving_.error = numbers.error();
    giving_.error->position = 0;
  }
  continue_after_wait();
}

// The transaction holds tables, perhaps the sequence too: nobody else could ask that now, or see it.
Session::Got Session::ask_for_own_ids(const router::GivenIds& ids) {
  const ShardId shard = routing()->topology->default_shard().value_or(ShardId(0));
  if (const Got got = join_all({shard}); got != Got::ready) return got;
  std::vector<std::string> queries;
  for (const router::GivenIds::Column& column : ids.columns) {
    if (column.source != router::GivenIds::Source::next) {
      refuse({sqlstate::feature_not_supported,
              "an INSERT with ids of several kinds is not supported in a transaction that has defined, emptied or "
              "locked tables",
              {},
              "give the value itself",
              0});
      return Got::refused;
    }
    queries.push_back(
        fmt::format("SELECT pg_catalog.nextval({}::pg_catalog.regclass) FROM pg_catalog.generate_series(1, {})",
                    pool::quote_literal(column.sequence), column.count));
  }
  const std::vector<pool::Backend*> all = participants();
  const auto backend = std::ranges::find(all, shard, [](const pool::Backend* one) { return one->endpoint().shard; });
  if (backend == all.end()) {
    refuse({sqlstate::internal_error, "the default shard has not joined the transaction", {}, {}, 0});
    return Got::refused;
  }
  const auto done = [this](const Result<void>& result) { own_ids_there(result); };
  run_execution(std::make_unique<executor::Inquiry>(std::move(queries),
                                                    executor::Place{.lent = *backend, .lender = this},
                                                    options_.database->loop(), execution_events(done)));
  return Got::wait;
}

void Session::own_ids_there(const Result<void>& result) {
  std::vector<IdSource::Numbers> numbers;
  for (const executor::Inquiry::Rows& rows : static_cast<const executor::Inquiry&>(*scatter_).results()) {
    IdSource::Numbers& own = numbers.emplace_back();
    for (const pool::TextRows::Row& row : rows) {
      const std::string text = row.empty() ? "" : row.front().value_or("");
      std::from_chars(text.data(), text.data() + text.size(), own.emplace_back());
    }
  }
  take_execution();
  stop_waiting();
  if (lost_participant_) lose_transaction(*std::exchange(lost_participant_, std::nullopt));
  if (!result) return ids_there(std::unexpected(execution_error(result.error())));
  giving_.numbers = std::move(numbers);
  continue_after_wait();
}

// Its tables, and sequences that were set with them, are for all again.
void Session::let_tables_go() {
  if (std::exchange(holds_tables_, false)) options_.database->ids().forget();
}

}  // namespace tessera::proxy
