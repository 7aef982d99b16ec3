// One HTTP connection: reads a request, hands it on, writes the answer, again. On the server's thread. Template over
// the stream: plain TCP or TLS. The only header with Boost.Beast in it; included by http_server.cpp alone.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <vector>

#include "admin/http_server.hpp"

namespace tessera::admin {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Tcp = asio::ip::tcp;

class Droppable {
public:
  virtual void drop() = 0;  // at once, without a word

protected:
  ~Droppable() = default;
};

// What connections share with their server, which owns it; a reply under way may keep it a moment longer. Connections
// live in handlers that `io` holds and borrow it: were they to own it, it would never go.
struct HttpShared {
  HttpServer::Handler handler;
  int connections = 0;
  // Those whose peers are waited for (to shake hands, to send a request, to take the answer, to send the next one, to
  // go), the one that has been waited for longest first.
  std::vector<Droppable*> waiting;
  asio::io_context io{1};  // goes first, and the connections with it
};

inline std::string to_std(boost::string_view text) {
  return {text.data(), text.size()};
}

HttpRequest to_request(const http::request<http::string_body>& message, bool from_loopback);
http::response<http::string_body> to_message(HttpResponse response, bool keep_alive, unsigned version, bool head);
// The answer to what is not HTTP; status 0: nothing is said.
HttpResponse answer_to_garbage(const beast::error_code& error);

template <typename Stream>
class HttpConnection final : public std::enable_shared_from_this<HttpConnection<Stream>>, public Droppable {
public:
  template <typename... Arguments>
  explicit HttpConnection(const std::shared_ptr<HttpShared>& shared, Tcp::socket socket, Arguments&... arguments)
      : shared_(shared.get()), weak_shared_(shared), stream_(std::move(socket), arguments...), deadline_(shared->io) {
    ++shared_->connections;
    beast::error_code unknown;
    const Tcp::endpoint peer = beast::get_lowest_layer(stream_).socket().remote_endpoint(unknown);
    from_loopback_ = !unknown && peer.address().is_loopback();
  }
  ~HttpConnection() {
    std::erase(shared_->waiting, this);
    --shared_->connections;
  }
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  void drop() override {
    std::erase(shared_->waiting, this);
    beast::error_code ignored;  // what is under way on the socket ends with an error, and the connection with that
    beast::get_lowest_layer(stream_).socket().close(ignored);
  }

  void start() {
    if constexpr (is_tls) {
      wait_for_peer();
      expire(HttpServer::request_timeout);
      stream_.async_handshake(asio::ssl::stream_base::server,
                              [self = this->shared_from_this()](beast::error_code error) {
                                if (!error) self->read();
                              });
    } else {
      read();
    }
  }

private:
  static constexpr bool is_tls = !std::is_same_v<Stream, beast::tcp_stream>;

  void expire(std::chrono::milliseconds after) { beast::get_lowest_layer(stream_).expires_after(after); }

  void wait_for_peer() {
    std::erase(shared_->waiting, this);
    shared_->waiting.push_back(this);
  }

  void read() {
    wait_for_peer();
    parser_.emplace();
    parser_->header_limit(HttpServer::max_header);
    parser_->body_limit(HttpServer::max_body);
    expire(HttpServer::request_timeout);
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = this->shared_from_this()](beast::error_code error, std::size_t) {
                              if (error || !self->waits_for_continue()) return self->read_body(error);
                              self->tell_to_continue();
                            });
  }

  // The body is held back until we say that it may come (curl does so above 1 kB, and for a second).
  bool waits_for_continue() const {
    const http::request<http::string_body>& message = parser_->get();
    return !parser_->is_done() && buffer_.size() == 0 && message.version() >= 11 &&
           beast::iequals(message[http::field::expect], "100-continue");
  }

  void tell_to_continue() {
    static constexpr std::string_view line = "HTTP/1.1 100 Continue\r\n\r\n";
    asio::async_write(
        stream_, asio::buffer(line),
        [self = this->shared_from_this()](beast::error_code error, std::size_t) { self->read_body(error); });
  }

  void read_body(beast::error_code error) {
    if (error || parser_->is_done()) return on_read(error);
    http::async_read(
        stream_, buffer_, *parser_,
        [self = this->shared_from_this()](beast::error_code failed, std::size_t) { self->on_read(failed); });
  }

  void on_read(beast::error_code error) {
    ++request_;
    if (error) {
      HttpResponse response = answer_to_garbage(error);
      if (response.status == 0) return close();
      keep_alive_ = head_ = false;
      return write(std::move(response));
    }
    const http::request<http::string_body>& message = parser_->get();
    keep_alive_ = message.keep_alive();
    version_ = message.version();
    head_ = message.method() == http::verb::head;
    std::erase(shared_->waiting, this);
    beast::get_lowest_layer(stream_).expires_never();
    const std::chrono::milliseconds limit = shared_->handler(to_request(message, from_loopback_), make_reply());
    deadline_.expires_after(limit);
    deadline_.async_wait([self = this->shared_from_this(), number = request_](beast::error_code cancelled) {
      if (!cancelled) self->answer(number, error_response(503, "the answer took too long: a worker is busy or hangs"));
    });
  }

  // Callable from any thread, also after the server has ended.
  Reply make_reply() {
    return [self = this->weak_from_this(), shared = weak_shared_, number = request_](HttpResponse response) {
      if (const auto alive = shared.lock())
        asio::post(alive->io, [self, number, response = std::move(response)]() mutable {
          if (const auto connection = self.lock()) connection->answer(number, std::move(response));
        });
    };
  }

  void answer(std::uint64_t number, HttpResponse response) {
    if (number != request_ || answered_ == number) return;
    answered_ = number;
    deadline_.cancel();
    write(std::move(response));
  }

  void write(HttpResponse response) {
    message_ = to_message(std::move(response), keep_alive_, version_, head_);
    wait_for_peer();
    expire(HttpServer::request_timeout);
    http::async_write(stream_, *message_, [self = this->shared_from_this()](beast::error_code error, std::size_t) {
      if (error || !self->keep_alive_) return self->close();
      self->read();
    });
  }

  // Says goodbye, if the peer still listens; the rest is the destructor's. What the peer still sends is read for a
  // moment, or the kernel would answer it with a reset that overtakes our last words.
  void close() {
    if constexpr (is_tls) {
      expire(std::chrono::seconds(2));
      stream_.async_shutdown([self = this->shared_from_this()](beast::error_code) {});
    } else {
      beast::error_code ignored;  // the peer may be gone already
      stream_.socket().shutdown(Tcp::socket::shutdown_send, ignored);
      expire(std::chrono::seconds(2));
      drain();
    }
  }

  void drain() {
    buffer_.clear();
    stream_.async_read_some(buffer_.prepare(HttpServer::max_header),
                            [self = this->shared_from_this()](beast::error_code error, std::size_t) {
                              if (!error) self->drain();
                            });
  }

  HttpShared* shared_;
  std::weak_ptr<HttpShared> weak_shared_;
  Stream stream_;
  asio::steady_timer deadline_;
  beast::flat_buffer buffer_{HttpServer::max_header + HttpServer::max_body};
  std::optional<http::request_parser<http::string_body>> parser_;
  std::optional<http::response<http::string_body>> message_;
  std::uint64_t request_ = 0, answered_ = 0;
  unsigned version_ = 11;
  bool keep_alive_ = false, head_ = false, from_loopback_ = false;
};

}  // namespace tessera::admin
