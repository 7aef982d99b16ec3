// pg_relation_size() and its kin: of a sharded table each shard knows its own share only.
#include <algorithm>
#include <fmt/core.h>

#include "parser/fingerprint.hpp"
#include "router/builtin_functions.hpp"
#include "router/planning.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

using Kind = ResolvedTable::Kind;

// "Schema"."Table" as regclass reads it: parts between dots, folded unless quoted. Empty: not such a name.
std::vector<std::string> name_parts(std::string_view text) {
  std::vector<std::string> parts(1);
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"' && quoted && text.substr(i + 1).starts_with('"')) {
      parts.back() += text[++i];
    } else if (c == '"') {
      quoted = !quoted;
    } else if (c == '.' && !quoted) {
      parts.emplace_back();
    } else {
      parts.back() += quoted ? c : to_lower(c);
    }
  }
  const bool named = !quoted && parts.size() <= 2 && std::ranges::none_of(parts, &std::string::empty);
  return named ? parts : std::vector<std::string>();
}

}  // namespace

std::optional<parser::TableRef> named_relation(const parser::FunctionCall& call, const PlanRequest& request) {
  const parser::Operand& argument = call.arguments.front();
  const bool plain = argument.cast.empty() || argument.cast == "regclass" || argument.cast == "text";
  if (argument.kind != parser::Operand::Kind::literal || !plain) return std::nullopt;
  const std::string_view token = request.sql.substr(argument.span.begin, argument.span.end - argument.span.begin);
  std::string text;
  if (!token.starts_with('\'') || !parser::decode_string(token, parser::LiteralKind::string, text)) return std::nullopt;
  std::vector<std::string> parts = name_parts(text);
  if (parts.empty()) return std::nullopt;
  parser::TableRef table;
  table.name = parts.back();
  if (parts.size() == 2) table.schema = parts.front();
  return table;
}

namespace {
bool measures_relation(std::string_view function) {
  return function != "pg_database_size" && function != "pg_tablespace_size";
}

}  // namespace

// Of an argument that the system catalogs give (psql's \dt+), the default shard's share is shown.
void Planning::check_sizes() {
  for (const parser::Block& block : statement_.blocks) {
    for (const parser::FunctionCall& call : block.functions) {
      if (!is_size(call.name) || call.arguments.empty()) continue;
      if (auto refusal = size_refusal(call, uses(Kind::catalog))) return refuse_all(std::move(*refusal));
    }
  }
}

std::optional<Error> Planning::size_refusal(const parser::FunctionCall& call, bool over_catalog) {
  const auto refused = [&](std::string what) {
    return refuse(request_, fmt::format("{}() tells one shard's share of {}", call.name, what), call.span,
                  "ask each shard, directly or " + by_hint(request_));
  };
  if (!distributed()) return std::nullopt;
  if (call.arguments.front().kind == parser::Operand::Kind::opaque) {
    if (over_catalog) return std::nullopt;
    return refused(measures_relation(call.name) ? "a relation that may be sharded" : "what all shards hold");
  }
  if (!measures_relation(call.name)) return refused("what all shards hold");
  out_.literals_matter = true;
  const auto named = named_relation(call, request_);
  if (!named) return refused("a relation that may be sharded");
  const ResolvedTable table = resolve_table(*named, request_);
  if (table.kind == Kind::sharded || table.refusal) return refused(fmt::format("the table \"{}\"", named->name));
  // An index, perhaps: whose it is, is not known.
  if (table.kind == Kind::plain && table.relation == nullptr) {
    return refused(fmt::format("\"{}\", if that is a sharded table's", named->name));
  }
  if (table.kind != Kind::plain) return std::nullopt;
  Component component;
  component.plain_shard = table.shard;
  component.tables = {named->name};
  const auto same = std::ranges::find(out_.components, component.plain_shard, &Component::plain_shard);
  if (same == out_.components.end()) out_.components.push_back(std::move(component));
  return std::nullopt;
}

}  // namespace tessera::router
