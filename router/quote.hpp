// Names and texts as SQL tokens, for the predicates of rules. Names come from catalogs and configurations and may hold
// anything: they are always quoted.
#pragma once

#include <string>
#include <string_view>

namespace tessera::router {

// "name", inner quotes doubled.
std::string quote_identifier(std::string_view name);
// 'text', or E'te\\xt' when it holds a backslash, so that the meaning does not hang on standard_conforming_strings.
std::string quote_literal(std::string_view text);

}  // namespace tessera::router
