#include "proxy/console_commands.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <optional>
#include <vector>

#include "proxy/console_views.hpp"

namespace tessera::proxy {

namespace {

constexpr std::string_view blanks = " \t\r\n";

bool is_blank(char c) {
  return blanks.find(c) != std::string_view::npos;
}

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  return out;
}

// Words, names in double quotes as one (with "" for a quote in them). Nothing: a quote is not closed.
std::optional<std::vector<std::string>> split(std::string_view sql) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < sql.size();) {
    if (is_blank(sql[at])) {
      ++at;
      continue;
    }
    std::string word;
    if (sql[at] == '"') {
      for (++at;; ++at) {
        if (at >= sql.size()) return {};
        if (sql[at] == '"' && (at + 1 >= sql.size() || sql[at + 1] != '"')) break;
        if (sql[at] == '"') ++at;
        word += sql[at];
      }
      ++at;
    } else {
      while (at < sql.size() && !is_blank(sql[at]) && sql[at] != '"') word += sql[at++];
    }
    words.push_back(std::move(word));
  }
  return words;
}

std::string_view trimmed(std::string_view sql) {
  while (!sql.empty() && (is_blank(sql.back()) || sql.back() == ';' || sql.back() == '\0')) sql.remove_suffix(1);
  while (!sql.empty() && is_blank(sql.front())) sql.remove_prefix(1);
  return sql;
}

// "tessera.shards" and "TESSERA  SHARDS" name the same view.
std::string view_name(const std::vector<std::string>& words) {
  std::string name;
  for (std::size_t i = 1; i < words.size(); ++i) name += (i > 1 ? " " : "") + upper(words[i]);
  if (name.starts_with("TESSERA.")) name[7] = ' ';
  return name;
}

}  // namespace

Result<ConsoleCommand> parse_console_command(std::string_view sql) {
  using Verb = ConsoleCommand::Verb;
  const std::string_view text = trimmed(sql);
  const auto unknown = [&] {
    return fail(sqlstate::syntax_error, fmt::format("unknown console command \"{}\"", text.substr(0, 200)),
                "SHOW HELP lists the commands");
  };
  if (text.empty()) return ConsoleCommand{};
  const std::optional<std::vector<std::string>> words = split(text);
  if (!words) return fail(sqlstate::syntax_error, "a quoted name does not end");
  const std::string verb = upper(words->front());
  if (verb == "SHOW" && words->size() > 1) return ConsoleCommand{Verb::show, view_name(*words)};
  static constexpr std::pair<std::string_view, Verb> with_database[] = {
      {"PAUSE", Verb::pause}, {"RESUME", Verb::resume}, {"RECONNECT", Verb::reconnect}};
  for (const auto& [name, meaning] : with_database)
    if (verb == name && words->size() <= 2)
      return ConsoleCommand{meaning, words->size() == 2 ? words->back() : std::string()};
  if (verb == "RELOAD" && words->size() == 1) return ConsoleCommand{Verb::reload, {}};
  if (verb == "SHUTDOWN") return ConsoleCommand{Verb::shutdown, {}};
  return unknown();
}

std::string console_help() {
  return fmt::format("SHOW {}\nPAUSE [database]\nRESUME [database]\nRECONNECT [database]\nRELOAD",
                     fmt::join(console_view_names(), " | "));
}

}  // namespace tessera::proxy
