#include "net/socket.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <memory>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <set>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace tessera::net {

void Descriptor::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

namespace {

Result<SocketAddress> unix_address(const std::string& directory, std::uint16_t port) {
  SocketAddress address;
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  const std::string path = fmt::format("{}/.s.PGSQL.{}", directory, port);
  if (path.size() >= sizeof name.sun_path)
    return fail(sqlstate::config_file_error, fmt::format("the socket path \"{}\" is too long", path),
                fmt::format("at most {} characters", sizeof name.sun_path - 1));
  std::memcpy(name.sun_path, path.c_str(), path.size() + 1);
  std::memcpy(&address.storage, &name, sizeof name);
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return address;
}

void set_flag(int fd, int level, int option) {
  const int on = 1;
  ::setsockopt(fd, level, option, &on, sizeof on);
}

}  // namespace

std::string SocketAddress::host() const {
  char text[INET6_ADDRSTRLEN] = {};
  if (storage.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(storage);
    ::inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
  } else if (storage.ss_family == AF_INET6) {
    const auto& in = reinterpret_cast<const sockaddr_in6&>(storage);
    if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr))
      ::inet_ntop(AF_INET, &in.sin6_addr.s6_addr[12], text, sizeof text);
    else
      ::inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
  }
  return text;
}

std::string SocketAddress::text() const {
  if (storage.ss_family == AF_INET)
    return fmt::format("{}:{}", host(), ntohs(reinterpret_cast<const sockaddr_in&>(storage).sin_port));
  if (storage.ss_family == AF_INET6)
    return fmt::format("[{}]:{}", host(), ntohs(reinterpret_cast<const sockaddr_in6&>(storage).sin6_port));
  const auto& un = reinterpret_cast<const sockaddr_un&>(storage);
  return length > offsetof(sockaddr_un, sun_path) && un.sun_path[0] != 0 ? un.sun_path : "local";
}

Result<std::vector<SocketAddress>> resolve(const std::string& host, std::uint16_t port) {
  if (host.starts_with('/')) {
    Result<SocketAddress> address = unix_address(host, port);
    if (!address) return std::unexpected(address.error());
    return std::vector{*address};
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0)
    return fail(sqlstate::connection_failure,
                fmt::format("cannot resolve host \"{}\": {}", host, ::gai_strerror(code)));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    SocketAddress& address = addresses.emplace_back();
    std::memcpy(&address.storage, info->ai_addr, info->ai_addrlen);
    address.length = info->ai_addrlen;
  }
  return addresses;
}

bool is_name(const std::string& host) {
  in6_addr any{};
  return !host.starts_with('/') && ::inet_pton(AF_INET, host.c_str(), &any) != 1 &&
         ::inet_pton(AF_INET6, host.c_str(), &any) != 1;
}

bool same_addresses(const std::vector<SocketAddress>& a, const std::vector<SocketAddress>& b) {
  const auto texts = [](const std::vector<SocketAddress>& addresses) {
    std::set<std::string> all;
    for (const SocketAddress& address : addresses) all.insert(address.text());
    return all;
  };
  return texts(a) == texts(b);
}

bool is_available(const SocketAddress& address) {
  if (address.is_unix()) return true;
  SocketAddress any_port = address;
  if (any_port.storage.ss_family == AF_INET)
    reinterpret_cast<sockaddr_in&>(any_port.storage).sin_port = 0;
  else
    reinterpret_cast<sockaddr_in6&>(any_port.storage).sin6_port = 0;
  const Descriptor fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return errno != EAFNOSUPPORT;
  return ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&any_port.storage), any_port.length) == 0 ||
         errno != EADDRNOTAVAIL;
}

namespace {

std::vector<Descriptor>& inherited() {
  static std::vector<Descriptor> sockets;
  return sockets;
}

std::string name_of(int fd) {
  SocketAddress address;
  address.length = sizeof address.storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) return {};
  return address.text();
}

Descriptor take_inherited(const SocketAddress& address) {
  std::vector<Descriptor>& all = inherited();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Descriptor& fd) { return name_of(fd.get()) == address.text(); });
  if (found == all.end()) return Descriptor();
  Descriptor taken = std::move(*found);
  all.erase(found);
  return taken;
}

// The file of a process that was killed: it is there, and nobody answers.
void remove_stale_file(const SocketAddress& address) {
  const std::string path = address.text();
  struct stat file{};
  if (::lstat(path.c_str(), &file) != 0 || !S_ISSOCK(file.st_mode)) return;
  const Descriptor fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int answered = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length);
  if (answered != 0 && errno == ECONNREFUSED) ::unlink(path.c_str());
}

}  // namespace

void inherit(std::vector<Descriptor> sockets) {
  for (const Descriptor& fd : sockets) {
    ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
    ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
  }
  inherited() = std::move(sockets);
}

std::string socket_file(int fd) {
  const std::string name = name_of(fd);
  return name.starts_with('/') ? name : std::string();
}

Result<Descriptor> listen(const SocketAddress& address, int backlog) {
  if (Descriptor given = take_inherited(address)) return given;
  if (address.is_unix()) remove_stale_file(address);
  Descriptor fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const auto failed = [&](const char* what) {
    const int code = errno;
    return fail(sqlstate::cannot_connect_now,
                fmt::format("cannot {} {}: {}", what, address.text(), std::strerror(code)),
                code == EADDRINUSE ? "another process listens on this address; stop it or choose another port" : "");
  };
  if (!fd) return failed("open a socket for");
  if (!address.is_unix()) set_flag(fd.get(), SOL_SOCKET, SO_REUSEADDR);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0)
    return failed("listen on");
  if (::listen(fd.get(), backlog) != 0) return failed("listen on");
  return fd;
}

Result<Descriptor> connect(const SocketAddress& address) {
  Descriptor fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd) {
    if (!address.is_unix()) {
      set_no_delay(fd.get());
      set_keep_alive(fd.get());
    }
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) == 0) return fd;
    if (errno == EINPROGRESS) return fd;
  }
  return fail(sqlstate::connection_failure,
              fmt::format("cannot connect to {}: {}", address.text(), std::strerror(errno)));
}

int connect_error(int fd) {
  int code = 0;
  socklen_t length = sizeof code;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) != 0) return errno;
  return code;
}

Descriptor accept(int listener, SocketAddress& peer) {
  peer.length = sizeof peer.storage;
  Descriptor fd(
      ::accept4(listener, reinterpret_cast<sockaddr*>(&peer.storage), &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC));
  return fd;
}

void set_no_delay(int fd) {
  set_flag(fd, IPPROTO_TCP, TCP_NODELAY);
}
void set_keep_alive(int fd) {
  set_flag(fd, SOL_SOCKET, SO_KEEPALIVE);
}

bool in_network(const std::string& host, const std::string& network) {
  const std::size_t slash = network.find('/');
  const std::string base = network.substr(0, slash);
  unsigned char wanted[16] = {}, given[16] = {};
  const int family = base.find(':') == std::string::npos ? AF_INET : AF_INET6;
  const int bits_of_family = family == AF_INET ? 32 : 128;
  if (::inet_pton(family, base.c_str(), wanted) != 1 || ::inet_pton(family, host.c_str(), given) != 1) return false;
  int bits = bits_of_family;
  if (slash != std::string::npos) {
    const char* end = network.data() + network.size();
    const auto [at, error] = std::from_chars(network.data() + slash + 1, end, bits);
    if (error != std::errc{} || at != end || bits < 0 || bits > bits_of_family) return false;
  }
  const auto whole = static_cast<std::size_t>(bits / 8);
  if (std::memcmp(wanted, given, whole) != 0) return false;
  const int left = bits % 8;
  return left == 0 || ((wanted[whole] ^ given[whole]) >> (8 - left)) == 0;
}

bool in_networks(const std::string& host, const std::vector<std::string>& networks) {
  return std::any_of(networks.begin(), networks.end(),
                     [&](const std::string& network) { return in_network(host, network); });
}

std::uint64_t raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

}  // namespace tessera::net
