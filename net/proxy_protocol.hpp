// The PROXY protocol, versions 1 and 2 (haproxy.org, doc/proxy-protocol.txt): a load balancer in front of us says at
// the very beginning of a connection who its client is. Reading only, pure. Whether a header is believed is the
// caller's business: a peer that is trusted must send one, anybody else's is garbage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tessera::net {

// The longest header that is read. Version 1 has 107 bytes at most; version 2 may carry extensions, which are skipped.
inline constexpr std::size_t max_proxy_header = 4096;

struct ProxyHeader {
  enum class Status : std::uint8_t { complete, need_more, malformed };
  Status status = Status::need_more;
  std::size_t size = 0;  // complete: bytes to skip
  // complete: the client's numeric address. Empty: the connection is the balancer's own (LOCAL, a health check), or the
  // address is of a kind that we do not know (UNKNOWN, Unix sockets): the peer's own address counts.
  std::string client;
};

ProxyHeader read_proxy_header(std::string_view bytes);

}  // namespace tessera::net
