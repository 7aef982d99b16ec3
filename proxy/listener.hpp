// A listening socket. Accepts on the first worker's loop and hands each client to the worker with the fewest.
// When descriptors run out it takes the waiting client with a spare one, only to turn it away: old clients stay.
#pragma once

#include "net/event_loop.hpp"
#include "net/socket.hpp"

namespace tessera::proxy {

class Server;

class Listener final : public net::EventHandler {
public:
  Listener(Server& server, net::EventLoop& loop, net::Descriptor socket);
  ~Listener() override;
  void open();   // on the loop's thread
  void close();  // on the loop's thread; the file of a Unix socket goes too
  int descriptor() const { return socket_.get(); }
  // Another process listens on the same socket: its file stays.
  void leave_file() { file_.clear(); }

private:
  void on_ready(bool readable, bool writable) override;
  bool shed();
  void remove_file();

  Server& server_;
  net::EventLoop& loop_;
  net::Descriptor socket_;
  std::string file_;  // of a Unix socket
  net::Descriptor spare_;
  TimePoint complained_at_{};
};

}  // namespace tessera::proxy
