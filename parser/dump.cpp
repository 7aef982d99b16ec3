#include "parser/dump.hpp"

#include <algorithm>
#include <array>
#include <fmt/core.h>
#include <fmt/ranges.h>

namespace tessera::parser {

namespace {

std::string cursor_options(const Cursor& c) {
  constexpr std::array<std::string_view, 4> directions = {"forward", "backward", "absolute", "relative"};
  const std::string count = c.count == Cursor::all ? "all" : std::to_string(c.count);
  return fmt::format("{}{}{} {} {}", c.hold ? " hold" : "", c.scroll ? " scroll" : "", c.binary ? " binary" : "",
                     directions[static_cast<std::size_t>(c.direction)], count);
}

constexpr std::array kind_names = {"empty",
                                   "select",
                                   "insert",
                                   "update",
                                   "delete",
                                   "merge",
                                   "copy",
                                   "begin",
                                   "commit",
                                   "rollback",
                                   "savepoint",
                                   "release_savepoint",
                                   "rollback_to_savepoint",
                                   "prepare_transaction",
                                   "commit_prepared",
                                   "rollback_prepared",
                                   "set",
                                   "set_transaction",
                                   "reset",
                                   "show",
                                   "discard",
                                   "prepare",
                                   "execute",
                                   "deallocate",
                                   "declare_cursor",
                                   "fetch",
                                   "close_cursor",
                                   "listen",
                                   "unlisten",
                                   "notify",
                                   "lock_table",
                                   "truncate",
                                   "explain",
                                   "do_block",
                                   "call",
                                   "ddl",
                                   "maintenance",
                                   "other"};
static_assert(kind_names.size() == static_cast<std::size_t>(StatementKind::other) + 1);

constexpr std::array use_names = {"read",     "insert",    "update",  "delete", "merge",
                                  "truncate", "copy_from", "copy_to", "lock",   "ddl"};
static_assert(use_names.size() == static_cast<std::size_t>(TableUse::ddl_target) + 1);

constexpr std::array role_names = {
    "top",         "set_operand",  "cte", "from_subquery", "lateral_subquery", "expression_subquery", "exists_subquery",
    "in_subquery", "insert_source"};
static_assert(role_names.size() == static_cast<std::size_t>(BlockRole::insert_source) + 1);

constexpr std::array comparison_names = {"=", "in", "<", "<=", ">", ">="};
static_assert(comparison_names.size() == static_cast<std::size_t>(Comparison::greater_equal) + 1);

template <typename Names, typename Enum>
std::string_view name_of(const Names& names, Enum value) {
  return names[static_cast<std::size_t>(value)];
}

class Dump {
public:
  Dump(const Statement& statement, std::string_view sql) : s_(statement), sql_(sql) {}

  std::string text() {
    head();
    tables();
    for (BlockIndex i = 0; i < s_.blocks.size(); ++i) block(i);
    conditions();
    for (const Assignment& a : s_.assignments) assignment("set", a);
    details();
    for (const Statement& inner : s_.inner) nested(inner);
    return std::move(out_);
  }

private:
  template <typename... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
    out_ += '\n';
  }

  // White space runs print as one blank, so that a fact stays on its line.
  std::string span(SourceSpan at) const {
    if (at.end > sql_.size() || at.begin > at.end || sql_.empty()) return fmt::format("[{},{})", at.begin, at.end);
    std::string shown = "`";
    for (char c : sql_.substr(at.begin, at.end - at.begin)) {
      const bool blank = c == ' ' || c == '\n' || c == '\t' || c == '\r';
      if (!blank) shown += c;
      if (blank && shown.back() != ' ') shown += ' ';
    }
    return shown + '`';
  }

  std::string column(const ColumnRef& c) const {
    const std::string name = c.qualifier.empty() ? c.name : c.qualifier + "." + c.name;
    return c.table == no_index ? name + "@?" : fmt::format("{}@{}", name, c.table);
  }

  std::string operand(const Operand& o) const {
    std::string shown;
    switch (o.kind) {
      case Operand::Kind::literal:
        shown = (o.negative ? "-" : "") + span(o.span);
        break;
      case Operand::Kind::boolean:
        shown = span(o.span);
        break;
      case Operand::Kind::parameter:
        shown = fmt::format("${}", o.parameter);
        break;
      case Operand::Kind::null:
        shown = "null";
        break;
      case Operand::Kind::default_:
        shown = "default";
        break;
      case Operand::Kind::array:
        shown = "array[" + operands(o.elements) + "]";
        break;
      case Operand::Kind::opaque:
        shown = "opaque";
        break;
    }
    return o.cast.empty() ? shown : shown + "::" + o.cast;
  }

  std::string operands(const std::vector<Operand>& list) const {
    std::string shown;
    for (const Operand& o : list) shown += (shown.empty() ? "" : ", ") + operand(o);
    return shown;
  }

  void head() {
    line("{} \"{}\" {}", name_of(kind_names, s_.kind), s_.command, span(s_.span));
    std::string effects;
    const auto flag = [&effects](bool on, std::string_view name) {
      if (on) effects += fmt::format(" {}", name);
    };
    flag(s_.effects.writes, "writes");
    flag(s_.effects.locks_rows, "locks_rows");
    flag(s_.effects.temporary_objects, "temporary_objects");
    flag(s_.effects.until_commit, "until_commit");
    flag(s_.effects.session_advisory_lock, "session_advisory_lock");
    flag(s_.effects.changes_settings, "changes_settings");
    flag(s_.effects.hold_cursor, "hold_cursor");
    flag(s_.effects.opaque_code, "opaque_code");
    flag(s_.effects.outside_transaction, "outside_transaction");
    if (!effects.empty()) line("effects:{}", effects);
    if (s_.parameter_count > 0) line("parameters: {}{}", s_.parameter_count, parameter_uses());
    if (s_.explain.analyze) line("explain: analyze");
    if (s_.explain.tessera) line("explain: tessera");
    if (!s_.explain.beside.empty()) line("explain: beside it {}", s_.explain.beside);
    if (!s_.explain.timing) line("explain: without timing");
    if (!s_.explain.summary) line("explain: without summary");
    if (s_.explain.format != "text") line("explain: format {}", s_.explain.format);
  }

  // Those that are cast or stand more than once.
  std::string parameter_uses() const {
    std::string shown;
    for (const ParameterUse& use : s_.parameter_uses) {
      const auto same = [&use](const ParameterUse& other) { return other.parameter == use.parameter; };
      if (use.cast.empty() && std::ranges::count_if(s_.parameter_uses, same) == 1) continue;
      shown += fmt::format(" ${}{}{}", use.parameter, use.cast.empty() ? "" : "::", use.cast);
    }
    return shown;
  }

  void tables() {
    for (TableIndex i = 0; i < s_.tables.size(); ++i) {
      const TableRef& t = s_.tables[i];
      const std::string schema = t.schema.empty() ? "" : t.schema + ".";
      const std::string alias = t.alias == t.name ? "" : " as " + t.alias;
      const std::string block = t.block == no_index ? "" : fmt::format(" block {}", t.block);
      line("table {}: {}{}{} {}{} {}{}{}{}{}{}", i, schema, t.name, alias, name_of(use_names, t.use), block,
           span(t.span), t.index ? " index" : "", t.created ? " created" : "", t.only ? " only" : "",
           t.nullable ? " nullable" : "", t.locked ? " locked" : "");
    }
  }

  void block(BlockIndex i) {
    const Block& b = s_.blocks[i];
    std::string line_text = fmt::format("block {}: {} {}", i, name_of(role_names, b.role), name_of(kind_names, b.kind));
    if (b.parent != no_index) line_text += fmt::format(" in {}", b.parent);
    if (!b.cte_name.empty()) line_text += fmt::format(" name {}", b.cte_name);
    if (!b.set_operation.empty()) line_text += fmt::format(" \"{}\"", b.set_operation);
    if (b.values) line_text += " values";
    if (b.recursive) line_text += " recursive";
    line("{} tables [{}] {}", line_text, fmt::join(b.tables, ","), span(b.span));
    for (const TargetItem& t : b.targets) {
      line("  target {} {}{}{}", t.name, span(t.span), t.column ? " = " + column(*t.column) : "",
           t.star ? " star" : "");
    }
    for (const FunctionCall& f : b.functions) {
      line("  function {}{}/{} ({}) {}{}{}", f.schema.empty() ? "" : f.schema + ".", f.name, f.argument_count,
           operands(f.arguments), span(f.span), f.aggregate_syntax ? " aggregate" : "", f.window ? " window" : "");
    }
    std::string fields;
    for (const FieldRef& f : b.fields)
      fields += " " + (f.table == no_index ? "?" : std::to_string(f.table)) + "." + f.name;
    if (!fields.empty()) line("  fields{}", fields);
    clauses(b.clauses);
  }

  void clauses(const Clauses& c) {
    const auto clause = [this](std::string_view name, const std::optional<SourceSpan>& at) {
      if (at) line("  {}: {}", name, span(*at));
    };
    clause("distinct", c.distinct);
    clause("distinct on", c.distinct_on);
    clause("into", c.into);
    clause("from", c.from);
    clause("where", c.where);
    clause("group by", c.group_by);
    clause("having", c.having);
    clause("window", c.window);
    clause("order by", c.order_by);
    clause("limit", c.limit);
    clause("offset", c.offset);
    clause("locking", c.locking);
    clause("on conflict", c.on_conflict);
    clause("returning", c.returning);
    std::string flags;
    const auto flag = [&flags](bool on, std::string_view name) {
      if (on) flags += fmt::format(" {}", name);
    };
    flag(c.grouping_sets, "grouping_sets");
    flag(c.with_ties, "with_ties");
    flag(c.natural_join, "natural_join");
    flag(c.outer_join, "outer_join");
    flag(c.table_sample, "table_sample");
    flag(c.range_function, "range_function");
    flag(c.with_query, "with_query");
    if (!flags.empty()) line("  has:{}", flags);
  }

  void conditions() {
    for (const Condition& c : s_.conditions) {
      line("condition block {}: {} {}{} {} restricts [{}]", c.block, column(c.column),
           name_of(comparison_names, c.comparison), c.any_array ? " any" : "", operands(c.operands),
           fmt::join(c.restricts, ","));
    }
    for (const ColumnEquality& e : s_.equalities) {
      line("equality block {}: {} = {} restricts [{}]", e.block, column(e.left), column(e.right),
           fmt::join(e.restricts, ","));
    }
    for (const RowCondition& r : s_.row_conditions) {
      std::string columns, rows;
      for (const ColumnRef& c : r.columns) columns += (columns.empty() ? "" : ", ") + column(c);
      for (const auto& row : r.rows) rows += (rows.empty() ? "(" : ", (") + operands(row) + ")";
      line("rows block {}: ({}) in {} restricts [{}]", r.block, columns, rows, fmt::join(r.restricts, ","));
    }
  }

  void assignment(std::string_view what, const Assignment& a) {
    line("{} {} = {} {}", what, a.column, operand(a.value), span(a.span));
  }

  void insert() {
    const Insert& i = *s_.insert;
    line("insert ({}){}{}{}{}", fmt::join(i.columns, ", "), i.default_values ? " default values" : "",
         i.overriding_user_value ? " overriding user value" : "",
         i.source == no_index ? "" : fmt::format(" from block {}", i.source), i.on_conflict ? " on conflict" : "");
    if (i.conflict_columns) line("  conflict columns ({})", fmt::join(*i.conflict_columns, ", "));
    if (!i.conflict_constraint.empty()) line("  conflict constraint {}", i.conflict_constraint);
    for (std::size_t r = 0; r < i.rows.size(); ++r) {
      line("  row ({}) {}", operands(i.rows[r]), r < i.row_spans.size() ? span(i.row_spans[r]) : "");
    }
    for (const Assignment& a : i.conflict_assignments) assignment("  conflict set", a);
  }

  void definition() {
    constexpr std::string_view kinds[] = {"unique", "primary key", "exclusion", "foreign key"};
    const Definition& d = *s_.definition;
    for (const Definition::Column& c : d.columns)
      line("column {} {}{}", c.name, c.type, c.collation.empty() ? "" : " collate " + c.collation);
    for (const Definition::Value& v : d.values) {
      std::string names = v.sequence ? " sequence" : "";
      for (const FunctionCall& call : v.expression.functions) names += ' ' + call.name;
      for (const FieldRef& field : v.expression.fields) names += " ." + field.name;
      line("value {}{}", v.column, names);
    }
    for (const Definition::Constraint& c : d.constraints) {
      line("constraint {} ({}){} {}", kinds[static_cast<std::size_t>(c.kind)], fmt::join(c.columns, ", "),
           c.references == no_index ? ""
                                    : fmt::format(" references {} ({})", c.references, fmt::join(c.referenced, ", ")),
           span(c.span));
    }
    if (!d.changed_columns.empty()) line("changes columns ({})", fmt::join(d.changed_columns, ", "));
    if (d.typed) line("typed");
    if (!d.new_name.empty()) line("new name `{}`", d.new_name);
    if (!d.new_schema.empty()) line("new schema `{}`", d.new_schema);
    if (d.parent != no_index) line("parent {}", d.parent);
  }

  void details() {
    if (s_.insert) insert();
    if (const auto& c = s_.copy) {
      line("copy {}{}{} format {} ({})", c->from ? "from" : "to", c->stdio ? " stdio" : "", c->query ? " query" : "",
           c->format, fmt::join(c->columns, ", "));
      for (const CopyOption& o : c->options) line("  option {} `{}` ({})", o.name, o.value, fmt::join(o.columns, ", "));
      if (c->where) line("  where");
    }
    if (s_.definition) definition();
    if (const auto& v = s_.setting) {
      line("setting {} = `{}` ({}){}{}", v->name, v->value, fmt::join(v->values, " | "), v->local ? " local" : "",
           v->to_default ? " default" : "");
    }
    if (const auto& t = s_.transaction) {
      line("transaction name `{}` options `{}`{}{}", t->name, t->options, t->read_only ? " read_only" : "",
           t->chain ? " chain" : "");
    }
    if (const auto& p = s_.prepared) {
      line("prepared `{}` {}{} body {} types ({}) arguments ({})", p->name, span(p->name_span), p->all ? " all" : "",
           span(p->body), fmt::join(p->types, ", "), operands(p->arguments));
    }
    if (const auto& c = s_.cursor) line("cursor `{}`{}", c->name, cursor_options(*c));
    if (const auto& c = s_.channel) line("channel `{}`{}", c->name, c->payload ? " payload `" + *c->payload + "`" : "");
  }

  void nested(const Statement& inner) {
    line("inner:");
    const std::string text = dump(inner, sql_);
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = text.find('\n', at);
      line("  {}", text.substr(at, end - at));
      at = end + 1;
    }
  }

  const Statement& s_;
  std::string_view sql_;
  std::string out_;
};

}  // namespace

std::string dump(const Statement& statement, std::string_view sql) {
  return Dump(statement, sql).text();
}

}  // namespace tessera::parser
