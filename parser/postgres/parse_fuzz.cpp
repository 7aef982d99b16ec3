// Any bytes: no crash and no overrun; what is parsed lies inside the text; literals that conditions compare with are
// slots of the fingerprint, or the plan cache would read the wrong values.
#include <algorithm>
#include <cstdlib>

#include "parser/dump.hpp"
#include "parser/fingerprint.hpp"
#include "parser/postgres/parse.hpp"

using namespace tessera::parser;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void check(const Operand& operand, const Fingerprint& lexed) {
  if (operand.kind == Operand::Kind::literal) {
    require(std::ranges::any_of(lexed.slots, [&operand](const Slot& slot) {
      return slot.begin == operand.span.begin && slot.end == operand.span.end;
    }));
  }
  for (const Operand& element : operand.elements) check(element, lexed);
}

void check(const Statement& statement, const Fingerprint& lexed) {
  for (const Condition& condition : statement.conditions) {
    require(!condition.restricts.empty());
    for (const TableIndex table : condition.restricts) require(table < statement.tables.size());
    for (const Operand& operand : condition.operands) check(operand, lexed);
  }
  if (statement.insert) {
    for (const auto& row : statement.insert->rows) {
      for (const Operand& operand : row) check(operand, lexed);
    }
  }
  for (const Statement& inner : statement.inner) check(inner, lexed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string sql(reinterpret_cast<const char*>(data), size);
  const auto parsed = postgres::parse(sql);
  if (!parsed) return 0;
  static Fingerprint lexed;
  fingerprint(sql, {}, lexed);
  for (const Statement& statement : *parsed) {
    require(statement.span.begin <= statement.span.end && statement.span.end <= size);
    require(!dump(statement, sql).empty());
    if (lexed.exact) check(statement, lexed);
  }
  return 0;
}
