// The session's settings: what SET and RESET make of them, and what of them planning depends on.
#include <algorithm>
#include <fmt/format.h>

#include "parser/lexer.hpp"
#include "parser/postgres/parse.hpp"
#include "proxy/session.hpp"

namespace tessera::proxy {

using parser::Statement;

namespace {
std::string_view text_of(const Statement& statement, std::string_view sql) {
  return sql.substr(statement.span.begin, statement.span.end - statement.span.begin);
}

// A SET that means the same on a connection where another session has turned standard_conforming_strings off: all that
// is replayed there is read as one text, before the first of it is done. Strings 'a\b' become E'a\\b'.
std::string replayable(std::string_view sql) {
  if (!sql.contains('\\')) return std::string(sql);
  std::string text;
  std::size_t copied = 0;
  parser::TokenKind before = parser::TokenKind::end;  // a literal may go on on the next line
  parser::Lexer lexer(sql, {});
  for (parser::Token token = lexer.next(); token.kind != parser::TokenKind::end; token = lexer.next()) {
    if (token.kind == parser::TokenKind::bad) return std::string(sql);
    if (token.kind == parser::TokenKind::string) {
      if (before == parser::TokenKind::escape_string) return std::string(sql);  // E'…' to its end, everywhere
      text += sql.substr(copied, token.begin - copied);
      if (before != parser::TokenKind::string) text += " E";
      for (const char c : sql.substr(token.begin, token.end - token.begin)) text.append(c == '\\' ? 2 : 1, c);
      copied = token.end;
    }
    before = token.kind;
  }
  return text.append(sql.substr(copied));
}
}  // namespace

void Session::apply_set(const Statement& statement, std::string_view sql) {
  if (!statement.setting) return;
  const std::string& name = statement.setting->name;
  const std::string text(text_of(statement, sql));
  if (statement.setting->local) return settings_.set_local(name, statement.setting->to_default ? "" : text);
  if (statement.setting->to_default) return reset_setting(name);
  defaulted_.erase(name);
  settings_.set(name, replayable(text));
  if (name == "session_authorization") settings_.reset("role");
}

void Session::apply_change(const SettingChange& change) {
  const std::string sql = change.value ? pool::set_config_sql(change.name, *change.value) : std::string();
  if (change.local) return settings_.set_local(change.name, sql);
  if (!change.value) return reset_setting(change.name);
  defaulted_.erase(change.name);
  settings_.set(change.name, sql);
  if (change.name == "session_authorization") settings_.reset("role");
}

// SET SESSION CHARACTERISTICS AS TRANSACTION …: three settings by other names.
void Session::set_characteristics(const Statement& statement) {
  if (!is_for_session(statement) || !statement.transaction) return;
  std::string options = statement.transaction->options;
  for (char& c : options)
    c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c == ',' || c == '\t' || c == '\n' || c == '\r' ? ' ' : c);
  std::vector<std::string> words;
  for (std::size_t at = 0; at < options.size();) {
    const std::size_t end = std::min(options.find(' ', at), options.size());
    if (end > at) words.push_back(options.substr(at, end - at));
    at = end + 1;
  }
  const auto set = [&](const std::string& name, std::string_view value) {
    settings_.set(name, fmt::format("SET {} TO '{}'", name, value));
  };
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view next = i + 1 < words.size() ? std::string_view(words[i + 1]) : std::string_view();
    if (words[i] == "serializable") set("default_transaction_isolation", "serializable");
    if (words[i] == "repeatable") set("default_transaction_isolation", "repeatable read");
    if (words[i] == "read" && (next == "committed" || next == "uncommitted"))
      set("default_transaction_isolation", fmt::format("read {}", next));
    if (words[i] == "read" && (next == "only" || next == "write"))
      set("default_transaction_read_only", next == "only" ? "on" : "off");
    if (words[i] == "deferrable") set("default_transaction_deferrable", i > 0 && words[i - 1] == "not" ? "off" : "on");
  }
}

// The server's RESET goes back to the server's own value, not to the one that the client asked for when it connected;
// this is put right before the next statement outside of a transaction.
void Session::reset_setting(const std::string& name) {
  for (const auto& entry : *options_.startup_settings)
    if (name == "all" || name == entry.first) defaulted_.insert(entry.first);
  if (name == "all")
    settings_.reset_all();
  else
    settings_.reset(name);
}

void Session::settings_changed() {
  view_stale_ = true;
  pool::Settings actual = settings_.current();
  if (!defaulted_.empty()) {
    auto without = std::make_shared<pool::SettingsMap>(*actual);
    for (const std::string& name : defaulted_) without->erase(name);
    actual = std::move(without);
  }
  if (backend_ != nullptr) backend_->note_settings(actual);
  for (pool::Backend* other : others_) other->note_settings(actual);
}

// ---- what planning depends on ---------------------------------------------------------------------------------------

std::vector<std::string> Session::search_path() const {
  const std::string_view sql = settings_.effective("search_path");
  const auto* then = options_.startup_settings->find("search_path");
  const bool asked_at_start = then != nullptr && then->second == sql;
  std::vector<std::string> path;
  if (sql.empty() || asked_at_start)
    path = split_search_path(greeting_ ? greeting_->search_path : std::string());
  else
    path = values_set_by(std::string(sql)).value_or(std::vector<std::string>{});
  std::ranges::replace(path, std::string("$user"), current_role());
  return path;
}

// As whom the servers see us: current_user.
std::string Session::current_role() const {
  for (const std::string_view name : {"role", "session_authorization"}) {
    const std::string_view sql = settings_.effective(name);
    if (sql.empty()) continue;
    const std::vector<std::string> values = values_set_by(std::string(sql)).value_or(std::vector<std::string>{});
    if (!values.empty() && values.front() != "none") return values.front();
  }
  return options_.identity->user;
}

// What the meaning of a statement depends on when the server parses it.
std::string Session::parse_settings(bool literals) const {
  std::string text;
  for (const std::string_view name : settings_of_parsing) {
    if (!literals && name != "transform_null_equals") continue;
    const std::string_view sql = settings_.effective(name);
    if (!sql.empty()) text.append(name).append(1, '=').append(sql).append(1, '\n');
  }
  return text;
}

// What decides which columns a statement's names are, and of which types: settings, and the tables as they are.
std::string Session::name_settings() const {
  std::string text = routing_ ? routing_->catalog->digest : std::string();
  for (const std::string_view name : {"search_path", "role", "session_authorization"})
    if (const std::string_view sql = settings_.effective(name); !sql.empty())
      text.append(name).append(1, '=').append(sql).append(1, '\n');
  for (const auto& [name, until] : settings_.temporary()) text.append("temporary ").append(name).append(1, '\n');
  return text;
}

// The statement as this connection holds it, or will when it has read it: under what is set now, whatever was set when
// the client prepared it. Those who have prepared the same text under other settings must not meet that.
pool::PreparedTextRef Session::text_here(const PreparedStatement& statement) const {
  const pool::PreparedTextRef& text = statement.text;
  if (!text || backend_->prepared().knows(text->server_name)) return text;
  return options_.database->intern(text->sql, text->types, parse_settings(statement.literals), name_settings());
}

// The server reads a prepared statement's literals once. One that it does not hold yet would be read anew, under other
// settings than when the client prepared it.
std::optional<Error> Session::parsed_otherwise(const PreparedStatement& statement) const {
  if (!statement.text || backend_->prepared().knows(statement.text->server_name) ||
      statement.text->parse_settings == parse_settings(statement.literals))
    return {};
  return Error{sqlstate::feature_not_supported,
               "the statement was prepared under other settings for literals (DateStyle, TimeZone, …)",
               {},
               "prepare it again",
               0};
}

// What the server reports of a parameter, as the client knows it.
std::string_view Session::parameter(std::string_view name) const {
  if (const auto* changed = parameters_.find(name)) return changed->second;
  if (!greeting_) return {};
  const auto greeted = greeting_->parameters.find(name);
  return greeted == greeting_->parameters.end() ? std::string_view() : std::string_view(greeted->second);
}

bool Session::standard_conforming_strings() const {
  return parameter("standard_conforming_strings") != "off";
}

namespace {
bool is_unsafe(std::string_view encoding) {
  static constexpr std::string_view unsafe[] = {"SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004"};
  return std::find(std::begin(unsafe), std::end(unsafe), encoding) != std::end(unsafe);
}
}  // namespace

const Encodings& Session::encodings() const {
  if (!encodings_) {
    const std::string_view client = parameter("client_encoding");
    encodings_ = Encodings{client == parameter("server_encoding"), is_unsafe(client)};
  }
  return *encodings_;
}

// Could the server see other strings in the text, and so other statements, than our grammar?
bool Session::may_be_misread(std::string_view sql) const {
  if (!view_.lexer.standard_conforming_strings && sql.contains('\\')) return true;
  return encodings().unsafe && std::ranges::any_of(sql, [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

// Texts whose meaning our grammar could get wrong. One shard needs no understanding.
std::optional<Error> Session::unreadable(std::string_view sql) const {
  if (!multi_shard()) return {};
  if (options_.database->routing_problem()) return options_.database->routing_problem();
  if (!view_.lexer.standard_conforming_strings && sql.contains('\\'))
    return Error{sqlstate::feature_not_supported,
                 "statements with backslashes cannot be routed while standard_conforming_strings is off",
                 {},
                 "SET standard_conforming_strings = on, or pass the texts as parameters",
                 0};
  if (!may_be_misread(sql)) return {};
  return Error{
      sqlstate::feature_not_supported,
      fmt::format("statements that are not ASCII cannot be routed in client_encoding {}", parameter("client_encoding")),
      "a byte of a character may look like a quote or a backslash",
      "pass such texts as parameters, or SET client_encoding = UTF8", 0};
}

}  // namespace tessera::proxy
