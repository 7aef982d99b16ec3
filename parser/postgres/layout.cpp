#include "parser/postgres/layout.hpp"

#include <algorithm>

namespace tessera::parser::postgres {

namespace {

bool owns(const SelectNode& node, Clause clause) {
  switch (clause) {
    case Clause::order_by:
      return node.n_sort_clause > 0;
    case Clause::limit:
      return node.limit_count != nullptr;
    case Clause::offset:
      return node.limit_offset != nullptr;
    case Clause::locking:
      return node.n_locking_clause > 0;
    case Clause::returning:
    case Clause::on_conflict:
      return false;  // of an INSERT around it
    default:
      return true;
  }
}

}  // namespace

// Keywords that are reserved words can stand elsewhere only as a column's name behind a dot or as a label behind AS.
std::optional<Clause> Layout::clause_at(TokenIndex i) const {
  if (tokens_.kind(i) != TokenKind::word) return std::nullopt;
  if (i > first_ && (tokens_.is(i - 1, ".") || tokens_.is(i - 1, "as"))) return std::nullopt;
  const auto followed = [this, i](std::string_view word) { return tokens_.is(i + 1, word); };
  if (tokens_.is(i, "from")) {
    const bool distinct_from =
        i >= first_ + 2 && tokens_.is(i - 1, "distinct") && (tokens_.is(i - 2, "is") || tokens_.is(i - 2, "not"));
    return distinct_from ? std::nullopt : std::optional(Clause::from);
  }
  if (tokens_.is(i, "where")) return Clause::where;
  if (tokens_.is(i, "group") && followed("by")) return Clause::group_by;
  if (tokens_.is(i, "having")) return Clause::having;
  if (tokens_.is(i, "window")) return Clause::window;
  if (tokens_.is(i, "order") && followed("by")) return Clause::order_by;
  if (tokens_.is(i, "limit") || tokens_.is(i, "fetch")) return Clause::limit;
  if (tokens_.is(i, "offset")) return Clause::offset;
  if (tokens_.is(i, "for")) return Clause::locking;
  if (tokens_.is(i, "into")) return Clause::into;
  if (tokens_.is(i, "returning")) return Clause::returning;
  if (tokens_.is(i, "on") && followed("conflict")) return Clause::on_conflict;
  if (tokens_.is(i, "using")) return Clause::using_;
  if (tokens_.is(i, "set")) return Clause::set;
  return std::nullopt;
}

// Set operators, and the WITH DATA or WITH CHECK OPTION behind the query of a CREATE.
bool Layout::ends_block(TokenIndex i) const {
  if (tokens_.kind(i) != TokenKind::word || (i > first_ && (tokens_.is(i - 1, ".") || tokens_.is(i - 1, "as"))))
    return false;
  if (tokens_.is(i, "union") || tokens_.is(i, "intersect") || tokens_.is(i, "except")) return true;
  if (!tokens_.is(i, "with")) return false;
  const auto sees = [this, i](TokenIndex ahead, std::string_view word) { return tokens_.is(i + ahead, word); };
  const auto last = [this, i](TokenIndex ahead) { return i + ahead >= behind_ || tokens_.is_closing(i + ahead); };
  if (sees(1, "data") && last(2)) return true;
  if (sees(1, "no") && sees(2, "data") && last(3)) return true;
  if (sees(1, "check") && sees(2, "option")) return true;
  return (sees(1, "local") || sees(1, "cascaded")) && sees(2, "check") && sees(3, "option");
}

// The last token of the block that `from` is in. `owner`, when given, tells which clauses are its own.
TokenIndex Layout::block_end(TokenIndex from, const SelectNode* owner) const {
  TokenIndex i = from;
  while (i + 1 < behind_) {
    const TokenIndex next = i + 1;
    if (tokens_.is_closing(next) || tokens_.is(next, ";") || ends_block(next)) return i;
    if (owner != nullptr) {
      const auto clause = clause_at(next);
      if (clause && !owns(*owner, *clause)) return i;
    }
    i = tokens_.is_opening(next) ? std::min(tokens_.match(next), behind_ - 1) : next;
  }
  return i;
}

// The token at a location of the tree; -1, where the grammar made something up, is the statement's start.
TokenIndex Layout::token_at(int location) const {
  return location < 0 ? first_ : std::min(tokens_.at(static_cast<std::uint32_t>(location)), behind_);
}

TokenIndex Layout::search_back(TokenIndex from, std::string_view word) const {
  for (TokenIndex i = from; i > first_; --i) {
    if (tokens_.is(i - 1, word)) return i - 1;
  }
  return first_;
}

TokenIndex Layout::core(const SelectNode& node) const {
  const NodeList targets = list(node.target_list, node.n_target_list);
  if (!targets.empty()) {
    const auto* target = as<PgQuery__ResTarget>(targets[0]);
    if (target != nullptr && target->location >= 0) {
      TokenIndex i = token_at(target->location);
      if (i > first_ && tokens_.is_closing(i - 1)) {  // DISTINCT ON (…)
        i = tokens_.match(i - 1);
        return i > first_ + 2 ? i - 3 : first_;
      }
      if (i > first_ && (tokens_.is(i - 1, "all") || tokens_.is(i - 1, "distinct"))) --i;
      return i > first_ ? i - 1 : first_;
    }
  }
  const int inside = leftmost(node.n_values_lists > 0 ? list(node.values_lists, node.n_values_lists)
                                                      : list(node.from_clause, node.n_from_clause));
  if (inside < 0) return first_;  // SELECT and nothing: no position at all
  const TokenIndex at = token_at(inside);
  if (node.n_values_lists > 0) return search_back(at, "values");
  return search_back(at, targets.empty() ? "select" : "table");
}

TokenRange Layout::core_range(const SelectNode& node) const {
  const TokenIndex start = core(node);
  TokenRange range{start, block_end(start, &node)};
  if (node.with_clause != nullptr) range.first = token_at(node.with_clause->location);
  return range;
}

// The UNION, INTERSECT or EXCEPT before an operand's first token.
TokenIndex Layout::operator_before(TokenIndex operand) const {
  TokenIndex i = operand;
  while (i > first_ && tokens_.is(i - 1, "(")) --i;
  if (i > first_ && (tokens_.is(i - 1, "all") || tokens_.is(i - 1, "distinct"))) --i;
  return i > first_ ? i - 1 : first_;
}

TokenRange Layout::set_operation(const SelectNode& node, TokenIndex& behind_operands) const {
  TokenRange left = query(*node.larg);
  const TokenRange right = query(*node.rarg);
  const int depth = tokens_.depth(operator_before(right.first));
  while (left.first > first_ && tokens_.depth(left.first) > depth) --left.first;  // the brackets around it
  TokenIndex last = right.last;
  while (last + 1 < behind_ && tokens_.depth(last) > depth && tokens_.is_closing(last + 1)) ++last;
  behind_operands = last + 1;
  const bool has_tail = node.n_sort_clause > 0 || node.limit_count != nullptr || node.limit_offset != nullptr ||
                        node.n_locking_clause > 0;
  return {left.first, has_tail ? block_end(last, &node) : last};
}

TokenRange Layout::query(const SelectNode& node) const {
  if (node.larg == nullptr || node.rarg == nullptr) return core_range(node);
  TokenIndex behind = 0;
  TokenRange range = set_operation(node, behind);
  if (node.with_clause != nullptr) range.first = token_at(node.with_clause->location);
  return range;
}

TokenRange Layout::tail(const SelectNode& node) const {
  if (node.larg == nullptr || node.rarg == nullptr) return {core(node), core_range(node).last};
  TokenIndex behind = 0;
  const TokenRange range = set_operation(node, behind);
  return {behind, range.last};
}

TokenIndex Layout::keyword(int target, std::string_view word) const {
  return search_back(token_at(target), word);
}

TokenRange Layout::modification(TokenIndex keyword, const PgQuery__WithClause* with) const {
  TokenRange range{keyword, block_end(keyword, nullptr)};
  // The source of an INSERT may be a set operation at the same depth; what follows it belongs to the INSERT.
  while (range.last + 1 < behind_ && !tokens_.is_closing(range.last + 1) && !tokens_.is(range.last + 1, ";")) {
    range.last = block_end(range.last + 1, nullptr);
  }
  if (with != nullptr) range.first = token_at(with->location);
  return range;
}

ClauseSpans Layout::clauses(TokenRange range, TokenIndex from, std::initializer_list<Clause> wanted) const {
  ClauseSpans found;
  std::optional<Clause> open;
  const int depth = tokens_.depth(from);
  for (TokenIndex i = from; i <= range.last && i < behind_; ++i) {
    if (tokens_.depth(i) != depth) continue;
    const auto clause = clause_at(i);
    if (!clause || found[*clause] || std::ranges::find(wanted, *clause) == wanted.end()) continue;
    if (open) found[*open]->end = tokens_.end(i - 1);
    found[*clause] = SourceSpan{tokens_.begin(i), tokens_.end(range.last)};
    open = clause;
  }
  return found;
}

SourceSpan Layout::before_when(SourceSpan span, std::uint32_t begin) const {
  const int depth = tokens_.depth(tokens_.at(begin));
  for (TokenIndex i = tokens_.at(begin) + 1; i < behind_ && tokens_.begin(i) < span.end; ++i) {
    if (tokens_.depth(i) == depth && tokens_.is(i, "when")) return {begin, tokens_.end(i - 1)};
  }
  return {begin, span.end};
}

SourceSpan Layout::item(int location, SourceSpan list) const {
  const TokenIndex start = token_at(location);
  TokenIndex i = start;
  for (;;) {
    if (tokens_.is_opening(i) && tokens_.match(i) < tokens_.size()) i = tokens_.match(i);
    if (tokens_.begin(i + 1) >= list.end || i + 1 >= tokens_.size() || tokens_.is(i + 1, ",") ||
        tokens_.is_closing(i + 1)) {
      return tokens_.span(start, i);
    }
    ++i;
  }
}

}  // namespace tessera::parser::postgres
