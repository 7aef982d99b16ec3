// Names and texts as SQL tokens, for the predicates of rules, and in messages. Names come from catalogs and
// configurations and may hold anything: they are always quoted.
#pragma once

#include <string>
#include <string_view>

namespace tessera::router {

// "name", inner quotes doubled.
std::string quote_identifier(std::string_view name);
// 'text', or E'te\\xt' when it holds a backslash, so that the meaning does not hang on standard_conforming_strings.
std::string quote_literal(std::string_view text);
// At most `most` bytes of a text that may be any bytes, and "..." for the rest, as valid UTF-8: characters stay whole,
// and control characters and other bytes become \x00.
std::string for_message(std::string_view text, std::size_t most);

}  // namespace tessera::router
