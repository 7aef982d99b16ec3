#include "wire/postgres/saslprep.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <stringprep.h>

namespace tessera::postgres {

std::string saslprep(std::string_view password) {
  const auto is_ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  std::string raw(password);
  // libidn reads up to a zero byte; no password on the wire holds one.
  if (std::ranges::all_of(raw, is_ascii) || raw.contains('\0')) return raw;
  char* output = nullptr;
  const int status = stringprep_profile(raw.c_str(), &output, "SASLprep", STRINGPREP_NO_UNASSIGNED);
  const std::unique_ptr<char, decltype(&std::free)> owner(output, &std::free);
  if (status != STRINGPREP_OK || output == nullptr || *output == '\0') return raw;
  return output;
}

}  // namespace tessera::postgres
