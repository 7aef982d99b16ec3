// Tests only: a PostgreSQL server by script on a loopback port, and a thread with an event loop to run what is tested.
// The server has its own thread; it lets everybody in, answers each query with what was put down for its text (by
// default CommandComplete) and remembers what it was asked.
#pragma once

#include <condition_variable>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <netinet/in.h>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "net/stream.hpp"
#include "pool/endpoint.hpp"
#include "pool/reply_script.hpp"
#include "wire/postgres/backend.hpp"
#include "wire/postgres/startup.hpp"

namespace tessera::pool::script {

// A thread that runs an event loop. `on` runs a function there and waits for its result.
class Lane {
public:
  Lane() {
    loop.set_ticker(std::chrono::milliseconds(5), [] {});
    thread_ = std::thread([this] { loop.run(); });
  }
  ~Lane() {
    loop.stop();
    thread_.join();
  }
  template <typename Call>
  auto on(Call&& call) {
    std::packaged_task<std::invoke_result_t<Call>()> task(std::forward<Call>(call));
    auto result = task.get_future();
    loop.post([&task] { task(); });
    return result.get();
  }
  // Polls on the loop's thread; false after five seconds.
  template <typename Condition>
  bool eventually(Condition&& condition) {
    for (int i = 0; i < 2500; ++i) {
      if (on([&] { return condition(); })) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
  }
  // Two rounds of the loop have passed: what was deferred has run.
  void settle() {
    for (int i = 0; i < 3; ++i) on([] {});
  }
  net::EventLoop loop;

private:
  std::thread thread_;
};

class FakeServer {
public:
  struct Asked {
    std::uint32_t pid;
    std::string sql;
    friend bool operator==(const Asked&, const Asked&) = default;
  };

  FakeServer() {
    net::SocketAddress any = net::resolve("127.0.0.1", 0).value().front();
    listener_ = std::move(net::listen(any, 64).value());
    sockaddr_in bound{};
    socklen_t size = sizeof bound;
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&bound), &size);
    port_ = ntohs(bound.sin_port);
    acceptor_.server = this;
    lane_.on([this] { return lane_.loop.add(listener_.get(), acceptor_).has_value(); });
  }
  ~FakeServer() {
    lane_.on([this] {
      lane_.loop.remove(listener_.get(), acceptor_);
      connections_.clear();
    });
  }

  std::uint16_t port() const { return port_; }
  EndpointRef endpoint(std::string name = "s0", std::uint32_t shard = 0) const {
    auto made = std::make_shared<Endpoint>();
    made->name = std::move(name);
    made->shard = ShardId(shard);
    made->host = "127.0.0.1";
    made->addresses = net::resolve("127.0.0.1", port_).value();
    made->database = "db";
    return made;
  }

  // What to answer to `sql`, to all extended messages of a type ("P"), those for one statement ("E select 1") or those
  // that describe a statement ("DS") or a portal ("DP"); empty: nothing at all.
  void answer(const std::string& sql, std::string bytes) {
    change([&] { answers_[sql] = std::move(bytes); });
  }
  // The next time, and then as before.
  void answer_once(const std::string& sql, std::string bytes) {
    change([&] { once_[sql] = std::move(bytes); });
  }
  void answer_as_usual(const std::string& sql) {
    change([&] { answers_.erase(sql); });
  }
  // Ends the connection in place of that answer; empty: no more.
  void hang_up_on(const std::string& sql) {
    change([&] { deadly_ = sql; });
  }
  // In place of the greeting; empty: silence.
  void login_with(std::string bytes) {
    change([&] { login_ = std::move(bytes); });
  }
  void login_normally() {
    change([&] { login_.reset(); });
  }
  // In the same packet as the greeting.
  void after_login(std::string bytes) {
    change([&] { after_login_ = std::move(bytes); });
  }
  // Takes cancel requests and does not hang up.
  void keep_cancels() {
    change([&] { keep_cancels_ = true; });
  }
  // Without having been asked, on all connections.
  void say(const std::string& bytes) {
    lane_.on([&] {
      for (auto& [pid, connection] : connections_) {
        connection->stream.append(bytes);
        connection->stream.flush();
      }
    });
  }
  void hang_up() {
    lane_.on([this] { connections_.clear(); });
  }

  std::vector<Asked> asked() const {
    const std::scoped_lock lock(mutex_);
    return asked_;
  }
  std::vector<std::string> queries() const {
    std::vector<std::string> texts;
    for (const Asked& one : asked()) texts.push_back(one.sql);
    return texts;
  }
  std::size_t times_asked(const std::string& sql) const {
    std::size_t n = 0;
    for (const Asked& one : asked()) n += one.sql == sql ? 1u : 0u;
    return n;
  }
  std::vector<std::pair<std::uint32_t, std::string>> cancels() const {
    const std::scoped_lock lock(mutex_);
    return cancels_;
  }
  int accepted() const {
    const std::scoped_lock lock(mutex_);
    return accepted_;
  }
  std::size_t open() {
    return lane_.on([this] { return connections_.size(); });
  }
  static std::string key_of(std::uint32_t pid) { return fmt::format("k{:03}", pid % 1000); }
  static std::string greeting(std::uint32_t pid) {
    std::string bytes;
    postgres::append_authentication_ok(bytes);
    bytes += parameter("server_version", "17.0") + parameter("TimeZone", "UTC");
    if (!postgres::append_backend_key_data(bytes, pid, key_of(pid))) bytes.clear();
    return bytes + ready();
  }

private:
  struct Connection final : net::EventHandler {
    Connection(FakeServer& owner, std::uint32_t number, net::Descriptor socket)
        : server(owner), pid(number), stream(owner.lane_.loop, std::move(socket)) {}
    void on_ready(bool readable, bool writable) override {
      if (writable) stream.flush();
      if (!readable) return;
      const net::Stream::Status status = stream.read([this](std::string_view bytes) {
        input.append(bytes);
        return true;
      });
      const bool more = server.take(*this);
      if (!more || status != net::Stream::Status::ok) server.drop(pid);
    }
    FakeServer& server;
    std::uint32_t pid;
    net::Stream stream;
    std::string input;
    std::string statement;  // that was parsed last
    bool started = false;
  };
  struct Acceptor final : net::EventHandler {
    FakeServer* server = nullptr;
    void on_ready(bool, bool) override { server->accept(); }
  };

  template <typename Change>
  void change(Change&& apply) {
    const std::scoped_lock lock(mutex_);
    apply();
  }
  void accept() {
    net::SocketAddress peer;
    while (net::Descriptor socket = net::accept(listener_.get(), peer)) {
      const std::uint32_t pid = ++last_pid_;
      change([&] { ++accepted_; });
      auto connection = std::make_unique<Connection>(*this, pid, std::move(socket));
      Connection& opened = *connection;
      connections_[pid] = std::move(connection);
      if (!opened.stream.open(opened)) connections_.erase(pid);
    }
  }
  void drop(std::uint32_t pid) {
    auto node = connections_.extract(pid);
    if (!node.empty()) lane_.loop.defer([gone = std::move(node.mapped())] {});
  }
  // False: hang up.
  bool take(Connection& connection) {
    const std::scoped_lock lock(mutex_);
    std::string& input = connection.input;
    while (true) {
      if (!connection.started) {
        if (input.size() < 8) return true;
        const std::uint32_t length = postgres::read_u32(input.data());
        const std::uint32_t code = postgres::read_u32(input.data() + 4);
        if (input.size() < length) return true;
        if (code == 80877102) {
          cancels_.emplace_back(postgres::read_u32(input.data() + 8), input.substr(12, length - 12));
          if (keep_cancels_) input.clear();
          return keep_cancels_;
        }
        input.erase(0, length);
        connection.started = true;
        connection.stream.append(login_ ? *login_ : greeting(connection.pid) + after_login_);
      } else {
        postgres::FrameHeader header;
        if (postgres::peek_frame(input, 1 << 20, header) != postgres::FrameStatus::complete) break;
        const std::string body(postgres::frame_body(input, header));
        input.erase(0, header.total_size());
        if (header.type == 'X') return false;
        if (header.type == 'P') connection.statement = body.substr(1, body.find('\0', 1) - 1);
        const std::optional<std::string> reply = reply_to(connection, header.type, body);
        if (!reply) return false;
        connection.stream.append(*reply);
      }
    }
    connection.stream.flush();
    return true;
  }
  // Nothing: hang up.
  std::optional<std::string> reply_to(const Connection& connection, char type, const std::string& body) {
    const std::string text = type == 'Q' ? body.substr(0, body.size() - 1) : std::string(1, type);
    asked_.push_back({connection.pid, text});
    const std::string exactly = type == 'D' ? text + body.substr(0, 1) : text + ' ' + connection.statement;
    if (!deadly_.empty() && (deadly_ == exactly || deadly_ == text)) return {};
    for (const std::string& key : {exactly, text})
      if (auto once = once_.extract(key); !once.empty()) return std::move(once.mapped());
    for (const std::string& key : {exactly, text})
      if (const auto found = answers_.find(key); found != answers_.end()) return found->second;
    switch (type) {
      case 'Q':
        return complete("OK") + ready();
      case 'S':
        return ready();
      case 'P':
        return raw('1', "");
      case 'B':
        return raw('2', "");
      case 'D':
        return raw('n', "");
      case 'E':
        return complete("OK");
      case 'C':
        return raw('3', "");
      default:
        return "";
    }
  }

  net::Descriptor listener_;
  std::uint16_t port_ = 0;
  Acceptor acceptor_;
  std::uint32_t last_pid_ = 100;
  std::map<std::uint32_t, std::unique_ptr<Connection>> connections_;  // on the lane
  mutable std::mutex mutex_;                                          // guards what follows
  std::map<std::string, std::string> answers_, once_;
  std::optional<std::string> login_;
  std::string deadly_;
  std::string after_login_;
  std::vector<Asked> asked_;
  std::vector<std::pair<std::uint32_t, std::string>> cancels_;
  int accepted_ = 0;
  bool keep_cancels_ = false;
  Lane lane_;  // last: ends first
};

}  // namespace tessera::pool::script
