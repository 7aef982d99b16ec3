// The `options` start-up parameter: PostgreSQL runs it through getopt as if it stood on the server's command line.
#include <algorithm>
#include <fmt/format.h>

#include "wire/postgres/startup.hpp"

namespace tessera::postgres {

namespace {

// isspace in the C locale.
bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

std::unexpected<Error> bad_argument(std::string_view argument) {
  return fail(sqlstate::syntax_error, fmt::format("invalid command-line argument for server process: {}", argument),
              "Settings are given as -c name=value or --name=value.");
}

// "name=value"; in a name '-' means '_' (ParseLongOption).
Result<void> set_from(Settings& settings, std::string_view text, std::string_view prefix) {
  const std::size_t equals = text.find('=');
  std::string name(text.substr(0, equals));
  if (equals == std::string_view::npos) {
    return fail(sqlstate::syntax_error, fmt::format("{}{} requires a value", prefix, name));
  }
  std::ranges::replace(name, '-', '_');
  set_setting(settings, name, text.substr(equals + 1));
  return {};
}

struct PlannerSwitch {
  char letter;
  std::string_view setting;
};
constexpr PlannerSwitch planner_switches[] = {
    {'s', "enable_seqscan"}, {'i', "enable_indexscan"}, {'o', "enable_indexonlyscan"}, {'b', "enable_bitmapscan"},
    {'t', "enable_tidscan"}, {'n', "enable_nestloop"},  {'m', "enable_mergejoin"},     {'h', "enable_hashjoin"},
};

// Letters that are short for a setting and take no argument, and those that a server takes from a client and does not
// heed. (-P is heeded there: system indexes are not used. That changes no answer.) Others of the server's letters
// concern the whole server, or debugging, and a client that gives one is told so.
bool set_from_flag(Settings& settings, char letter) {
  switch (letter) {
    case 'b':
    case 'E':
    case 'j':
    case 'n':
    case 'P':
    case 'T':
      return true;
    case 'O':
      set_setting(settings, "allow_system_table_mods", "true");
      return true;
    case 'e':
      set_setting(settings, "datestyle", "euro");
      return true;
    case 's':
      set_setting(settings, "log_statement_stats", "true");
      return true;
    default:
      return false;
  }
}

// Letters with an argument, beside -c; of those without a setting as above (-W only delays the login).
bool set_from_letter(Settings& settings, char letter, std::string_view argument) {
  if (std::string_view("CDrvW").contains(letter)) return true;
  if (letter == 'S') {
    set_setting(settings, "work_mem", argument);
    return true;
  }
  if (letter != 'f') return false;
  const auto known = std::ranges::find(planner_switches, argument.front(), &PlannerSwitch::letter);
  if (known == std::end(planner_switches)) return false;
  set_setting(settings, known->setting, "false");
  return true;
}

class OptionParser {
public:
  explicit OptionParser(std::vector<std::string> arguments) : arguments_(std::move(arguments)) {}

  Result<Settings> parse() {
    if (arguments_.size() > 2 * max_startup_settings) {
      return fail(sqlstate::program_limit_exceeded, "too many settings in the options of the startup packet");
    }
    while (at_ < arguments_.size()) {
      if (auto done = parse_argument(arguments_[at_++]); !done) return std::unexpected(std::move(done.error()));
    }
    return std::move(settings_);
  }

private:
  Result<void> parse_argument(const std::string& argument) {
    if (argument.size() < 2 || argument[0] != '-') return bad_argument(argument);
    // A lone "--" ends the options; only what is no option could follow, and that is refused as well.
    if (argument == "--") return at_ == arguments_.size() ? Result<void>{} : bad_argument(arguments_[at_]);
    for (std::size_t i = 1; i < argument.size(); ++i) {
      const char letter = argument[i];
      if (set_from_flag(settings_, letter)) continue;
      // Everything else takes an argument: the rest of this word, or the next word.
      std::string_view value = std::string_view(argument).substr(i + 1);
      if (value.empty()) {
        if (at_ == arguments_.size()) return bad_argument(argument);
        value = arguments_[at_++];
      }
      if (letter == 'c') return set_from(settings_, value, "-c ");
      if (letter == '-') return set_from(settings_, value, "--");
      if (!set_from_letter(settings_, letter, value)) return bad_argument(argument);
      return {};
    }
    return {};
  }

  std::vector<std::string> arguments_;
  std::size_t at_ = 0;
  Settings settings_;
};

}  // namespace

std::vector<std::string> split_options(std::string_view options) {
  std::vector<std::string> words;
  std::size_t at = 0;
  while (true) {
    while (at < options.size() && is_space(options[at])) ++at;
    if (at == options.size()) return words;
    std::string& word = words.emplace_back();
    for (bool escaped = false; at < options.size(); ++at) {
      const char c = options[at];
      if (!escaped && is_space(c)) break;
      escaped = !escaped && c == '\\';
      if (!escaped) word += c;
    }
  }
}

Result<Settings> parse_options(std::string_view options) {
  return OptionParser(split_options(options)).parse();
}

}  // namespace tessera::postgres
