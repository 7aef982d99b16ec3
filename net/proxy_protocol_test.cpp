#include "net/proxy_protocol.hpp"

#include <gtest/gtest.h>

namespace tessera::net {
namespace {

using Status = ProxyHeader::Status;

std::string version_2(char command, char family, std::string_view body) {
  std::string header("\r\n\r\n\0\r\nQUIT\n", 12);
  header += {command, family, static_cast<char>(body.size() >> 8), static_cast<char>(body.size())};
  return header + std::string(body);
}

// Complete only as a whole, whatever follows it; nothing shorter is taken for it or for garbage.
void expect_header(const std::string& header, const std::string& client) {
  for (std::size_t size = 0; size < header.size(); ++size)
    EXPECT_EQ(read_proxy_header(std::string_view(header).substr(0, size)).status, Status::need_more) << size;
  for (const std::string& rest : {std::string(), std::string("\0\0\0\x08", 4), std::string(5000, 'x')}) {
    const ProxyHeader read = read_proxy_header(header + rest);
    EXPECT_EQ(read.status, Status::complete);
    EXPECT_EQ(read.size, header.size());
    EXPECT_EQ(read.client, client);
  }
}

TEST(ProxyProtocol, version_1) {
  expect_header("PROXY TCP4 192.0.2.7 198.51.100.1 56324 6432\r\n", "192.0.2.7");
  expect_header("PROXY TCP6 2001:db8::7 ::1 1 65535\r\n", "2001:db8::7");
  expect_header("PROXY TCP6 0:0:0:0:0:0:0:1 ::1 1 2\r\n", "::1");  // one spelling, or limits by address count twice
  expect_header("PROXY UNKNOWN\r\n", "");
  expect_header("PROXY UNKNOWN ffff:f...f:ffff 1 2\r\n", "");
}

TEST(ProxyProtocol, version_2) {
  const std::string ports("\x12\x34\x19\x20", 4);
  const std::string four = std::string("\xC0\x00\x02\x07\x7F\x00\x00\x01", 8) + ports;
  std::string six(36, '\0');
  six[0] = '\x20', six[1] = '\x01', six[15] = '\x07';
  expect_header(version_2('\x21', '\x11', four), "192.0.2.7");
  expect_header(version_2('\x21', '\x11', four + std::string(40, '\1')), "192.0.2.7");  // extensions
  expect_header(version_2('\x21', '\x21', six), "2001::7");
  expect_header(version_2('\x20', '\0', ""), "");                        // LOCAL
  expect_header(version_2('\x21', '\0', ""), "");                        // UNSPEC
  expect_header(version_2('\x21', '\x31', std::string(216, '\0')), "");  // Unix socket
}

TEST(ProxyProtocol, garbage) {
  for (const std::string& bytes :
       {std::string("GET / HTTP/1.1\r\n"), std::string("\0\0\0\x08\x04\xd2\x16\x2f", 8), std::string("PROXX"),
        std::string("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n"), std::string("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n"),
        std::string("PROXY TCP4 ::1 1.2.3.4 1 2\r\n"), std::string("PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n"),
        std::string("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n"), std::string("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"),
        std::string("PROXY TCP4 1.2.3.4\0x 1.2.3.4 1 2\r\n", 34), std::string("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"),
        "PROXY UNKNOWN " + std::string(100, 'x'), version_2('\x31', '\x11', std::string(12, '\0')),
        version_2('\x22', '\x11', std::string(12, '\0')), version_2('\x21', '\x11', std::string(11, '\0')),
        version_2('\x21', '\x41', std::string(12, '\0')), version_2('\x21', '\x21', std::string(35, '\0')),
        version_2('\x21', '\x11', std::string(5000, '\0'))})
    EXPECT_EQ(read_proxy_header(bytes).status, Status::malformed) << bytes.substr(0, 40);
}

}  // namespace
}  // namespace tessera::net
