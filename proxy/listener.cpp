#include "proxy/listener.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

#include "proxy/log.hpp"
#include "proxy/server.hpp"

namespace tessera::proxy {

namespace {
net::Descriptor open_spare() {
  return net::Descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}
}  // namespace

Listener::Listener(Server& server, net::EventLoop& loop, net::Descriptor socket)
    : server_(server),
      loop_(loop),
      socket_(std::move(socket)),
      file_(net::socket_file(socket_.get())),
      spare_(open_spare()) {}

Listener::~Listener() {
  if (socket_) remove_file();
}

void Listener::remove_file() {
  if (!file_.empty() && ::unlink(file_.c_str()) != 0)
    log::warn("cannot remove the socket's file", {{"file", file_}, {"reason", std::strerror(errno)}});
  file_.clear();
}

void Listener::open() {
  if (const Result<void> added = loop_.add(socket_.get(), *this); !added)
    log::error("cannot listen", {{"reason", added.error().message}});
}

void Listener::close() {
  if (!socket_) return;
  loop_.remove(socket_.get(), *this);
  remove_file();
  socket_.reset();
}

void Listener::on_ready(bool, bool) {
  while (socket_) {
    net::SocketAddress peer;
    net::Descriptor client = net::accept(socket_.get(), peer);
    if (client) {
      server_.dispatch(std::move(client), peer);
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EMFILE || errno == ENFILE) {
      if (!shed()) return;
      continue;
    }
    if (errno != EAGAIN) log::error("accept failed", {{"reason", std::strerror(errno)}});
    return;
  }
}

// False: nobody waits. (The kernel complains of missing descriptors before it looks whether somebody does.)
bool Listener::shed() {
  constexpr std::chrono::seconds between_complaints{1};
  if (loop_.now() - complained_at_ >= between_complaints) {
    complained_at_ = loop_.now();
    log::warn("out of file descriptors: new clients are turned away");
  }
  spare_.reset();
  net::SocketAddress peer;
  const bool somebody = static_cast<bool>(net::accept(socket_.get(), peer));
  spare_ = open_spare();
  return somebody;
}

}  // namespace tessera::proxy
