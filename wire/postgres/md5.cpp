#include "wire/postgres/md5.hpp"

#include <algorithm>

#include "base/crypto.hpp"

namespace tessera::postgres {

namespace {
constexpr std::string_view prefix = "md5";

Result<std::string> prefixed_md5(std::string_view first, std::string_view second) {
  const auto digest = md5(std::string(first).append(second));
  if (!digest) return std::unexpected(digest.error());
  return std::string(prefix) + hex(as_view(*digest));
}
}  // namespace

bool is_md5_verifier(std::string_view text) {
  const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return text.size() == 35 && text.starts_with(prefix) && std::ranges::all_of(text.substr(3), is_hex);
}

Result<std::string> md5_verifier(std::string_view password, std::string_view user) {
  return prefixed_md5(password, user);
}

Result<std::string> md5_response(std::string_view verifier, std::string_view salt) {
  if (!is_md5_verifier(verifier)) return fail(sqlstate::internal_error, "not an md5 password verifier");
  return prefixed_md5(verifier.substr(prefix.size()), salt);
}

}  // namespace tessera::postgres
