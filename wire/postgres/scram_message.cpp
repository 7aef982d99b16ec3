#include "wire/postgres/scram_message.hpp"

#include <algorithm>
#include <string>

namespace tessera::postgres {

std::optional<ScramAttribute> ScramReader::next() {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (rest_.size() < 2 || !is_letter(rest_[0]) || rest_[1] != '=') return std::nullopt;
  const std::size_t comma = rest_.find(',');
  const ScramAttribute attribute{rest_[0], rest_.substr(2, comma == std::string_view::npos ? comma : comma - 2)};
  after_comma_ = comma != std::string_view::npos;
  rest_ = after_comma_ ? rest_.substr(comma + 1) : std::string_view{};
  return attribute;
}

std::optional<std::string_view> ScramReader::expect(char name) {
  const auto attribute = next();
  if (!attribute || attribute->name != name) return std::nullopt;
  return attribute->value;
}

bool is_scram_nonce(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= 0x21 && c <= 0x7e && c != ','; });
}

bool is_scram_name(std::string_view text) {
  for (std::size_t at = text.find('='); at != std::string_view::npos; at = text.find('=', at + 1)) {
    const std::string_view escape = text.substr(at, 3);
    if (escape != "=2C" && escape != "=3D") return false;
  }
  return !text.contains('\0');
}

std::unexpected<Error> malformed_scram(std::string_view detail) {
  return std::unexpected(Error{sqlstate::protocol_violation, "malformed SCRAM message", std::string(detail), {}, 0});
}

}  // namespace tessera::postgres
