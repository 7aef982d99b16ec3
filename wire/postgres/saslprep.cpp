#include "wire/postgres/saslprep.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <stringprep.h>
#include <vector>

namespace tessera::postgres {

namespace {

// libidn's SASLprep without its normalisation step. PostgreSQL looks for prohibited, unassigned and right-to-left
// characters in what was typed (after mapping), where RFC 4013 looks in the normalised text; it matters for characters
// such as U+0341, which normalisation replaces by a permitted one.
std::vector<Stringprep_profile> checks_before_normalisation() {
  std::vector<Stringprep_profile> steps;
  for (const Stringprep_profiles* known = stringprep_profiles; known->name != nullptr; ++known) {
    if (std::string_view(known->name) != "SASLprep") continue;
    const Stringprep_profile* step = known->tables;
    for (; step->operation != 0; ++step) {
      if (step->operation != STRINGPREP_NFKC) steps.push_back(*step);
    }
    steps.push_back(*step);
  }
  return steps;
}

}  // namespace

std::string saslprep(std::string_view password) {
  static const std::vector<Stringprep_profile> checks = checks_before_normalisation();
  const auto is_ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  std::string raw(password);
  // libidn reads up to a zero byte; no password on the wire holds one.
  if (checks.empty() || std::ranges::all_of(raw, is_ascii) || raw.contains('\0')) return raw;
  // Mapping only ever shortens: to one space, or to nothing.
  std::vector<char> mapped(raw.c_str(), raw.c_str() + raw.size() + 1);
  if (stringprep(mapped.data(), mapped.size(), STRINGPREP_NO_UNASSIGNED, checks.data()) != STRINGPREP_OK) return raw;
  const std::unique_ptr<char, decltype(&std::free)> normalised(stringprep_utf8_nfkc_normalize(mapped.data(), -1),
                                                               &std::free);
  if (normalised == nullptr || *normalised == '\0') return raw;
  return normalised.get();
}

}  // namespace tessera::postgres
