// What PostgreSQL 15 says of a value that is no key: malformed, out of range, of a type that does not go with the
// column's. For statements that are refused in any case, so that the client reads the SQLSTATE it would read of one
// database: a wrong guess (users may make casts and operators, newer servers read "0x2a") costs another code and no
// more.
#pragma once

#include <optional>
#include <string_view>

#include "base/error.hpp"
#include "router/key.hpp"

namespace tessera::router {

struct GivenValue {
  std::string_view text;  // decoded; empty and `binary` for what is not given as text
  bool binary = false;
  KeyType read_as = KeyType::unsupported;  // the type whose text it is
  KeyType type = KeyType::unsupported;     // the type in which it meets the column: a cast's, else read_as
};

// `stored_in`: the column's name in an INSERT, empty if the value is compared. None: not certain.
std::optional<Error> value_error(const GivenValue& value, KeyType column, std::string_view stored_in);

}  // namespace tessera::router
