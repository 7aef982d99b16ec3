// MD5 and CRC-32 (the zlib polynomial) of short texts: sharding functions that PostgreSQL and MySQL both have. Written
// here, since a key must be hashed without an allocation, without a failure and wherever a policy forbids MD5 in the
// cryptographic library. Neither protects anything.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace tessera::router {

std::array<std::uint8_t, 16> md5(std::string_view text);
std::uint32_t crc32(std::string_view text);

}  // namespace tessera::router
