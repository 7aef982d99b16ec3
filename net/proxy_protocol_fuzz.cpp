// A balancer's first bytes: nothing is read past the end, a header that is complete lies inside what was given and
// stays what it is with more behind it, and of one that is cut off nothing is believed.
#include <cstdlib>
#include <cstring>
#include <memory>

#include "net/proxy_protocol.hpp"
#include "net/socket.hpp"

using tessera::net::ProxyHeader;
using tessera::net::read_proxy_header;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

// From a block of exactly this size, so that the sanitizer sees a read past it.
ProxyHeader read(std::string_view bytes) {
  const std::unique_ptr<char[]> copy(new char[bytes.size()]);
  if (!bytes.empty()) std::memcpy(copy.get(), bytes.data(), bytes.size());
  return read_proxy_header({copy.get(), bytes.size()});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const ProxyHeader header = read(bytes);
  if (header.status != ProxyHeader::Status::complete) {
    require(header.client.empty());
    require(header.status == ProxyHeader::Status::malformed || size <= tessera::net::max_proxy_header);
    return 0;
  }
  require(header.size > 0 && header.size <= size);
  require(header.client.size() <= 45 && header.client.find('\0') == std::string::npos);
  if (!header.client.empty()) require(tessera::net::in_networks(header.client, {header.client}));
  const ProxyHeader alone = read(bytes.substr(0, header.size));
  require(alone.status == ProxyHeader::Status::complete && alone.size == header.size && alone.client == header.client);
  for (std::size_t cut = header.size > 64 ? header.size - 64 : 0; cut < header.size; ++cut)
    require(read(bytes.substr(0, cut)).status == ProxyHeader::Status::need_more);
  return 0;
}
