// A statement's text without its literals and comments: what a log or a list of statements may show.
#pragma once

#include <string>
#include <string_view>

#include "parser/fingerprint.hpp"

namespace tessera::parser {

// Each literal becomes `?`, a comment between two words a blank. A text that the lexer is not sure of is not shown at
// all: "<unreadable>".
std::string normalize(std::string_view sql, LexerMode mode);

}  // namespace tessera::parser
