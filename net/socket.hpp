// Sockets as owned descriptors, and the few system calls around them. All sockets are non-blocking and close-on-exec.
#pragma once

#include <cstdint>
#include <string>
#include <sys/socket.h>
#include <utility>
#include <vector>

#include "base/error.hpp"

namespace tessera::net {

// Owns a file descriptor.
class Descriptor {
public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~Descriptor() { reset(); }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);

private:
  int fd_ = -1;
};

// A resolved address, ready for bind and connect.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  bool is_unix() const { return storage.ss_family == AF_UNIX; }
  // "127.0.0.1:5432", "[::1]:5432", "/tmp/.s.PGSQL.5432" or "local" for an unnamed peer.
  std::string text() const;
  // The address without its port; what per-address limits and `from` networks look at. Empty for a Unix socket.
  std::string host() const;
};

// Resolves host:port. BLOCKS on DNS for names: control threads only; numeric addresses and socket directories ("/tmp",
// PostgreSQL's naming .s.PGSQL.<port> inside) never block. All addresses in the resolver's order.
Result<std::vector<SocketAddress>> resolve(const std::string& host, std::uint16_t port);
// Is this something to look up, neither an address nor a directory of Unix sockets?
bool is_name(const std::string& host);
// In whatever order: name services turn their answers round.
bool same_addresses(const std::vector<SocketAddress>& a, const std::vector<SocketAddress>& b);

// Does this machine have the address? (::1 where there is no IPv6: no.)
bool is_available(const SocketAddress& address);

// Listening sockets that another process has handed to this one: `listen` takes one of these if its address is the one
// asked for. Once, before any thread is made; an empty list closes those that are left.
void inherit(std::vector<Descriptor> sockets);

// A listening socket (SO_REUSEADDR). The file of a Unix socket on which nobody listens any more is replaced. The error
// names the address and says who may hold it.
Result<Descriptor> listen(const SocketAddress& address, int backlog);
// The file of a Unix socket; empty for others.
std::string socket_file(int fd);
// Starts to connect; the socket becomes writable when it is done, and `connect_error` then says how it went.
Result<Descriptor> connect(const SocketAddress& address);
int connect_error(int fd);  // 0: connected
// Takes one waiting connection; an empty Descriptor when none waits. errno is kept for the caller when accept fails.
Descriptor accept(int listener, SocketAddress& peer);

void set_no_delay(int fd);
void set_keep_alive(int fd);

// Is `host` (numeric) inside the network "10.0.0.0/8", "::1/128" or a single address? False for malformed input.
bool in_network(const std::string& host, const std::string& network);
bool in_networks(const std::string& host, const std::vector<std::string>& networks);

// Raises the soft limit of open files to the hard one and returns it.
std::uint64_t raise_file_limit();

}  // namespace tessera::net
