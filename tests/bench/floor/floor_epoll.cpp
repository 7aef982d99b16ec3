// The floor with epoll, as net/ does it: registered once, edge-triggered, one buffer for all; a short read is the last
// one. What one message costs at best: recv, send and its share of an epoll_wait.
//
//   floor_epoll PORT SERVER_PORT

#include <array>
#include <fcntl.h>
#include <string>
#include <sys/epoll.h>
#include <vector>

#include "tests/bench/floor/floor.hpp"

namespace tessera::bench {
namespace {

struct Pair;

struct Side {
  int fd = -1;
  Side* peer = nullptr;
  Pair* pair = nullptr;
  std::string unsent;     // what the socket did not take; while there is any, the peer is not read
  bool readable = false;  // there may be more to read: edges come only once
  bool ended = false;     // then a short read is not the last one: the end comes after it
};

struct Pair {
  Side client, server;
  bool dead = false;
};

class Forwarder {
public:
  Forwarder(std::uint16_t port, std::uint16_t server_port) : server_port_(server_port), listener_(listen_on(port)) {
    epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
    checked(::epoll_ctl(epoll_, EPOLL_CTL_ADD, listener_, &event), "epoll_ctl");
  }

  [[noreturn]] void run() {
    for (;;) {
      const int count = ::epoll_wait(epoll_, events_.data(), static_cast<int>(events_.size()), -1);
      for (int i = 0; i < count; ++i) {
        const epoll_event& event = events_[static_cast<std::size_t>(i)];
        if (event.data.ptr == nullptr) {
          accept_all();
        } else {
          on_ready(*static_cast<Side*>(event.data.ptr), event.events);
        }
      }
      // Not before: events of a dead pair may have stood further on.
      for (const Pair* pair : dead_) delete pair;
      dead_.clear();
    }
  }

private:
  void accept_all() {
    for (;;) {
      const int client = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (client < 0) return;
      const int server = connect_to(server_port_);
      if (server < 0) {
        ::close(client);
        continue;
      }
      send_at_once(client);
      ::fcntl(server, F_SETFL, O_NONBLOCK);
      auto* pair = new Pair;
      pair->client = {.fd = client, .peer = &pair->server, .pair = pair};
      pair->server = {.fd = server, .peer = &pair->client, .pair = pair};
      watch(pair->client);
      watch(pair->server);
    }
  }

  void watch(Side& side) {
    epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.ptr = &side}};
    checked(::epoll_ctl(epoll_, EPOLL_CTL_ADD, side.fd, &event), "epoll_ctl");
  }

  void on_ready(Side& side, std::uint32_t events) {
    if (side.pair->dead) return;
    side.ended |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    side.readable |= (events & EPOLLIN) != 0 || side.ended;
    if (!side.unsent.empty()) {
      send_unsent(side);
      relay(*side.peer);
    }
    relay(side);
  }

  void relay(Side& from) {
    Side& to = *from.peer;
    while (!from.pair->dead && from.readable && to.unsent.empty()) {
      const ssize_t got = ::recv(from.fd, buffer_.data(), buffer_.size(), 0);
      if (got < 0 && errno == EAGAIN) {
        from.readable = false;
      } else if (got <= 0) {
        end(*from.pair);
      } else {
        const auto size = static_cast<std::size_t>(got);
        from.readable = size == buffer_.size() || from.ended;
        const std::size_t sent = send(to, buffer_.data(), size);
        to.unsent.append(buffer_.data() + sent, size - sent);
      }
    }
  }

  void send_unsent(Side& side) { side.unsent.erase(0, send(side, side.unsent.data(), side.unsent.size())); }

  std::size_t send(Side& side, const char* bytes, std::size_t size) {
    if (side.pair->dead) return 0;
    const ssize_t sent = ::send(side.fd, bytes, size, MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<std::size_t>(sent);
    if (errno != EAGAIN) end(*side.pair);
    return 0;
  }

  void end(Pair& pair) {
    if (pair.dead) return;
    pair.dead = true;
    ::close(pair.client.fd);
    ::close(pair.server.fd);
    dead_.push_back(&pair);
  }

  std::uint16_t server_port_;
  int listener_;
  int epoll_ = checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  std::array<epoll_event, 256> events_{};
  std::array<char, 65536> buffer_{};
  std::vector<Pair*> dead_;
};

}  // namespace
}  // namespace tessera::bench

int main(int argc, char** argv) {
  using namespace tessera::bench;
  if (argc != 3) {
    std::fputs("usage: floor_epoll PORT SERVER_PORT\n", stderr);
    return 2;
  }
  static Forwarder forwarder(port_of(argv[1]), port_of(argv[2]));
  forwarder.run();
}
