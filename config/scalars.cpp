#include "config/scalars.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <charconv>
#include <fmt/core.h>
#include <limits>

namespace tessera::config {
namespace {

template <typename Number>
std::optional<Number> whole(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};
constexpr std::array<Unit, 5> duration_units{
    {{"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1'000}, {"ms", 1}}};
constexpr std::array<Unit, 10> size_units{{{"TB", 1ull << 40},
                                           {"GB", 1ull << 30},
                                           {"MB", 1ull << 20},
                                           {"kB", 1ull << 10},
                                           {"B", 1},
                                           {"KB", 1ull << 10},
                                           {"KiB", 1ull << 10},
                                           {"MiB", 1ull << 20},
                                           {"GiB", 1ull << 30},
                                           {"TiB", 1ull << 40}}};

// A number with one of the units, no larger than `most`.
template <std::size_t N>
std::optional<std::uint64_t> with_unit(std::string_view text, const std::array<Unit, N>& units, std::uint64_t most) {
  const auto split = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = whole<std::uint64_t>(text.substr(0, split));
  if (!number) return std::nullopt;
  for (const Unit& unit : units) {
    if (unit.name != text.substr(split)) continue;
    if (*number > most / unit.factor) return std::nullopt;
    return *number * unit.factor;
  }
  return std::nullopt;
}

bool is_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return false;
  const auto padding = std::min(text.find('='), text.size());
  if (text.size() - padding > 2 || text.substr(padding).find_first_not_of('=') != text.npos) return false;
  return text.substr(0, padding)
             .find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") == text.npos;
}

std::optional<Address> address_of(std::string_view host, std::string_view port) {
  const auto number = whole<std::uint16_t>(port);
  if (!number || host.empty()) return std::nullopt;
  return Address{std::string(host), *number};
}

}  // namespace

std::optional<Milliseconds> parse_duration(std::string_view text) {
  if (text == "0") return Milliseconds(0);
  constexpr std::uint64_t ten_years = 3650 * duration_units[0].factor;
  const auto value = with_unit(text, duration_units, ten_years);
  if (!value) return std::nullopt;
  return Milliseconds(static_cast<std::int64_t>(*value));
}

std::string duration_text(Milliseconds duration) {
  const auto count = static_cast<std::uint64_t>(duration.count());
  if (count == 0) return "0";
  const auto unit =
      std::find_if(duration_units.begin(), duration_units.end(), [&](const Unit& u) { return count % u.factor == 0; });
  return fmt::format("{}{}", count / unit->factor, unit->name);
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  if (const auto plain = whole<std::uint64_t>(text)) return plain;
  return with_unit(text, size_units, std::numeric_limits<std::uint64_t>::max());
}

std::string size_text(std::uint64_t bytes) {
  if (bytes == 0) return "0";
  const auto unit =
      std::find_if(size_units.begin(), size_units.end(), [&](const Unit& u) { return bytes % u.factor == 0; });
  return fmt::format("{}{}", bytes / unit->factor, unit->name);
}

std::optional<std::int64_t> parse_integer(std::string_view text) {
  return whole<std::int64_t>(text);
}

std::optional<Address> parse_address(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == text.npos) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  if (host.starts_with('[')) {
    if (!host.ends_with(']')) return std::nullopt;
    host = host.substr(1, host.size() - 2);
    in6_addr parsed;
    if (inet_pton(AF_INET6, std::string(host).c_str(), &parsed) != 1) return std::nullopt;
    return address_of(host, port);
  }
  if (host.starts_with('/')) return address_of(host, port);
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
  if (host.find_first_not_of(allowed) != host.npos) return std::nullopt;
  return address_of(host, port);
}

bool is_loopback(const Address& address) {
  if (address.host.starts_with('/') || address.host == "localhost") return true;
  in_addr v4;
  if (inet_pton(AF_INET, address.host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6;
  return inet_pton(AF_INET6, address.host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

bool is_network(std::string_view text) {
  const auto slash = std::min(text.find('/'), text.size());
  const std::string address(text.substr(0, slash));
  std::array<unsigned char, 16> parsed;
  int bits = 0;
  if (inet_pton(AF_INET, address.c_str(), parsed.data()) == 1) bits = 32;
  if (bits == 0 && inet_pton(AF_INET6, address.c_str(), parsed.data()) == 1) bits = 128;
  if (bits == 0) return false;
  if (slash == text.size()) return true;
  const auto prefix = whole<unsigned>(text.substr(slash + 1));
  return prefix && *prefix <= static_cast<unsigned>(bits);
}

bool is_endpoint(std::string_view text) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!text.starts_with(scheme)) continue;
    const auto address = parse_address(text.substr(scheme.size()));
    return address && address->port != 0 && !address->host.starts_with('/');
  }
  return false;
}

bool is_scram_verifier(std::string_view text) {
  constexpr std::string_view prefix = "SCRAM-SHA-256$";
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  const auto colon = text.find(':');
  const auto dollar = text.find('$');
  const auto last = text.rfind(':');
  if (colon == text.npos || dollar == text.npos || colon > dollar || last < dollar) return false;
  const auto iterations = whole<std::uint32_t>(text.substr(0, colon));
  // The keys are SHA-256 digests: 32 bytes are 44 characters of base64.
  const std::string_view stored = text.substr(dollar + 1, last - dollar - 1);
  const std::string_view server = text.substr(last + 1);
  return iterations && *iterations > 0 && is_base64(text.substr(colon + 1, dollar - colon - 1)) &&
         stored.size() == 44 && is_base64(stored) && server.size() == 44 && is_base64(server);
}

bool is_md5_verifier(std::string_view text) {
  return text.size() == 35 && text.starts_with("md5") &&
         text.substr(3).find_first_not_of("0123456789abcdef") == text.npos;
}

namespace {
// From one double quote to the next; a doubled one between them stands for itself.
bool take_quoted(std::string_view& text, std::string& part) {
  for (std::size_t i = 1; i < text.size(); ++i) {
    const bool quote = text[i] == '"';
    if (quote && !text.substr(i + 1).starts_with('"')) {
      text.remove_prefix(i + 1);
      return true;
    }
    if (quote) ++i;
    part += text[i];
  }
  return false;
}
}  // namespace

std::optional<TableName> parse_table_name(std::string_view text) {
  std::array<std::string, 2> parts;
  std::size_t count = 0;
  while (count < parts.size()) {
    std::string& part = parts[count++];
    const bool quoted = text.starts_with('"');
    if (quoted) {
      if (!take_quoted(text, part)) return std::nullopt;
    } else {
      const auto end = std::min(text.find('.'), text.size());
      part = text.substr(0, end);
      text.remove_prefix(end);
    }
    if (part.empty() || (!quoted && part.contains('"'))) return std::nullopt;
    if (text.empty()) break;
    if (!text.starts_with('.')) return std::nullopt;
    text.remove_prefix(1);
    if (text.empty() || count == parts.size()) return std::nullopt;
  }
  if (count == 1) return TableName{{}, std::move(parts[0])};
  return TableName{std::move(parts[0]), std::move(parts[1])};
}

std::string table_name_text(const TableName& name) {
  const auto part = [](const std::string& text) {
    if (text.find_first_of(".\"") == text.npos) return text;
    std::string quoted = "\"";
    for (const char c : text) quoted.append(c == '"' ? 2 : 1, c);
    return quoted + '"';
  };
  return name.schema.empty() ? part(name.name) : part(name.schema) + "." + part(name.name);
}

}  // namespace tessera::config
