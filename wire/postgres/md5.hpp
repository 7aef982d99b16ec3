// PostgreSQL's md5 passwords. The stored verifier is "md5" and 32 hex digits of md5(password + user); a login proves
// knowledge of it with md5(hex digits + salt). Whoever has the verifier can log in with it: it is as good as a
// password.
#pragma once

#include <string>
#include <string_view>

#include "base/error.hpp"

namespace tessera::postgres {

bool is_md5_verifier(std::string_view text);  // "md5" and 32 lower-case hex digits
Result<std::string> md5_verifier(std::string_view password, std::string_view user);
// What a client answers to AuthenticationMD5Password. `verifier` must be one; `salt` is the server's 4 bytes.
Result<std::string> md5_response(std::string_view verifier, std::string_view salt);

}  // namespace tessera::postgres
