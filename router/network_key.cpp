#include "router/network_key.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <charconv>
#include <fmt/core.h>
#include <sys/socket.h>

namespace tessera::router::network {
namespace {

constexpr char family_v4 = 2;
constexpr char family_v6 = 3;

int bits_of(std::string_view bytes) {
  return static_cast<unsigned char>(bytes[1]);
}

// Order of the first `bits` bits of two addresses.
int compare_prefix(std::string_view a, std::string_view b, int bits) {
  const auto whole = static_cast<std::size_t>(bits / 8);
  if (const int order = a.substr(0, whole).compare(b.substr(0, whole)); order != 0) return order;
  if (bits % 8 == 0) return 0;
  const int shift = 8 - bits % 8;
  return (static_cast<unsigned char>(a[whole]) >> shift) - (static_cast<unsigned char>(b[whole]) >> shift);
}

}  // namespace

bool parse_macaddr(std::string_view text, std::string& bytes) {
  if (text.size() != 17) return false;
  const char separator = text[2];
  if (separator != ':' && separator != '-') return false;
  std::string parsed;
  for (std::size_t at = 0; at < text.size(); at += 3) {
    if (at != 0 && text[at - 1] != separator) return false;
    unsigned value = 0;
    const char* end = text.data() + at + 2;
    const auto [stop, error] = std::from_chars(text.data() + at, end, value, 16);
    if (error != std::errc{} || stop != end) return false;
    parsed += static_cast<char>(value);
  }
  bytes = std::move(parsed);
  return true;
}

std::string macaddr_text(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    text += fmt::format("{}{:02x}", text.empty() ? "" : ":", static_cast<unsigned char>(byte));
  }
  return text;
}

bool parse_inet(std::string_view text, std::string& bytes) {
  const std::size_t slash = text.find('/');
  const std::string address{text.substr(0, slash)};
  const bool v6 = address.contains(':');
  std::array<char, 16> raw{};
  if (address.contains('\0') || inet_pton(v6 ? AF_INET6 : AF_INET, address.c_str(), raw.data()) != 1) return false;
  const int most = v6 ? 128 : 32;
  int bits = most;
  if (slash != std::string_view::npos) {
    const std::string_view digits = text.substr(slash + 1);
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, bits);
    if (error != std::errc{} || stop != end || bits < 0 || bits > most) return false;
  }
  bytes = {v6 ? family_v6 : family_v4, static_cast<char>(bits)};
  bytes.append(raw.data(), v6 ? 16 : 4);
  return true;
}

bool inet_from_binary(std::string_view wire, std::string& bytes) {
  // family, bits, is_cidr, address length, address
  if (wire.size() != 8 && wire.size() != 20) return false;
  const bool v6 = wire.size() == 20;
  if (wire[0] != (v6 ? family_v6 : family_v4) || bits_of(wire) > (v6 ? 128 : 32)) return false;
  if (wire[2] != 0 || static_cast<unsigned char>(wire[3]) != wire.size() - 4) return false;
  bytes = wire.substr(0, 2);
  bytes += wire.substr(4);
  return true;
}

std::string inet_text(std::string_view bytes) {
  const bool v6 = bytes[0] == family_v6;
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  if (inet_ntop(v6 ? AF_INET6 : AF_INET, bytes.data() + 2, buffer.data(), buffer.size()) == nullptr) return {};
  std::string text = buffer.data();
  if (bits_of(bytes) != (v6 ? 128 : 32)) text += fmt::format("/{}", bits_of(bytes));
  return text;
}

// The server's order (network_cmp): family, the common prefix, its length, the whole address.
int compare_inet(std::string_view a, std::string_view b) {
  if (a[0] != b[0]) return a[0] - b[0];
  const int bits_a = bits_of(a);
  const int bits_b = bits_of(b);
  const std::string_view address_a = a.substr(2);
  const std::string_view address_b = b.substr(2);
  if (const int order = compare_prefix(address_a, address_b, std::min(bits_a, bits_b)); order != 0) return order;
  if (bits_a != bits_b) return bits_a - bits_b;
  return address_a.compare(address_b);
}

}  // namespace tessera::router::network
