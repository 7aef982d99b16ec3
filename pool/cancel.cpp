#include "pool/cancel.hpp"

namespace tessera::pool {

using net::Stream;

namespace {
constexpr std::chrono::seconds patience{5};
}

CancelDelivery::CancelDelivery(const Backend& backend, net::EventLoop& loop, std::function<void(bool)> done)
    : loop_(loop),
      endpoint_(backend.endpoint_ref()),
      address_(backend.address()),
      pid_(backend.pid()),
      key_(backend.cancel_key()),
      use_tls_(backend.uses_tls()),
      stream_(loop, net::Descriptor()),
      deadline_(loop.now() + patience),
      done_(std::move(done)) {}

void CancelDelivery::start() {
  Result<net::Descriptor> socket = net::connect(address_);
  if (!socket) return finish();
  stream_ = Stream(loop_, std::move(*socket));
  if (!stream_.open(*this)) finish();
}

void CancelDelivery::on_ready(bool readable, bool writable) {
  if (state_ == State::connecting && writable) {
    if (net::connect_error(stream_.descriptor()) != 0) return finish();
    if (!use_tls_) return send_request();
    postgres::append_ssl_request(stream_.out());
    state_ = State::tls_answer;
    stream_.flush();
    return;
  }
  if (state_ == State::tls_handshake) {
    if (stream_.handshake() != Stream::Status::ok) return finish();
    if (stream_.tls()->handshake_done()) send_request();
    return;
  }
  if (!readable) return;
  std::string got;
  const Stream::Status status = stream_.read([&](std::string_view bytes) {
    got += bytes;
    return true;
  });
  if (status != Stream::Status::ok || state_ == State::sent) return status == Stream::Status::ok ? void() : finish();
  if (state_ != State::tls_answer || got.empty()) return;
  if (got != "S") return finish();
  stream_.start_tls(net::TlsSession::connect(*endpoint_->tls_context, endpoint_->host, endpoint_->verify_host));
  state_ = State::tls_handshake;
  if (stream_.handshake() != Stream::Status::ok) finish();
}

void CancelDelivery::send_request() {
  state_ = State::sent;
  if (!postgres::append_cancel_request(stream_.out(), pid_, key_)) return finish();
  if (stream_.flush() != Stream::Status::ok) finish();
}

void CancelDelivery::check_deadline(TimePoint now) {
  // The server has not even taken the connection: the request stands in a queue and may be read at any time.
  if (now >= deadline_) finish(state_ != State::sent);
}

void CancelDelivery::finish(bool settled) {
  if (state_ == State::done) return;
  state_ = State::done;
  stream_.close();
  done_(settled);
}

}  // namespace tessera::pool
