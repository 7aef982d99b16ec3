// PostgreSQL SQL text to `Statement`s, on libpg_query (the server's own grammar, version 15). Tens of microseconds a
// statement: called on a plan-cache miss only. Thread-safe; no state. libpg_query's types do not leave this folder.
#pragma once

#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "parser/statement.hpp"

namespace tessera::parser::postgres {

// All statements of `sql` in order; empty when it holds none. A syntax error is SQLSTATE 42601 with the server's own
// wording and the character position. `EXPLAIN (TESSERA …) x` is understood here and sets explain.tessera.
// Limits: nesting deeper than the library accepts is 54001 (statement_too_complex).
Result<std::vector<Statement>> parse(std::string_view sql);

}  // namespace tessera::parser::postgres
