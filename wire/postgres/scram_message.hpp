// Reads SCRAM messages: attributes "x=value" between commas (RFC 5802, section 7), in the order that the RFC fixes.
// Shared by both ends of scram.hpp; nobody else needs it.
#pragma once

#include <optional>
#include <string_view>

#include "base/error.hpp"

namespace tessera::postgres {

struct ScramAttribute {
  char name = 0;
  std::string_view value;
};

class ScramReader {
public:
  explicit ScramReader(std::string_view message) : rest_(message) {}
  bool at_end() const { return rest_.empty() && !after_comma_; }
  std::string_view rest() const { return rest_; }
  // The next attribute, whatever its name; nothing if there is none or it is malformed.
  std::optional<ScramAttribute> next();
  // The next attribute's value if it is called `name`.
  std::optional<std::string_view> expect(char name);

private:
  std::string_view rest_;
  bool after_comma_ = false;
};

// Printable ASCII without comma, at least one character.
bool is_scram_nonce(std::string_view text);
// A saslname: no '=' but in "=2C" and "=3D".
bool is_scram_name(std::string_view text);

std::unexpected<Error> malformed_scram(std::string_view detail);

}  // namespace tessera::postgres
