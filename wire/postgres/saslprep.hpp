// SASLprep (RFC 4013) as PostgreSQL applies it to passwords before SCRAM (saslprep.c): two spellings of one password
// become the same bytes.
#pragma once

#include <string>
#include <string_view>

namespace tessera::postgres {

// Never fails, because the server does not either: ASCII is taken as it is, and so is a password that is not valid
// UTF-8, holds prohibited or unassigned characters, breaks the rule on right-to-left text, or would become empty.
std::string saslprep(std::string_view password);

}  // namespace tessera::postgres
