// Any bytes: no read past the text (the copy is exact, so that the sanitizer sees it), slots in order and inside, and
// blanks around the statement change nothing.
#include <cstdlib>
#include <cstring>
#include <memory>

#include "parser/fingerprint.hpp"

using tessera::parser::Fingerprint;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Fingerprint first, second;
  const std::unique_ptr<char[]> text(new char[size]);
  if (size > 0) std::memcpy(text.get(), data, size);
  const std::string_view sql(text.get(), size);
  for (const bool standard : {true, false}) {
    tessera::parser::fingerprint(sql, {standard}, first);
    std::uint32_t behind = 0;
    std::string value;
    for (const auto& slot : first.slots) {
      require(slot.begin >= behind && slot.begin < slot.end && slot.end <= size);
      behind = slot.end;
      tessera::parser::decode_string(sql.substr(slot.begin, slot.end - slot.begin), slot.kind, value);
    }
    require(first.hint_begin <= first.hint_end && first.hint_end <= size);
    tessera::parser::fingerprint(" \n" + std::string(sql) + "\n /* c */ ", {standard}, second);
    if (!first.exact) continue;
    require(second.exact && first.high == second.high && first.low == second.low);
    require(first.slots.size() == second.slots.size() && first.multiple == second.multiple);
  }
  return 0;
}
