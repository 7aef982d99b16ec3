#include "net/proxy_protocol.hpp"

#include <arpa/inet.h>
#include <charconv>
#include <optional>

namespace tessera::net {

namespace {

using Status = ProxyHeader::Status;

constexpr std::string_view signature_2("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr std::string_view signature_1 = "PROXY ";
constexpr std::size_t longest_1 = 107;
constexpr std::size_t header_2 = 16;

bool begins(std::string_view bytes, std::string_view signature) {
  return bytes.substr(0, signature.size()) == signature.substr(0, bytes.size());
}

std::string_view next_word(std::string_view& line) {
  const std::size_t end = line.find(' ');
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(end == std::string_view::npos ? line.size() : end + 1);
  return word;
}

// In its one spelling. Empty: it is no address; a zero byte would hide what follows from inet_pton.
std::string address(int family, std::string_view text) {
  unsigned char bytes[16];
  char spelling[INET6_ADDRSTRLEN] = {};
  if (text.find('\0') != std::string_view::npos || ::inet_pton(family, std::string(text).c_str(), bytes) != 1)
    return {};
  return ::inet_ntop(family, bytes, spelling, sizeof spelling);
}

bool is_port(std::string_view text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() && value <= 65535;
}

ProxyHeader read_version_1(std::string_view bytes) {
  const std::string_view head = bytes.substr(0, longest_1);
  const std::size_t end = head.find('\n');
  if (end == std::string_view::npos) return {head.size() < longest_1 ? Status::need_more : Status::malformed, 0, {}};
  if (end == 0 || head[end - 1] != '\r') return {Status::malformed, 0, {}};
  ProxyHeader header{Status::complete, end + 1, {}};
  std::string_view line = head.substr(signature_1.size(), end - 1 - signature_1.size());
  const std::string_view kind = next_word(line);
  if (kind == "UNKNOWN") return header;
  const std::optional<int> family = kind == "TCP4"   ? std::optional(AF_INET)
                                    : kind == "TCP6" ? std::optional(AF_INET6)
                                                     : std::nullopt;
  if (!family) return {Status::malformed, 0, {}};
  header.client = address(*family, next_word(line));
  const std::string target = address(*family, next_word(line));
  const std::string_view from_port = next_word(line);
  if (header.client.empty() || target.empty() || !is_port(from_port) || !is_port(line))
    return {Status::malformed, 0, {}};
  return header;
}

ProxyHeader read_version_2(std::string_view bytes) {
  if (bytes.size() < header_2) return {};
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const std::size_t length = static_cast<std::size_t>(at(14)) << 8 | at(15);
  const unsigned version = at(12) >> 4, command = at(12) & 15u;
  if (version != 2 || command > 1 || header_2 + length > max_proxy_header) return {Status::malformed, 0, {}};
  if (bytes.size() < header_2 + length) return {};
  ProxyHeader header{Status::complete, header_2 + length, {}};
  if (command == 0) return header;
  const unsigned family = at(13) >> 4;  // the low half is the transport
  const std::size_t needed = family == 1 ? 12 : family == 2 ? 36 : family == 3 ? 216 : 0;
  if (family > 3 || length < needed) return {Status::malformed, 0, {}};
  char text[INET6_ADDRSTRLEN] = {};
  if (family == 1 || family == 2)
    header.client = ::inet_ntop(family == 1 ? AF_INET : AF_INET6, bytes.data() + header_2, text, sizeof text);
  return header;
}

}  // namespace

ProxyHeader read_proxy_header(std::string_view bytes) {
  if (bytes.empty()) return {};
  if (begins(bytes, signature_1)) return bytes.size() < signature_1.size() ? ProxyHeader{} : read_version_1(bytes);
  if (begins(bytes, signature_2)) return bytes.size() < signature_2.size() ? ProxyHeader{} : read_version_2(bytes);
  return {Status::malformed, 0, {}};
}

}  // namespace tessera::net
