// Addresses, networks and the calls around them.
#include "net/socket.hpp"

#include <cstring>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/un.h>
#include <unistd.h>

namespace tessera::net {
namespace {

TEST(InNetwork, Ipv4) {
  EXPECT_TRUE(in_network("10.1.2.3", "10.0.0.0/8"));
  EXPECT_FALSE(in_network("11.1.2.3", "10.0.0.0/8"));
  EXPECT_TRUE(in_network("192.168.1.127", "192.168.1.0/25"));
  EXPECT_FALSE(in_network("192.168.1.128", "192.168.1.0/25"));
  EXPECT_TRUE(in_network("1.2.3.4", "0.0.0.0/0"));
  EXPECT_TRUE(in_network("1.2.3.4", "1.2.3.4/32"));
  EXPECT_FALSE(in_network("1.2.3.5", "1.2.3.4/32"));
  EXPECT_TRUE(in_network("1.2.3.4", "1.2.3.4"));
  EXPECT_FALSE(in_network("1.2.3.5", "1.2.3.4"));
  EXPECT_TRUE(in_network("10.255.0.1", "10.1.2.3/8")) << "bits behind the prefix do not count";
}

TEST(InNetwork, Ipv6) {
  EXPECT_TRUE(in_network("::1", "::1/128"));
  EXPECT_FALSE(in_network("::2", "::1/128"));
  EXPECT_TRUE(in_network("2001:db8:1::5", "2001:db8::/32"));
  EXPECT_FALSE(in_network("2001:db9::5", "2001:db8::/32"));
  EXPECT_TRUE(in_network("fe80::1", "::/0"));
  EXPECT_TRUE(in_network("2001:db8:8000::", "2001:db8:8000::/33"));
  EXPECT_FALSE(in_network("2001:db8:7fff::", "2001:db8:8000::/33"));
}

TEST(InNetwork, FamiliesDoNotMix) {
  EXPECT_FALSE(in_network("10.0.0.1", "::/0"));
  EXPECT_FALSE(in_network("::1", "0.0.0.0/0"));
}

TEST(InNetwork, MalformedMeansOutside) {
  for (const char* network : {"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x", "10.0.0.0/ 8",
                              "10.0.0/8", "::/129", "localhost", "10.0.0.0/99999999999999999999", "10.0.0.0/8/8"})
    EXPECT_FALSE(in_network("10.0.0.0", network)) << network;
  for (const char* host : {"", "localhost", "10.0.0", "10.0.0.0.0", "10.0.0.0 ", "10.0.0.256"})
    EXPECT_FALSE(in_network(host, "0.0.0.0/0")) << host;
}

// Every prefix length against arithmetic.
TEST(InNetwork, EveryPrefixLength) {
  const auto text = [](std::uint32_t address) {
    return std::to_string(address >> 24) + '.' + std::to_string(address >> 16 & 255) + '.' +
           std::to_string(address >> 8 & 255) + '.' + std::to_string(address & 255);
  };
  const std::uint32_t base = 0xc0a8'15aa;
  for (int bits = 0; bits <= 32; ++bits) {
    for (int flip = 0; flip < 32; ++flip) {
      const std::uint32_t other = base ^ (1u << (31 - flip));
      EXPECT_EQ(in_network(text(other), text(base) + '/' + std::to_string(bits)), flip >= bits) << bits << ' ' << flip;
    }
  }
}

TEST(SocketAddress, Text) {
  EXPECT_EQ(resolve("127.0.0.1", 5432).value().front().text(), "127.0.0.1:5432");
  EXPECT_EQ(resolve("127.0.0.1", 5432).value().front().host(), "127.0.0.1");
  EXPECT_EQ(resolve("::1", 1).value().front().text(), "[::1]:1");
  EXPECT_EQ(resolve("::ffff:10.0.0.1", 1).value().front().host(), "10.0.0.1")
      << "a mapped address is the address that it maps";
  const SocketAddress local = resolve("/tmp", 5432).value().front();
  EXPECT_EQ(local.text(), "/tmp/.s.PGSQL.5432");
  EXPECT_EQ(local.host(), "");
  EXPECT_TRUE(local.is_unix());
  SocketAddress unnamed;
  unnamed.storage.ss_family = AF_UNIX;
  unnamed.length = sizeof(sa_family_t);
  EXPECT_EQ(unnamed.text(), "local");
}

TEST(SocketAddress, UnixPathsAreBounded) {
  const std::string suffix = "/.s.PGSQL.1";
  const std::size_t most = sizeof(sockaddr_un{}.sun_path) - 1 - suffix.size();
  EXPECT_TRUE(resolve("/" + std::string(most - 1, 'x'), 1));
  const auto refused = resolve("/" + std::string(most, 'x'), 1);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("too long"));
}

TEST(SocketAddress, UnknownNames) {
  const auto refused = resolve("no.such.host.invalid", 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, sqlstate::connection_failure);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("\"no.such.host.invalid\""));
}

TEST(Descriptor, OwnsOneDescriptor) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const auto is_open = [](int fd) { return ::fcntl(fd, F_GETFD) >= 0; };
  {
    Descriptor first(ends[0]);
    Descriptor second(std::move(first));
    EXPECT_FALSE(first);
    EXPECT_EQ(second.get(), ends[0]);
    second = Descriptor(ends[1]);
    EXPECT_FALSE(is_open(ends[0]));
    EXPECT_TRUE(is_open(ends[1]));
  }
  EXPECT_FALSE(is_open(ends[1]));
  Descriptor kept(::dup(0));
  const int released = kept.release();
  kept.reset();
  EXPECT_TRUE(is_open(released));
  ::close(released);
}

TEST(Listen, TellsWhoIsInTheWay) {
  SocketAddress any = resolve("127.0.0.1", 0).value().front();
  const Descriptor first = std::move(listen(any, 1).value());
  socklen_t size = sizeof any.storage;
  ::getsockname(first.get(), reinterpret_cast<sockaddr*>(&any.storage), &size);
  const auto second = listen(any, 1);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, testing::HasSubstr(any.text()));
  EXPECT_THAT(second.error().hint, testing::HasSubstr("another process"));
}

TEST(Accept, NonBlockingAndCloseOnExec) {
  SocketAddress any = resolve("127.0.0.1", 0).value().front();
  const Descriptor listener = std::move(listen(any, 1).value());
  socklen_t size = sizeof any.storage;
  ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&any.storage), &size);
  SocketAddress peer;
  EXPECT_FALSE(accept(listener.get(), peer)) << "nobody waits";
  const Descriptor client = std::move(connect(any).value());
  Descriptor accepted;
  while (!accepted) accepted = accept(listener.get(), peer);
  EXPECT_EQ(connect_error(client.get()), 0);
  EXPECT_EQ(peer.host(), "127.0.0.1");
  for (const int fd : {accepted.get(), client.get(), listener.get()}) {
    EXPECT_NE(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  }
}

TEST(FileLimit, IsRaisedToTheHardLimit) {
  const std::uint64_t limit = raise_file_limit();
  EXPECT_GT(limit, 0u);
  EXPECT_EQ(raise_file_limit(), limit);
}

}  // namespace
}  // namespace tessera::net
