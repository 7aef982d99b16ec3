// Rows of an answer as texts, out of bytes that come in any pieces.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/postgres/backend.hpp"

namespace tessera::pool {

class TextRows {
public:
  using Row = std::vector<std::optional<std::string>>;

  // Adds the rows that are complete now to `rows`.
  void take(std::string_view bytes, std::vector<Row>& rows);

private:
  std::string buffer_;  // a message that was cut
};

}  // namespace tessera::pool
