// Operands that stand for key values.
#include <algorithm>

#include "router/key_class.hpp"
#include "router/parameter_types.hpp"
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

enum class Number { none, integer, fraction };
Number number_of(const parser::Operand& operand, const PlanRequest& request) {
  const auto [begin, end] = operand.span;
  if (operand.kind != parser::Operand::Kind::literal || begin >= end || end > request.sql.size()) return Number::none;
  const std::string_view token = request.sql.substr(begin, end - begin);
  if (token.front() != '.' && !is_digit(token.front())) return Number::none;
  return std::ranges::all_of(token, is_digit) ? Number::integer : Number::fraction;
}

// ARRAY[…] takes the type that its elements have in common, whatever it is compared with. So all of them are cast to
// one type, or none is; and a parameter stands among its like only, or its neighbours would give it their type.
bool array_keeps_values(const std::vector<parser::Operand>& elements) {
  const auto bare_parameter = [](const parser::Operand& element) {
    return element.kind == parser::Operand::Kind::parameter && element.cast.empty();
  };
  const auto parameters = std::ranges::count_if(elements, bare_parameter);
  if (parameters > 0 && static_cast<std::size_t>(parameters) < elements.size()) return false;
  return std::ranges::all_of(
      elements, [&elements](const parser::Operand& element) { return element.cast == elements.front().cast; });
}

}  // namespace

bool list_keeps_values(const std::vector<parser::Operand>& operands, KeyType column, const PlanRequest& request) {
  bool parameter = false;
  Number number = Number::none;
  for (const parser::Operand& operand : operands) {
    if (!operand.cast.empty()) {
      if (!keeps_list_type(key_type_of(operand.cast), column)) return false;
      continue;
    }
    parameter = parameter || operand.kind == parser::Operand::Kind::parameter;
    number = std::max(number, number_of(operand, request));
  }
  // real IN (0.1, 0.2) makes reals of the numbers; real = 0.1 compares as double precision.
  if (column == KeyType::float4 && number != Number::none) return false;
  // integer IN ($1, 0.5) makes a numeric of the parameter.
  return !parameter || number != Number::fraction || !is_integer(column);
}

std::optional<std::vector<KeyOperand>> key_operands(const parser::Condition& condition, KeyType column,
                                                    const PlanRequest& request, const ParameterTypes& parameters) {
  std::vector<KeyOperand> found;
  const auto add = [&](const parser::Operand& operand, bool array, bool listed) {
    auto key = key_operand(operand, column, array, request, parameters);
    if (!key) return false;
    key->listed = listed && key->kind == KeyOperand::Kind::parameter && operand.cast.empty();
    found.push_back(std::move(*key));
    return true;
  };
  const bool list = condition.comparison == parser::Comparison::in && condition.operands.size() > 1;
  if (list && !list_keeps_values(condition.operands, column, request)) return std::nullopt;
  for (const parser::Operand& operand : condition.operands) {
    if (operand.kind != parser::Operand::Kind::array) {
      if (!add(operand, condition.any_array, list)) return std::nullopt;
      continue;
    }
    // ARRAY[…]::bigint[] casts each element.
    if (operand.cast.empty() && !array_keeps_values(operand.elements)) return std::nullopt;
    for (parser::Operand element : operand.elements) {
      if (!operand.cast.empty()) {
        if (!operand.cast.ends_with("[]") || !element.cast.empty()) return std::nullopt;
        element.cast = operand.cast.substr(0, operand.cast.size() - 2);
      }
      if (!add(element, false, operand.elements.size() > 1)) return std::nullopt;
    }
  }
  return found;
}

std::optional<KeyOperand> key_operand(const parser::Operand& operand, KeyType column, bool array,
                                      const PlanRequest& request, const ParameterTypes& parameters) {
  KeyOperand key;
  key.array = array;
  const auto cast = cast_type(operand.cast, array);
  if (!cast) return std::nullopt;
  // The type's name could mean a user's type.
  if (!operand.cast.empty() && hides_system(request.session.search_path)) return std::nullopt;
  key.cast = *cast;
  switch (operand.kind) {
    case parser::Operand::Kind::null:
      key.kind = KeyOperand::Kind::null;
      return key;
    case parser::Operand::Kind::parameter:
      if (operand.parameter < 1) return std::nullopt;
      key.kind = KeyOperand::Kind::parameter;
      key.index = static_cast<std::uint32_t>(operand.parameter - 1);
      key.inferred = parameters.inferred(operand, column, array);
      return key;
    case parser::Operand::Kind::literal:
    case parser::Operand::Kind::boolean:
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
