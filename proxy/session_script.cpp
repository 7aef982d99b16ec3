// A simple query of several statements, which is one transaction unless it says otherwise. If all of them run on one
// shard, that gets the query as it is. If not, this is what a client could send instead: the statements one by one,
// each planned when those before it have run (they may define what it names), in a transaction that is not told of.
#include <algorithm>
#include <fmt/format.h>

#include "parser/postgres/parse.hpp"
#include "proxy/session.hpp"
#include "router/rewrite.hpp"
#include "router/text.hpp"

namespace tessera::proxy {

using parser::Statement;
using parser::StatementKind;
using postgres::TransactionStatus;

namespace {

// Behind the text of those before it, as long as that is not long, so that places in errors are those in the whole.
std::string step_of(std::string_view sql, parser::SourceSpan span) {
  constexpr std::uint32_t longest = 16 * 1024;
  const std::string_view text = router::text_of(sql, span);
  if (span.begin > longest) return std::string(text);
  return std::string(router::characters(sql.substr(0, span.begin)), ' ').append(text);
}

bool ends(StatementKind kind) {
  return kind == StatementKind::commit || kind == StatementKind::rollback;
}

bool is_delicate(std::string_view text) {
  return std::ranges::any_of(text, [](char c) { return c == '\\' || static_cast<unsigned char>(c) > 127; });
}

// What asks for a transaction that the client has begun.
bool needs_block(StatementKind kind) {
  return kind == StatementKind::savepoint || kind == StatementKind::release_savepoint ||
         kind == StatementKind::rollback_to_savepoint;
}

}  // namespace

bool Session::needs_script(const router::PlannedText& text, const router::Values& values) {
  if (text.single() || text.syntax_error || !multi_shard() || in_failed_transaction() || lazy_.failed()) return false;
  if (options_.mode == config::PoolMode::statement) return false;
  const auto given = [](const router::PlannedStatement& planned) { return planned.plan.ids.has_value(); };
  if (std::ranges::any_of(text.statements, given)) return true;
  return mixed_refusal(text) || !target_of(text, values) || !changes_of(text, values);
}

void Session::start_script(std::string_view sql) {
  const auto parsed = WorkerDatabase::parsed_for_several(sql, view());
  if (!parsed) return refuse(parsed.error());
  if (const auto problem = script_refusal(*parsed, sql)) return refuse(*problem);
  script_ = std::make_unique<Script>();
  for (const Statement& statement : *parsed) script_->steps.push_back({step_of(sql, statement.span), statement.kind});
}

// One server reads the whole text under the settings that it came under.
bool Session::changes_reading(const Statement& statement, std::string_view sql) const {
  const bool sets =
      statement.setting && (statement.kind == StatementKind::set || statement.kind == StatementKind::reset);
  const std::string text = router::lower(router::text_of(sql, statement.span));
  if (!sets)
    return text.contains("set_config") &&
           (text.contains("client_encoding") || text.contains("standard_conforming_strings"));
  const std::string& name = statement.setting->name;
  if (name == "all") return true;
  if (name != "client_encoding" && name != "standard_conforming_strings") return false;
  const bool one = statement.kind == StatementKind::set && statement.setting->values.size() == 1;
  return !one || !router::equal_ignoring_case(statement.setting->values.front(), parameter(name));
}

// Statements that are in a transaction without a BEGIN, and others that ask for one or end it.
std::optional<Error> Session::script_refusal(const std::vector<Statement>& statements, std::string_view sql) const {
  bool implicit = false;
  bool in_transaction = in_transaction_ || !lazy_.none();
  for (const Statement& statement : statements) {
    if (changes_reading(statement, sql) && is_delicate(sql.substr(statement.span.end)))
      return Error{sqlstate::feature_not_supported,
                   "what follows has characters that the setting would change the meaning of, and one server has read "
                   "them by then",
                   {},
                   "send the setting in a message of its own",
                   router::position_of(sql, statement.span.begin)};
    const bool begins = statement.kind == StatementKind::begin;
    if (implicit && (begins || ends(statement.kind) || needs_block(statement.kind)))
      return Error{sqlstate::feature_not_supported,
                   fmt::format("{} behind statements over several shards that stand before BEGIN is not supported",
                               statement.command),
                   {},
                   "begin with BEGIN, or send it in a message of its own",
                   0};
    if (begins)
      in_transaction = true;
    else if (ends(statement.kind))
      in_transaction = statement.transaction && statement.transaction->chain;
    else if (!in_transaction)
      implicit = true;
  }
  return {};
}

// The next statement, when the one before it is answered. False: something must be waited for.
bool Session::run_script() {
  if (wait_for_copy() || wait_for_replies() == Got::wait) return false;
  if (lazy_.failed()) script_->failed = true;
  if (script_->failed || script_->next == script_->steps.size()) return end_script();
  const Script::Step& step = script_->steps[script_->next];
  if (awaited_reading_ != 0 && lazy_.none() && no_server_works() && wait_for_catalog()) return false;
  if (lazy_.none() && !in_transaction_ && step.kind != StatementKind::begin && !ends(step.kind)) {
    lazy_.begin("BEGIN", parameters_);
    settings_.begin();
    script_->implicit = true;
  }
  std::string message;
  if (!postgres::append_query(message, step.sql)) {
    refuse({sqlstate::program_limit_exceeded, "the statement is too long", {}, {}, 0});
    return true;
  }
  if (!handle(postgres::frontend::query, message)) return false;
  ++script_->next;
  return true;
}

// Its own transaction ends as that of a unit of messages does.
bool Session::end_script() {
  const bool own = script_->implicit && (in_transaction_ || !lazy_.none());
  if (own && rest() == Got::wait) return false;
  const bool failed = std::exchange(script_, nullptr)->failed;
  std::string& out = host_.stream().out();
  if (own && lazy_.open() && !in_transaction_ && !spans()) {
    out += end_lazy(!failed, false);
  } else if (own) {
    autocommit_ = autocommit_until_sync_ = true;
    skip_local_ = failed && !lazy_.owes_error();
    return sync_autocommit();
  } else if (lazy_.owes_error()) {
    postgres::append_error(out, failed_transaction_error());
  }
  append_ready(out, in_transaction_ && backend_ != nullptr ? backend_->transaction_status() : local_status());
  request_ended();
  return true;
}

// ReadyForQuery, when the client's message is answered as a whole.
void Session::append_ready(std::string& out, TransactionStatus status) const {
  if (!script_) postgres::append_ready_for_query(out, status);
}

}  // namespace tessera::proxy
