// Operands that stand for key values.
#include <algorithm>

#include "router/planning.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

// The kind of a literal that is no slot, by how it begins. What an ordinary string with a backslash means depends on a
// setting of the session: such a one is not read.
parser::LiteralKind literal_kind(std::string_view token) {
  using parser::LiteralKind;
  const char first = token.empty() ? '\0' : token.front();
  if (first == '\'') return token.contains('\\') ? LiteralKind::bit_string : LiteralKind::string;
  if (first == '$') return LiteralKind::dollar_string;
  if (to_lower(first) == 'e') return LiteralKind::escape_string;
  if (first != '.' && !is_digit(first)) return LiteralKind::bit_string;
  return std::ranges::all_of(token, is_digit) ? LiteralKind::integer : LiteralKind::numeric;
}

// The type of an explicit cast; none when it is not one that a key's conversion knows. A cast to char(n) cuts off.
std::optional<KeyType> cast_type(std::string_view name, bool array) {
  if (name.empty()) return KeyType::unsupported;
  if (name.ends_with("[]") != array || name.contains('(')) return std::nullopt;
  if (array) name.remove_suffix(2);
  const KeyType type = key_type_of(name);
  if (type == KeyType::unsupported || type == KeyType::bpchar || type == KeyType::char_) return std::nullopt;
  return type;
}

}  // namespace

std::optional<KeyOperand> key_operand(const parser::Operand& operand, bool array, const PlanRequest& request) {
  KeyOperand key;
  key.array = array;
  const auto cast = cast_type(operand.cast, array);
  if (!cast) return std::nullopt;
  key.cast = *cast;
  switch (operand.kind) {
    case parser::Operand::Kind::null:
      key.kind = KeyOperand::Kind::null;
      return key;
    case parser::Operand::Kind::parameter:
      if (operand.parameter < 1) return std::nullopt;
      key.kind = KeyOperand::Kind::parameter;
      key.index = static_cast<std::uint32_t>(operand.parameter - 1);
      return key;
    case parser::Operand::Kind::literal:
      break;
    default:
      return std::nullopt;
  }
  key.negative = operand.negative;
  const auto slot = std::ranges::lower_bound(request.slots, operand.span.begin, {}, &parser::Slot::begin);
  if (slot != request.slots.end() && slot->begin == operand.span.begin && slot->end == operand.span.end) {
    key.index = static_cast<std::uint32_t>(slot - request.slots.begin());
    key.literal = slot->kind;
    return key;
  }
  if (operand.span.end > request.sql.size() || operand.span.begin >= operand.span.end) return std::nullopt;
  key.kind = KeyOperand::Kind::text;
  key.text = request.sql.substr(operand.span.begin, operand.span.end - operand.span.begin);
  key.literal = literal_kind(key.text);
  return key;
}

}  // namespace tessera::router
