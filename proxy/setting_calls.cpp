#include "proxy/setting_calls.hpp"

#include <algorithm>

#include "parser/fingerprint.hpp"
#include "parser/lexer.hpp"
#include "parser/postgres/parse.hpp"
#include "pool/settings.hpp"
#include "router/text.hpp"

namespace tessera::proxy {

using parser::Operand;
using parser::StatementKind;
using router::lower;

const std::vector<std::string_view> settings_of_parsing = {"array_nulls",
                                                           "backslash_quote",
                                                           "datestyle",
                                                           "intervalstyle",
                                                           "lc_monetary",
                                                           "lc_numeric",
                                                           "lc_time",
                                                           "timezone",
                                                           "timezone_abbreviations",
                                                           "standard_conforming_strings",
                                                           "transform_null_equals",
                                                           "xmlbinary",
                                                           "xmloption"};

namespace {

std::string_view text_of(const Operand& operand, std::string_view sql) {
  return sql.substr(operand.span.begin, operand.span.end - operand.span.begin);
}

// A string literal's value; E'…' and the like are not read here.
std::optional<std::string> string_of(const Operand& operand, std::string_view sql) {
  if (operand.kind != Operand::Kind::literal || !(operand.cast.empty() || operand.cast == "text")) return {};
  std::string value;
  const std::string_view token = text_of(operand, sql);
  if (!token.starts_with('\'') || !parser::decode_string(token, parser::LiteralKind::string, value)) return {};
  return value;
}

std::optional<bool> boolean_of(const Operand& operand, std::string_view sql) {
  const std::string word = lower(string_of(operand, sql).value_or(std::string(text_of(operand, sql))));
  if (word == "true" || word == "t") return true;
  if (word == "false" || word == "f") return false;
  return {};
}

bool is_set_config(const parser::FunctionCall& call) {
  return call.name == "set_config" && (call.schema.empty() || call.schema == "pg_catalog");
}

// SELECT set_config(name, …) FROM pg_settings WHERE name = 'this one': of a setting that a server may not have, as
// pg_dump says it. The name, wherever the call is made.
std::optional<std::string> name_asked_for(const parser::Block& block, std::string_view sql) {
  if (block.functions.size() != 1 || !block.clauses.from || !block.clauses.where) return {};
  const parser::SourceSpan& call = block.functions.front().span;
  const auto tokens = [sql](std::uint32_t begin, std::uint32_t end) {
    std::vector<std::string> texts;
    const std::string_view part = sql.substr(begin, end - begin);
    parser::Lexer lexer(part, {});
    for (parser::Token token = lexer.next(); token.kind != parser::TokenKind::end; token = lexer.next()) {
      const std::string_view text = part.substr(token.begin, token.end - token.begin);
      texts.push_back(token.kind == parser::TokenKind::word ? lower(text) : std::string(text));
    }
    return texts;
  };
  const std::vector<std::string> words = tokens(call.begin, call.end);
  const auto open = std::ranges::find(words, "(");
  if (words.end() - open < 3 || open[1] != "name" || open[2] != ",") return {};
  std::vector<std::string> rest = tokens(call.end, block.span.end);
  std::string name;
  if (rest.empty() || !parser::decode_string(rest.back(), parser::LiteralKind::string, name)) return {};
  rest.pop_back();
  if (rest.size() > 2 && rest[1] == "pg_catalog" && rest[2] == ".") rest.erase(rest.begin() + 1, rest.begin() + 3);
  if (rest != std::vector<std::string>{"from", "pg_settings", "where", "name", "="}) return {};
  return name;
}

}  // namespace

bool calls_set_config(const parser::Statement& statement) {
  return std::ranges::any_of(statement.blocks, [](const parser::Block& block) {
    return std::ranges::any_of(block.functions,
                               [](const parser::FunctionCall& call) { return call.name == "set_config"; });
  });
}

std::optional<std::vector<router::SettingCall>> setting_calls(const parser::Statement& statement,
                                                              std::string_view sql) {
  // Each call must be made once, whatever the data; or not at all, if there is no such setting.
  if (statement.kind != StatementKind::select || statement.blocks.size() != 1) return {};
  const parser::Block& block = statement.blocks.front();
  const std::optional<std::string> asked_for = name_asked_for(block, sql);
  if (!asked_for && (block.clauses.from || block.clauses.where || block.clauses.having || block.clauses.limit ||
                     block.clauses.offset || block.values || block.clauses.group_by))
    return {};
  std::vector<router::SettingCall> calls;
  for (const parser::FunctionCall& call : block.functions) {
    if (!is_set_config(call)) return {};
    if (call.arguments.size() != 3) return {};
    const std::optional<std::string> name = asked_for ? asked_for : string_of(call.arguments[0], sql);
    const std::optional<bool> local = boolean_of(call.arguments[2], sql);
    const Operand::Kind value = call.arguments[1].kind;
    const bool plain = value == Operand::Kind::parameter || value == Operand::Kind::null ||
                       string_of(call.arguments[1], sql).has_value();
    if (!name || !local || !plain) return {};
    calls.push_back({lower(*name), call.arguments[1], *local});
  }
  // CASE, AND, OR may leave a call out.
  if (calls.size() != block.targets.size()) return {};
  for (std::size_t i = 0; i < calls.size(); ++i)
    if (block.targets[i].span != block.functions[i].span) return {};
  return calls;
}

std::optional<std::vector<SettingChange>> resolve(const std::vector<router::SettingCall>& calls,
                                                  const router::Values& values) {
  std::vector<SettingChange> changes;
  for (const router::SettingCall& call : calls) {
    SettingChange change{call.name, {}, call.local};
    if (call.value.kind == Operand::Kind::parameter) {
      const auto index = static_cast<std::size_t>(call.value.parameter - 1);
      if (index >= values.parameters.size()) return {};
      if (!values.parameters[index].null) change.value = std::string(values.parameters[index].bytes);
    } else if (call.value.kind == Operand::Kind::literal) {
      change.value = string_of(call.value, values.sql);
      if (!change.value) return {};
    }
    changes.push_back(std::move(change));
  }
  return changes;
}

std::optional<std::vector<std::string>> values_set_by(const std::string& sql) {
  const Result<std::vector<parser::Statement>> parsed = parser::postgres::parse(sql);
  if (!parsed || parsed->size() != 1) return {};
  const parser::Statement& statement = parsed->front();
  if (statement.setting) return statement.setting->values;
  if (statement.blocks.size() != 1 || statement.blocks.front().functions.size() != 1) return {};
  const parser::FunctionCall& call = statement.blocks.front().functions.front();
  if (!is_set_config(call) || call.arguments.size() != 3) return {};
  std::string value;
  const std::string_view token = text_of(call.arguments[1], sql);
  const auto kind = token.starts_with('E') ? parser::LiteralKind::escape_string : parser::LiteralKind::string;
  if (!parser::decode_string(token, kind, value)) return {};
  return split_search_path(value);
}

std::vector<std::string> split_search_path(std::string_view text) {
  std::vector<std::string> path;
  for (std::size_t at = 0; at <= text.size();) {
    while (at < text.size() && (text[at] == ' ' || text[at] == ',')) ++at;
    if (at >= text.size()) break;
    std::string name;
    if (text[at] == '"') {
      for (++at; at < text.size(); ++at) {
        if (text[at] == '"' && (at + 1 >= text.size() || text[++at] != '"')) break;
        name += text[at];
      }
    } else {
      const std::size_t end = std::min(text.find_first_of(", ", at), text.size());
      name = lower(text.substr(at, end - at));
      at = end;
    }
    if (!name.empty()) path.push_back(std::move(name));
  }
  return path;
}

bool has_string_literals(const parser::Fingerprint& print) {
  return !print.exact || std::ranges::any_of(print.slots, [](const parser::Slot& slot) {
    return slot.kind != parser::LiteralKind::integer && slot.kind != parser::LiteralKind::numeric;
  });
}

bool changes_planning(std::string_view setting) {
  constexpr std::string_view names[] = {"all", "search_path", "role", "session_authorization",
                                        "standard_conforming_strings"};
  return std::ranges::find(names, setting) != std::end(names) || pool::is_ours(setting);
}

}  // namespace tessera::proxy
