// Delivers one cancel request to a server process: connects to where its connection goes, with TLS if that has it,
// sends the request and waits until the server has closed, which it does once the signal is sent. Owned by whoever
// started it; `done` is called once.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "net/stream.hpp"
#include "pool/backend.hpp"

namespace tessera::pool {

class CancelDelivery final : public net::EventHandler {
public:
  // `done(settled)`: not settled means that the request was sent and nobody knows when it will be heard.
  CancelDelivery(const Backend& backend, net::EventLoop& loop, std::function<void(bool settled)> done);
  void start();
  void check_deadline(TimePoint now);

private:
  void on_ready(bool readable, bool writable) override;
  void send_request();
  void finish(bool settled = true);

  enum class State { connecting, tls_answer, tls_handshake, sent, done };
  net::EventLoop& loop_;
  EndpointRef endpoint_;
  net::SocketAddress address_;
  std::uint32_t pid_;
  std::string key_;
  bool use_tls_;
  net::Stream stream_;
  State state_ = State::connecting;
  TimePoint deadline_;
  std::function<void(bool)> done_;
};

}  // namespace tessera::pool
