#include "router/group_expressions.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "parser/lexer.hpp"
#include "router/contains.hpp"
#include "router/rewrite.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

using parser::SourceSpan;
using parser::TableIndex;
using parser::Token;
using parser::TokenKind;

// Names of types whose equal values are one and the same, by one name for each type.
constexpr auto exact_casts =
    std::to_array<std::pair<std::string_view, std::string_view>>({{"bool", "bool"},
                                                                  {"boolean", "bool"},
                                                                  {"int2", "int2"},
                                                                  {"smallint", "int2"},
                                                                  {"int", "int4"},
                                                                  {"int4", "int4"},
                                                                  {"integer", "int4"},
                                                                  {"int8", "int8"},
                                                                  {"bigint", "int8"},
                                                                  {"date", "date"},
                                                                  {"timestamp", "timestamp"},
                                                                  {"timestamptz", "timestamptz"},
                                                                  {"text", "text"},
                                                                  {"uuid", "uuid"}});
constexpr auto moments = std::to_array<TypeOid>({1082, 1114, 1184});  // date, timestamp, timestamptz
// Parts of these that are whole numbers.
constexpr auto whole_fields =
    std::to_array<std::string_view>({"year", "month", "day", "hour", "minute", "quarter", "week", "dow", "doy",
                                     "isodow", "isoyear", "decade", "century"});
// Behind these an expression in parentheses begins; behind others its parentheses could be a call's.
constexpr auto opening = std::to_array<std::string_view>(
    {",", "(", "by", "select", "distinct", "then", "else", "when", "having", "and", "or"});
// What behind an expression would belong to it.
constexpr auto binding = std::to_array<std::string_view>(
    {"(", "[", ".", "::", "with", "without", "varying", "precision", "over", "filter", "within", "collate"});

class Finder {
public:
  Finder(const PlanRequest& request, const std::vector<ResolvedTable>& tables, const parser::Block& block,
         std::string_view outside, std::span<const SourceSpan> others)
      : request_(request), tables_(tables), block_(block), sql_(outside), others_(others) {
    parser::Lexer lexer(sql_.substr(0, block.span.end), {});
    for (Token token = lexer.next(); token.kind != TokenKind::end && token.kind != TokenKind::bad; token = lexer.next())
      tokens_.push_back(token);
  }

  std::vector<GroupExpression> run() {
    std::vector<Found> all;
    for (std::size_t i = 0; i < tokens_.size();) {
      auto found = tokens_[i].begin >= block_.span.begin ? expression(i) : std::nullopt;
      i = found ? found->behind : i + 1;
      if (found) all.push_back(*std::move(found));
    }
    for (const Found& one : all)
      if (is_item(one)) items_.insert(one.form);
    std::vector<GroupExpression> out;
    std::vector<std::string> forms;
    for (Found& one : all) {
      if (!items_.contains(one.form)) continue;
      const auto place = static_cast<std::size_t>(std::ranges::find(forms, one.form) - forms.begin());
      if (place == forms.size()) {
        forms.push_back(one.form);
        out.push_back({std::string(text_of(sql_, one.span)), {}, std::move(one.columns)});
      }
      out[place].places.push_back(one.span);
    }
    return out;
  }

private:
  struct Found {
    SourceSpan span;
    std::size_t first = 0, behind = 0;  // tokens
    std::string form;                   // the same for all spellings
    std::vector<std::pair<TableIndex, std::string>> columns;
  };

  std::string_view at(std::size_t i) const {
    return i < tokens_.size() ? text_of(sql_, {tokens_[i].begin, tokens_[i].end}) : std::string_view();
  }
  std::string word(std::size_t i) const {
    return i < tokens_.size() && tokens_[i].kind == TokenKind::word ? lower(at(i)) : std::string(at(i));
  }
  bool is_name(std::size_t i) const {
    return i < tokens_.size() &&
           (tokens_[i].kind == TokenKind::word || tokens_[i].kind == TokenKind::quoted_identifier);
  }
  std::string name(std::size_t i) const {
    const std::string_view written = at(i);
    return written.starts_with('"') ? std::string(written.substr(1, written.size() - 2)) : lower(written);
  }

  // A call or a column, with casts behind it.
  std::optional<Found> expression(std::size_t first) const {
    const bool parentheses = at(first) == "(";
    if (first == 0 || (parentheses ? !contains(opening, word(first - 1))
                                   : !is_name(first) || at(first - 1) == "." || at(first - 1) == "::"))
      return {};
    Found found{{}, first, first, {}, {}};
    bool exact = false;
    if (parentheses || at(first + 1) == "(") {
      found.behind = behind_parentheses(parentheses ? first : first + 1);
      exact = !parentheses && part_of_moment(first, found.behind);
      if (parentheses && is_row(first, found.behind)) return {};
      for (std::size_t i = first; i < found.behind;)
        if (!take(i, found)) return {};
    } else if (!take(found.behind, found)) {
      return {};
    }
    while (at(found.behind) == "::") {
      const auto type =
          std::ranges::find(exact_casts, word(found.behind + 1), [](const auto& cast) { return cast.first; });
      exact = type != exact_casts.end();
      if (!is_name(found.behind + 1)) return {};
      found.form += "::";
      found.form += exact ? std::string(type->second) : word(found.behind + 1);
      found.behind += 2;
    }
    if (!exact || found.columns.empty() || contains(binding, word(found.behind))) return {};
    found.span = {tokens_[first].begin, tokens_[found.behind - 1].end};
    const bool holds_other = std::ranges::any_of(
        others_, [&](SourceSpan other) { return other.begin < found.span.end && other.end > found.span.begin; });
    return holds_other || gives_sets(found) ? std::nullopt : std::optional(std::move(found));
  }

  // Adds the token, or the column of up to three, to the form. False: it is not certain what it means.
  bool take(std::size_t& i, Found& found) const {
    const std::string here = word(i);
    if (here == "collate" || here == "select" || here == "grouping") return false;
    const bool behind_cast = i > 0 && at(i - 1) == "::";
    if (is_name(i) && at(i + 1) != "(" && !behind_cast) {
      const bool qualified = at(i + 1) == "." && is_name(i + 2);
      const auto column = qualified ? column_of(name(i), name(i + 2)) : column_of({}, name(i));
      if (qualified && !column) return false;
      if (column) {
        const Column* known = tables_[column->first].relation->find_column(column->second);
        if (!known->deterministic) return false;
        found.columns.push_back(*column);
        found.form += " " + std::to_string(column->first) + "." + quoted(column->second);
        i += qualified ? 3 : 1;
        return true;
      }
      if (is_shared(name(i))) return false;
    }
    found.form += " " + here;
    ++i;
    return true;
  }

  std::optional<std::pair<TableIndex, std::string>> column_of(std::string_view alias, const std::string& name) const {
    std::optional<std::pair<TableIndex, std::string>> found;
    for (const TableIndex table : block_.tables) {
      if (!alias.empty() && request_.statement.tables[table].alias != alias) continue;
      if (tables_[table].relation->find_column(name) == nullptr) continue;
      if (found) return {};
      found = {table, name};
    }
    return found;
  }
  bool is_shared(const std::string& name) const {
    return std::ranges::any_of(block_.tables,
                               [&](TableIndex table) { return tables_[table].relation->find_column(name) != nullptr; });
  }

  std::size_t behind_parentheses(std::size_t open) const {
    int depth = 0;
    for (std::size_t i = open; i < tokens_.size(); ++i) {
      if (at(i) == "(") ++depth;
      if (at(i) == ")" && --depth == 0) return i + 1;
    }
    return tokens_.size();
  }

  bool is_row(std::size_t open, std::size_t behind) const {
    int depth = 0;
    for (std::size_t i = open; i < behind; ++i) {
      depth += at(i) == "(" || at(i) == "[" ? 1 : at(i) == ")" || at(i) == "]" ? -1 : 0;
      if (depth == 1 && at(i) == ",") return true;
    }
    return false;
  }

  // date_trunc('month', column), extract(year from column).
  bool part_of_moment(std::size_t first, std::size_t behind) const {
    const std::string function = word(first);
    std::size_t column = first + 4;
    if (at(first + 3) == "::" && word(first + 4) == "text") column += 2;
    if (function == "extract" ? !contains(whole_fields, word(first + 2)) || word(first + 3) != "from"
                              : function != "date_trunc" || at(column - 1) != ",")
      return false;
    const bool qualified = at(column + 1) == ".";
    const auto found = qualified ? column_of(name(column), name(column + 2)) : column_of({}, name(column));
    column += qualified ? 3 : 1;
    return found && column + 1 == behind &&
           contains(moments, tables_[found->first].relation->find_column(found->second)->type);
  }

  bool gives_sets(const Found& found) const {
    for (std::size_t i = found.first; i < found.behind; ++i) {
      if (!is_name(i) || at(i + 1) != "(") continue;
      const auto known = request_.catalog.functions.find(name(i));
      if (known != request_.catalog.functions.end() && (known->second.set || known->second.aggregate)) return true;
    }
    return false;
  }

  // Of GROUP BY, in ROLLUP and the like too; or of the select list, and GROUP BY has its number or its name.
  bool is_item(const Found& found) const {
    const auto& clause = block_.clauses.group_by;
    if (!clause) return false;
    if (found.span.begin >= clause->begin && found.span.end <= clause->end)
      return ends_item(found.behind, clause->end) && begins_item(found.first, clause->begin);
    for (std::size_t n = 0; n < block_.targets.size(); ++n) {
      const parser::TargetItem& target = block_.targets[n];
      if (target.span != found.span) continue;
      for (std::size_t i = 0; i < tokens_.size(); ++i) {
        if (tokens_[i].begin < clause->begin || tokens_[i].end > clause->end) continue;
        const bool named = at(i) == std::to_string(n + 1) || (is_name(i) && name(i) == target.name);
        if (named && ends_item(i + 1, clause->end) && begins_item(i, clause->begin)) return true;
      }
    }
    return false;
  }
  bool ends_item(std::size_t behind, std::uint32_t end) const {
    return behind >= tokens_.size() || tokens_[behind].begin >= end || at(behind) == "," || at(behind) == ")";
  }
  // Whatever brackets are open there are those of ROLLUP and the like, or of lists of items.
  bool begins_item(std::size_t first, std::uint32_t begin) const {
    const auto opens = [&](std::size_t i) { return at(i) == "," || at(i) == "(" || word(i) == "by"; };
    if (first == 0 || !opens(first - 1)) return false;
    int depth = 0;
    for (std::size_t i = first; i-- > 0 && tokens_[i].begin >= begin;) {
      if (at(i) == ")") ++depth;
      if (at(i) != "(" || --depth >= 0) continue;
      depth = 0;
      const std::string before = i == 0 ? "" : word(i - 1);
      if (!opens(i - 1) && before != "rollup" && before != "cube" && before != "sets") return false;
    }
    return true;
  }

  const PlanRequest& request_;
  const std::vector<ResolvedTable>& tables_;
  const parser::Block& block_;
  std::string_view sql_;
  std::span<const SourceSpan> others_;
  std::vector<Token> tokens_;
  std::set<std::string> items_;
};

}  // namespace

std::vector<GroupExpression> group_expressions(const PlanRequest& request, const std::vector<ResolvedTable>& tables,
                                               const parser::Block& block, std::string_view outside,
                                               std::span<const SourceSpan> others) {
  if (!block.clauses.group_by) return {};
  return Finder(request, tables, block, outside, others).run();
}

}  // namespace tessera::router
