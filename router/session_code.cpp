#include "router/session_code.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "parser/lexer.hpp"
#include "router/contains.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

using parser::TokenKind;
using namespace std::string_view_literals;

// What stands for text that is known only when the code runs: a name.
constexpr std::string_view unknown_name = "\"%\"";
constexpr int max_depth = 4;  // of code in strings of code

constexpr auto session_locks = std::to_array<std::string_view>(
    {"pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared"});
constexpr auto runners = std::to_array<std::string_view>(
    {"query_to_xml", "cursor_to_xml", "dblink", "crosstab", "connectby", "ts_stat", "ts_rewrite"});
// Of PL/pgSQL, what a statement stands behind.
constexpr auto openers = std::to_array<std::string_view>({"begin", "then", "else", "loop"});
constexpr auto commands = std::to_array<std::string_view>({"set", "reset", "listen", "unlisten", "load", "prepare"});

bool is_text(TokenKind kind) {
  return kind == TokenKind::string || kind == TokenKind::escape_string || kind == TokenKind::dollar_string;
}

// The text that format() makes, with names for its placeholders: %I, %1$s, %-10L; %% is a percent sign.
std::string formatted(std::string_view format) {
  std::string made;
  while (!format.empty()) {
    const char c = format.front();
    format.remove_prefix(1);
    if (c != '%') {
      made.push_back(c);
    } else if (format.starts_with('%')) {
      made.push_back('%');
      format.remove_prefix(1);
    } else {
      made += unknown_name;
      format.remove_prefix(std::min(format.find_first_not_of("0123456789$*-"), format.size()));
      if (!format.empty()) format.remove_prefix(1);
    }
  }
  return made;
}

class CodeReader {
public:
  CodeReader(std::string_view source, const Mention& mention, int depth)
      : source_(source), mention_(mention), depth_(depth) {
    parser::Lexer lexer(source, {});
    do tokens_.push_back(lexer.next());
    while (tokens_.back().kind != TokenKind::end && tokens_.back().kind != TokenKind::bad);
  }

  // Reads on when it has found something: the names count for those who judge by them.
  bool changes_session() {
    bool found = tokens_.back().kind == TokenKind::bad;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      const TokenKind kind = tokens_[i].kind;
      if (kind == TokenKind::unicode_identifier) found = true;
      if (kind != TokenKind::word && kind != TokenKind::quoted_identifier) continue;
      std::string_view written = text(i);
      if (kind == TokenKind::quoted_identifier) written = written.substr(1, written.size() - 2);
      name_.resize(written.size());
      std::ranges::transform(written, name_.begin(), to_lower);
      const bool called = is(i + 1, "(") || (i > 0 && is(i - 1, "."));
      mention_(name_, called);
      found = names_session_state(i, called) || (kind == TokenKind::word && is_session_command(i)) || found;
    }
    return found;
  }

private:
  std::string_view text(std::size_t i) const {
    return source_.substr(tokens_[i].begin, tokens_[i].end - tokens_[i].begin);
  }
  bool is(std::size_t i, std::string_view what) const { return i < tokens_.size() && text(i) == what; }
  bool is_word(std::size_t i, std::string_view word) const {
    return i < tokens_.size() && tokens_[i].kind == TokenKind::word && equal_ignoring_case(text(i), word);
  }
  template <typename Words>
  bool is_any(std::size_t i, const Words& words) const {
    return std::ranges::any_of(words, [&](std::string_view word) { return is_word(i, word); });
  }

  // name_, which may stand in quotes.
  bool names_session_state(std::size_t i, bool called) const {
    if (name_ == "%") return is_unknown_code(i);
    if (name_ == "set_config") return !is_for_transaction(i + 1);
    if (name_ == "pg_temp") return is(i + 1, ".");
    if (name_ == "pg_settings") {
      const std::size_t first = i >= 2 && is(i - 1, ".") ? i - 2 : i;
      return first > 0 && is_word(first - 1, "update");
    }
    return contains(session_locks, name_) || (called && runs_argument(name_));
  }

  // name_, which is not in quotes.
  bool is_session_command(std::size_t i) {
    if (name_ == "temp" || name_ == "temporary") return makes_temporary(i);
    if (name_ == "with") return is_word(i + 1, "hold");
    if (name_ == "execute") return executes(i + 1);
    if (name_ == "do") return runs_block(i + 1);
    if (!contains(commands, name_) || !starts_statement(i) || !has_object(i + 1)) return false;
    return name_ != "set" || !is_any(i + 1, std::array{"local"sv, "constraints"sv, "transaction"sv});
  }

  bool starts_statement(std::size_t i) const { return i == 0 || is(i - 1, ";") || is_any(i - 1, openers); }

  // Not a variable or column of that name: load := 1, CASE … THEN load ELSE …
  bool has_object(std::size_t i) const {
    const TokenKind kind = tokens_[i].kind;
    if (kind == TokenKind::word) return !is_any(i, std::array{"else"sv, "end"sv, "when"sv, "or"sv, "and"sv, "is"sv});
    return kind == TokenKind::quoted_identifier || kind == TokenKind::unicode_identifier || is_text(kind);
  }

  // Nothing is known of the command, or of the function that it calls.
  bool is_unknown_code(std::size_t i) const {
    if (starts_statement(i)) return true;
    if (!is(i + 1, "(")) return false;
    while (i >= 2 && is(i - 1, ".")) i -= 2;
    return i == 0 || !is_any(i - 1, std::array{"into"sv, "table"sv, "exists"sv, "on"sv, "references"sv, "of"sv, "as"sv,
                                               "view"sv, "only"sv});
  }

  // The token behind the bracket that closes the one at `open`.
  std::size_t behind(std::size_t open) const {
    int depth = 0;
    std::size_t i = open;
    for (; i < tokens_.size(); ++i) {
      if (is(i, "(")) ++depth;
      if (is(i, ")") && --depth == 0) return i + 1;
    }
    return i;
  }

  // set_config(…, true) and set_config(…, is_local => true).
  bool is_for_transaction(std::size_t open) const {
    if (!is(open, "(")) return false;
    const std::size_t last = behind(open) - 2;
    return is_word(last, "true") && (is(last - 1, ",") || is(last - 1, "=>") || is(last - 1, ":="));
  }

  // CREATE TEMP …, SELECT … INTO TEMP t; not: SELECT … INTO temp, where that is a variable.
  bool makes_temporary(std::size_t i) const {
    if (i == 0) return false;
    const bool into = is_word(i - 1, "into") && has_object(i + 1) && !is_word(i + 1, "from");
    if (!into && !is_any(i - 1, std::array{"create"sv, "replace"sv, "local"sv, "global"sv})) return false;
    for (; i + 2 < tokens_.size() && !is(i, ";"); ++i)
      if (is_word(i, "on") && is_word(i + 1, "commit") && is_word(i + 2, "drop")) return false;
    return true;
  }

  // DO 'code', DO LANGUAGE plpgsql 'code'.
  bool runs_block(std::size_t i) const {
    if (is_word(i, "language")) i += 2;
    std::string code;
    return i < tokens_.size() && is_text(tokens_[i].kind) && (!append_text(i, code) || judge(code));
  }

  // EXECUTE of strings and what quote_ident() and the like put between them; format() of such a string.
  bool executes(std::size_t i) const {
    if (is_any(i, std::array{"on"sv, "function"sv, "procedure"sv})) return false;  // GRANT, CREATE TRIGGER
    std::string code;
    bool any = false;
    while (i + 1 < tokens_.size() && !is(i, ";") && !is_any(i, std::array{"into"sv, "using"sv, "loop"sv})) {
      const bool formats = is_word(i, "format") && is(i + 1, "(") && (is(i + 3, ",") || is(i + 3, ")"));
      std::string part;
      if (is_text(tokens_[i].kind)) {
        if (!append_text(i, code)) return true;
        ++i;
      } else if (formats && is_text(tokens_[i + 2].kind) && append_text(i + 2, part)) {
        code += formatted(part);
        i = behind(i + 1);
      } else if (is(i + 1, "(") && is_any(i, std::array{"quote_ident"sv, "quote_literal"sv, "quote_nullable"sv})) {
        code += unknown_name;
        i = behind(i + 1);
      } else if (any && is(i, "||")) {
        ++i;
      } else {
        return true;
      }
      any = true;
    }
    return !any || judge(code);
  }

  bool append_text(std::size_t i, std::string& to) const {
    std::string value;
    if (!parser::decode_string(text(i), parser::literal_kind(tokens_[i].kind), value)) return false;
    to += value;
    return true;
  }

  bool judge(std::string_view code) const {
    return depth_ >= max_depth || CodeReader(code, mention_, depth_ + 1).changes_session();
  }

  std::string_view source_;
  const Mention& mention_;
  int depth_;
  std::vector<parser::Token> tokens_;  // the last is the end, or what cannot be read
  std::string name_;                   // of the token at hand, in lower case and without quotes
};

}  // namespace

bool runs_argument(std::string_view function) {
  return std::ranges::any_of(runners, [function](std::string_view runner) { return function.starts_with(runner); });
}

bool changes_session(std::string_view source, const Mention& mention) {
  return CodeReader(source, mention, 0).changes_session();
}

bool runs_session_code(std::string_view source, const Catalog& catalog) {
  bool calls = false;
  const bool itself = changes_session(source, [&](std::string_view name, bool called) {
    calls = calls || (called && catalog.is_session_function(name)) || catalog.is_session_view(name);
  });
  return itself || calls;
}

void find_session_code(std::span<const CodeSource> sources, Catalog& catalog) {
  // By name, those that mention it: of functions and of views.
  struct Node {
    std::vector<std::size_t> mentioned_by;
    bool changes = false;
  };
  std::unordered_map<std::string, Node> functions, views;
  const auto node_of = [&](const CodeSource& source) -> std::pair<const std::string, Node>& {
    return *(source.view ? views : functions).try_emplace(lower(source.name)).first;
  };
  for (const CodeSource& source : sources) node_of(source);
  std::vector<std::pair<const std::string, Node>*> found;
  const auto mark = [&found](std::pair<const std::string, Node>& node) {
    if (!std::exchange(node.second.changes, true)) found.push_back(&node);
  };
  std::string key;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const auto note = [&](std::unordered_map<std::string, Node>& nodes) {
      const auto named = nodes.find(key);
      if (named == nodes.end()) return;
      std::vector<std::size_t>& by = named->second.mentioned_by;
      if (by.empty() || by.back() != i) by.push_back(i);
    };
    const bool itself = changes_session(sources[i].text, [&](std::string_view name, bool called) {
      key = name;
      if (called) note(functions);
      note(views);
    });
    if (itself || !sources[i].readable) mark(node_of(sources[i]));
  }
  for (std::size_t done = 0; done < found.size(); ++done)
    for (const std::size_t by : found[done]->second.mentioned_by) mark(node_of(sources[by]));
  for (const auto& [name, node] : functions)
    if (node.changes) catalog.session_functions.insert(name);
  for (const auto& [name, node] : views)
    if (node.changes) catalog.session_views.insert(name);
}

}  // namespace tessera::router
