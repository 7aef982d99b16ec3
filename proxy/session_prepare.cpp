// SQL-level PREPARE, (EXPLAIN) EXECUTE and DEALLOCATE with several shards. PREPARE is checked by one shard and
// remembered; EXECUTE is routed by its arguments, and a shard that has not seen the statement is given it first. On the
// servers the statements have names of our own. A session that uses them keeps its connections.
#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include "parser/fingerprint.hpp"
#include "proxy/session.hpp"
#include "router/text.hpp"

namespace tessera::proxy {

using parser::Operand;
using parser::StatementKind;
using pool::Delivery;
using pool::ReplyKind;

namespace {

std::string_view text_of(const parser::Statement& statement, std::string_view sql) {
  return sql.substr(statement.span.begin, statement.span.end - statement.span.begin);
}

// The statement with its name replaced.
std::string renamed(const parser::Statement& statement, std::string_view sql, const std::string& name) {
  const parser::SourceSpan at = statement.prepared->name_span;
  return fmt::format("{}{}{}", sql.substr(statement.span.begin, at.begin - statement.span.begin), name,
                     sql.substr(at.end, statement.span.end - at.end));
}

constexpr router::TypeOid undecidable = 2278;  // void: no key has this type, so nothing is concluded from the value

// The types in PREPARE name (…). A type that can be no key's decides nothing; one that is not given is the server's to
// infer.
std::vector<router::TypeOid> types_of(const std::vector<std::string>& names) {
  constexpr router::TypeOid unknown = 705;
  std::vector<router::TypeOid> types;
  for (const std::string& name : names) {
    const router::TypeOid known = name == "unknown" ? unknown : router::type_oid_of(name);
    types.push_back(known == 0 ? undecidable : known);
  }
  return types;
}

// A plain literal as the text that the server would make of it; anything else decides nothing.
router::Values::Parameter parameter_of(const Operand& argument, std::string_view sql, router::TypeOid declared,
                                       std::string& text) {
  if (argument.kind == Operand::Kind::null) return {{}, true, false, declared};
  const bool boolean = argument.kind == Operand::Kind::boolean;
  if ((argument.kind != Operand::Kind::literal && !boolean) || !argument.cast.empty())
    return {{}, false, false, undecidable};
  const std::string_view token = sql.substr(argument.span.begin, argument.span.end - argument.span.begin);
  if (boolean) return {token.size() == 4 ? "true" : "false", false, false, declared};
  const bool quoted = token.starts_with('\'');
  if (quoted && !parser::decode_string(token, parser::LiteralKind::string, text))
    return {{}, false, false, undecidable};
  if (!quoted && token.find_first_not_of("0123456789") != std::string_view::npos)
    return {{}, false, false, undecidable};
  if (!quoted) {
    // 007 is the number 7, also where it becomes a text.
    const std::string_view digits = token.substr(std::min(token.find_first_not_of('0'), token.size() - 1));
    text = fmt::format("{}{}", argument.negative && digits != "0" ? "-" : "", digits);
  }
  return {text, false, false, declared};
}

}  // namespace

// PREPARE, EXECUTE or EXPLAIN EXECUTE.
bool Session::names_sql_prepared(const router::PlannedStatement& planned) {
  return planned.statement && planned.statement->prepared && planned.plan.kind != StatementKind::deallocate;
}

// PREPARE or EXECUTE as the only statement of a simple query. Nothing: it is neither, or not ours to handle.
std::optional<bool> Session::handle_sql_prepared(const router::PlannedText& text, std::string_view sql) {
  if (!multi_shard() || in_failed_transaction()) return {};
  if (!text.single()) {
    for (const router::PlannedStatement& planned : text.statements) {
      if (!names_sql_prepared(planned)) continue;
      refuse({sqlstate::feature_not_supported,
              fmt::format("{} cannot be sent together with other statements", planned.plan.command),
              {},
              "send it in a message of its own",
              0});
      return true;
    }
    return {};
  }
  const router::PlannedStatement& planned = text.statements.front();
  if (!planned.statement || !planned.statement->prepared) return {};
  const parser::Statement& statement = *planned.statement;
  if (statement.kind == StatementKind::prepare) return sql_prepare(statement, planned.plan, sql);
  if (statement.kind == StatementKind::execute || statement.kind == StatementKind::explain)
    return sql_execute(statement, sql);
  return {};
}

bool Session::sql_prepare(const parser::Statement& statement, const router::PlanTemplate& plan, std::string_view sql) {
  if (plan.refusal) {
    refuse(*plan.refusal);
    return true;
  }
  const std::string& name = statement.prepared->name;
  if (sql_prepared_.contains(name) || prepared_.contains(name)) {
    refuse({SqlState("42P05"), fmt::format("prepared statement \"{}\" already exists", name), {}, {}, 0});
    return true;
  }
  const std::string_view body =
      sql.substr(statement.prepared->body.begin, statement.prepared->body.end - statement.prepared->body.begin);
  parser::Fingerprint print;
  router::PlannedTextRef body_plan;
  options_.database->plan(body, view(), routing(), print, &body_plan);
  SqlPrepared prepared;
  prepared.server_name = fmt::format("tessera_sql_{}", next_sql_prepared_);
  prepared.prepare_sql = renamed(statement, sql, prepared.server_name);
  prepared.body = body;
  prepared.parse_settings = parse_settings(has_string_literals(print));
  prepared.types = types_of(statement.prepared->types);
  if (const std::optional<Error> problem = too_much_prepared(PreparedTable<SqlPrepared>::cost(name, prepared))) {
    refuse(*problem);
    return true;
  }
  const Got got = engage_for_statement(preparing_shard(*body_plan));
  if (got != Got::ready) return got == Got::refused;
  prepared.known_to.insert(backend_->id());
  std::uint32_t tag = 0;
  Undo& undo = undo_log_.add(unit_, tag);
  undo.sql_prepared = name;
  undo.renamed = renaming(statement, sql, prepared.server_name);
  pins_ |= pin_prepared;
  needs_reset_ = true;
  if (!postgres::append_query(backend_->out(), prepared.prepare_sql)) {
    refuse({sqlstate::program_limit_exceeded, "the statement is too long", {}, {}, 0});
    return true;
  }
  ++next_sql_prepared_;
  sql_prepared_.put(name, std::move(prepared));
  expect(ReplyKind::query, tag);
  unnamed_on_backend_ = false;
  return true;
}

bool Session::sql_execute(const parser::Statement& statement, std::string_view sql) {
  SqlPrepared* found = sql_prepared_.find(statement.prepared->name);
  if (found == nullptr) {
    refuse({SqlState("26000"),
            fmt::format("prepared statement \"{}\" does not exist", statement.prepared->name),
            {},
            prepared_.contains(statement.prepared->name)
                ? "it was prepared by the protocol's Parse: execute it by Bind and Execute"
                : "",
            0});
    return true;
  }
  SqlPrepared& prepared = *found;
  // The servers have read it under the settings of its PREPARE; we would read it under today's.
  if (const std::optional<Error> problem = unreadable(prepared.body)) {
    refuse(*problem);
    return true;
  }
  std::vector<std::string> texts(statement.prepared->arguments.size());
  std::vector<router::Values::Parameter> parameters;
  for (std::size_t i = 0; i < texts.size(); ++i)
    parameters.push_back(parameter_of(statement.prepared->arguments[i], sql,
                                      i < prepared.types.size() ? prepared.types[i] : 0, texts[i]));
  parser::Fingerprint print;
  router::PlannedTextRef plan;
  options_.database->plan(prepared.body, view(), routing(), print, &plan);
  if (plan->syntax_error) {
    refuse(*plan->syntax_error);
    return true;
  }
  const bool explains = statement.kind == StatementKind::explain;
  Result<Target> target = target_of(*plan, {prepared.body, print.slots, parameters, same_encoding()});
  if (target && target->scatter) {
    target = fail(sqlstate::feature_not_supported,
                  fmt::format("{} of a statement that concerns {} shards is not supported by this version",
                              explains ? "EXPLAIN EXECUTE" : "EXECUTE", target->spread.plan.shards.size()),
                  explains ? "EXPLAIN (TESSERA) of the statement itself tells its shards"
                           : "send the statement itself, or prepare it by the protocol");
  }
  if (!target) {
    refuse(target.error());
    return true;
  }
  const Got got = engage_for_statement(target->shard);
  if (got != Got::ready) return got == Got::refused;
  before_sending(*plan, prepared.body);
  if (!prepared.known_to.contains(backend_->id()) &&
      prepared.parse_settings != parse_settings(has_string_literals(print))) {
    refuse({sqlstate::feature_not_supported,
            "the statement was prepared under other settings for literals, and this shard does not know it yet",
            {},
            "prepare it again",
            0});
    return true;
  }
  std::uint32_t tag = 0;
  undo_log_.add(unit_, tag).renamed = renaming(statement, sql, prepared.server_name);
  if (prepared.known_to.insert(backend_->id()).second) {
    if (!postgres::append_query(backend_->out(), prepared.prepare_sql)) return true;
    std::uint32_t given = 0;
    Undo& undo = undo_log_.add(unit_, given);
    undo.sql_given = statement.prepared->name;
    undo.given_for = tag;
    const std::string& name = statement.prepared->name;  // a position is that in the client's PREPARE
    undo.renamed = Renamed{prepared.server_name, name, {{0, std::ssize(name) - std::ssize(prepared.server_name)}}};
    expect(ReplyKind::query, given, Delivery::ignore);
  }
  if (!postgres::append_query(backend_->out(), renamed(statement, sql, prepared.server_name))) {
    undo_log_.forget(tag);
    refuse({sqlstate::program_limit_exceeded, "the statement is too long", {}, {}, 0});
    return true;
  }
  note_text(text_of(statement, sql));
  expect(ReplyKind::query, tag);
  unnamed_on_backend_ = false;
  count(*plan, backend_->endpoint().shard);
  return true;
}

// ---- errors ---------------------------------------------------------------------------------------------------------

namespace {
std::string replaced(std::string_view text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  if (at == std::string_view::npos) return std::string(text);
  return fmt::format("{}{}{}", text.substr(0, at), to, text.substr(at + from.size()));
}
}  // namespace

Renamed Session::renaming(const parser::Statement& statement, std::string_view sql, const std::string& server_name) {
  const parser::SourceSpan at = statement.prepared->name_span;
  const std::size_t skipped = router::characters(sql.substr(0, statement.span.begin));
  const std::size_t head = router::characters(sql.substr(statement.span.begin, at.begin - statement.span.begin));
  const std::size_t name = router::characters(sql.substr(at.begin, at.end - at.begin));
  return {server_name,
          statement.prepared->name,
          {{0, static_cast<std::ptrdiff_t>(skipped)},
           {head, static_cast<std::ptrdiff_t>(skipped + name) - static_cast<std::ptrdiff_t>(server_name.size())}}};
}

// The server's error in the client's words: with its name for the statement, and the position in its text.
bool Session::relay_renamed(const postgres::ErrorFields& fields, const Renamed& sent) {
  const std::string message = replaced(fields.find_or(postgres::error_field::message, ""),
                                       fmt::format("\"{}\"", sent.server_name), fmt::format("\"{}\"", sent.name));
  const std::string_view told = fields.find_or(postgres::error_field::position, "");
  std::size_t position = 0;
  std::string moved(told);
  if (std::from_chars(told.data(), told.data() + told.size(), position).ec == std::errc() && position > 0)
    moved = fmt::format("{}", router::position_before(sent.moves, position));
  std::vector<postgres::ErrorField> rewritten;
  for (postgres::ErrorFields rest = fields; std::optional<postgres::ErrorField> field = rest.next();) {
    if (field->code == postgres::error_field::message) field->text = message;
    if (field->code == postgres::error_field::position) field->text = moved;
    rewritten.push_back(*field);
  }
  return postgres::append_error_fields(host_.stream().out(), postgres::backend::error_response, rewritten);
}

// A PREPARE has failed. If it was ours, the EXECUTE behind it can only say that there is no such statement.
void Session::sql_prepared_failed(std::uint32_t tag) {
  const Undo* const entry = undo_log_.find(tag);
  if (entry == nullptr || entry->sql_given.empty()) return;
  SqlPrepared* const prepared = sql_prepared_.find(entry->sql_given);
  if (prepared != nullptr && backend_ != nullptr) prepared->known_to.erase(backend_->id());
  if (Undo* const execute = undo_log_.find(entry->given_for)) execute->told = true;
}

}  // namespace tessera::proxy
