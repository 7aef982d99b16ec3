// The small notations of the configuration: text to value and back. Pure functions; no value: not written that way.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "config/config.hpp"

namespace tessera::config {

// "0", or a whole number directly followed by ms, s, m, h or d; at most ten years.
std::optional<Milliseconds> parse_duration(std::string_view text);
std::string duration_text(Milliseconds duration);  // in the largest unit that divides it

// Bytes: a whole number, alone or followed by B, kB, KB, MB, GB, TB or KiB, MiB, GiB, TiB. As in PostgreSQL's settings,
// 1 kB is 1024 bytes.
std::optional<std::uint64_t> parse_size(std::string_view text);
std::string size_text(std::uint64_t bytes);

// Decimal, with an optional minus; nothing before or after.
std::optional<std::int64_t> parse_integer(std::string_view text);

// "host:port", "[v6]:port", "/socket/folder:port". Port 0 to 65535.
std::optional<Address> parse_address(std::string_view text);
// 127.0.0.0/8, ::1, the name localhost, a Unix socket.
bool is_loopback(const Address& address);

// An IPv4 or IPv6 network such as 10.0.0.0/8, or a single address.
bool is_network(std::string_view text);

// "http://host:port" or "https://host:port", without a path.
bool is_endpoint(std::string_view text);

// A verifier as pg_authid keeps it: "SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>".
bool is_scram_verifier(std::string_view text);
// "md5" and 32 hexadecimal digits.
bool is_md5_verifier(std::string_view text);

// "schema.table" or "table", where a part that holds a dot or a double quote (doubled) stands in double quotes. The
// schema is empty if not given.
struct TableName {
  std::string schema;
  std::string name;
};
std::optional<TableName> parse_table_name(std::string_view text);
std::string table_name_text(const TableName& name);  // the inverse

}  // namespace tessera::config
