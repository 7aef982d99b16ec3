#include "router/sum_type.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "parser/lexer.hpp"
#include "router/contains.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

using parser::Token;
using parser::TokenKind;

// What arithmetic, or a choice, makes of two of these has the later one's type.
constexpr auto summed = std::to_array<TypeOid>({type_oid::int2, type_oid::int4, type_oid::int8, type_oid::numeric});
constexpr auto symbols = std::to_array<std::string_view>({"+", "-", "*", "/", "%", "(", ")", ","});
// They give what stands in them.
constexpr auto choices = std::to_array<std::string_view>({"coalesce", "greatest", "least", "abs"});
constexpr auto of_case = std::to_array<std::string_view>({"then", "else", "end", "null"});

TypeOid type_of_number(std::string_view written) {
  std::int64_t value = 0;
  const auto read = std::from_chars(written.data(), written.data() + written.size(), value);
  if (read.ec != std::errc() || read.ptr != written.data() + written.size()) return type_oid::numeric;
  return value <= INT32_MAX ? type_oid::int4 : type_oid::int8;
}

class Reader {
public:
  Reader(std::string_view text, const std::function<TypeOid(std::string_view, const std::string&)>& column)
      : text_(text), column_(column) {
    parser::Lexer lexer(text, {});
    for (Token token = lexer.next(); token.kind != TokenKind::end; token = lexer.next()) tokens_.push_back(token);
  }

  TypeOid type() {
    std::size_t widest = 0;
    bool any = false;
    for (std::size_t i = 0; i < tokens_.size();) {
      const std::string word = tokens_[i].kind == TokenKind::word ? lower(at(i)) : std::string();
      if (word == "case" || word == "when") {
        i = behind_condition(i);
      } else if (contains(symbols, at(i)) || contains(of_case, word) || (contains(choices, word) && at(i + 1) == "(")) {
        ++i;
      } else {
        const auto place = std::ranges::find(summed, operand(i));
        if (place == summed.end()) return 0;
        widest = std::max(widest, static_cast<std::size_t>(place - summed.begin()));
        any = true;
      }
    }
    return any ? summed[widest] : 0;
  }

private:
  std::string_view at(std::size_t i) const {
    return i < tokens_.size() ? text_.substr(tokens_[i].begin, tokens_[i].end - tokens_[i].begin) : std::string_view();
  }
  bool is_name(std::size_t i) const {
    return i < tokens_.size() &&
           (tokens_[i].kind == TokenKind::word || tokens_[i].kind == TokenKind::quoted_identifier);
  }
  std::string name(std::size_t i) const {
    return at(i).starts_with('"') ? std::string(at(i).substr(1, at(i).size() - 2)) : lower(at(i));
  }

  // THEN, which the condition's own CASE may have, too.
  std::size_t behind_condition(std::size_t i) const {
    int inner = 0;
    for (++i; i < tokens_.size(); ++i) {
      if (equal_ignoring_case(at(i), "case")) ++inner;
      if (equal_ignoring_case(at(i), "end")) --inner;
      if (inner == 0 && equal_ignoring_case(at(i), "then")) break;
    }
    return i;
  }

  TypeOid operand(std::size_t& i) const {
    const std::size_t first = i;
    TypeOid type = 0;
    if (is_name(first)) {
      const bool qualified = at(first + 1) == "." && is_name(first + 2);
      type = qualified ? column_(name(first), name(first + 2)) : column_({}, name(first));
      i += qualified ? 3 : 1;
    } else if (parser::is_number(tokens_[first].kind)) {
      type = type_of_number(at(first));
      ++i;
    }
    // A call, a field of a row, an array's element.
    return at(i) == "(" || at(i) == "." || at(i) == "[" ? 0 : type;
  }

  std::string_view text_;
  const std::function<TypeOid(std::string_view, const std::string&)>& column_;
  std::vector<Token> tokens_;
};

}  // namespace

TypeOid sum_type(std::string_view argument,
                 const std::function<TypeOid(std::string_view alias, const std::string& name)>& column) {
  return Reader(argument, column).type();
}

}  // namespace tessera::router
