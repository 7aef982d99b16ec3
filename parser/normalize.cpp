#include "parser/normalize.hpp"

namespace tessera::parser {

std::string normalize(std::string_view sql, LexerMode mode) {
  Fingerprint print;
  fingerprint(sql, mode, print);
  if (!print.exact) return "<unreadable>";
  std::string text;
  std::size_t at = 0;
  for (const Slot& slot : print.slots) {
    text += sql.substr(at, slot.begin - at);
    text += '?';
    at = slot.end;
  }
  text += sql.substr(at);
  return text;
}

}  // namespace tessera::parser
