// A `Statement` as text, one fact a line: for golden tests, for EXPLAIN (TESSERA) and for reading in a debugger. Facts
// that are absent print nothing. The format is for people; nothing parses it.
#pragma once

#include <string>
#include <string_view>

#include "parser/statement.hpp"

namespace tessera::parser {

// `sql`, when given, is the text that the statement was parsed from: spans then print as text instead of as offsets.
std::string dump(const Statement& statement, std::string_view sql = {});

}  // namespace tessera::parser
