#include "base/error.hpp"

namespace tessera {

SqlState SqlState::from_wire(std::string_view code) {
  if (code.size() != 5) return sqlstate::internal_error;
  return SqlState(std::array<char, 5>{code[0], code[1], code[2], code[3], code[4]});
}

}  // namespace tessera
