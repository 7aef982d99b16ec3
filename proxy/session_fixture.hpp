// Tests only: a session between a socket that plays the client and two servers by script. Keys below 100 live on s0.
#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/load.hpp"
#include "pool/fake_server.hpp"
#include "proxy/catalog_query.hpp"
#include "proxy/session.hpp"

namespace tessera::proxy::script {

using namespace pool::script;

inline std::string values_row(const std::vector<std::string>& values) {
  const std::vector<postgres::Value> views(values.begin(), values.end());
  std::string bytes;
  if (!postgres::append_data_row(bytes, views)) bytes.clear();
  return bytes;
}

// What a client sends.
inline std::string query(std::string_view sql) {
  std::string bytes;
  EXPECT_TRUE(postgres::append_query(bytes, sql));
  return bytes;
}
inline std::string parse(std::string_view name, std::string_view sql, std::vector<postgres::Oid> types = {}) {
  std::string bytes;
  EXPECT_TRUE(postgres::append_parse(bytes, name, sql, types));
  return bytes;
}
inline std::string bind(std::string_view name, const std::vector<std::string>& values = {}) {
  std::string body = '\0' + std::string(name) + '\0' + std::string(3, '\0') + static_cast<char>(values.size());
  for (const std::string& value : values) body += std::string(3, '\0') + static_cast<char>(value.size()) + value;
  return raw('B', body + std::string(2, '\0'));
}
inline std::string describe_portal() {
  return raw('D', std::string("P\0", 2));
}
inline std::string execute() {
  return raw('E', std::string(5, '\0'));
}
inline std::string sync() {
  return raw('S', "");
}

class SessionTest : public testing::Test, public SessionHost {
protected:
  SessionTest() {
    const std::vector<std::string> catalog = catalog_queries();
    for (FakeServer& server : server_) {
      server.answer(catalog[0], columns() + values_row({"digest"}) + complete() + ready());
      server.answer(catalog[1], columns() +
                                    values_row({"public", "t", "r", "id", "23", "integer", "t", "t", "t", "f", "",
                                                "",       "f", "",  "",   "f",  "",        "",  "",  "f", "",  "f"}) +
                                    values_row({"public", "t", "r", "v", "25", "text", "f", "t", "t", "f", "",
                                                "",       "f", "",  "",  "f",  "",     "",  "",  "f", "",  "f"}) +
                                    complete() + ready());
      server.answer(catalog[2],
                    columns() + values_row({"count", "1", "t", "t", "t", "t", "", "f"}) + complete() + ready());
      server.answer("SELECT pg_catalog.current_setting('search_path')",
                    columns() + values_row({"\"$user\", public"}) + complete() + ready());
    }
    const config::Loaded loaded = config::load_text("test.yaml", yaml(), config::real_environment());
    for (const config::Problem& problem : loaded.problems) ADD_FAILURE() << to_string(problem);
    config_ = std::make_shared<const config::Config>(*loaded.config);
    runtime_ = build_runtime(config_, nullptr).value();
  }
  ~SessionTest() override {
    lane_.on([this] {
      session_.reset();
      if (database_) database_->shut_down({sqlstate::admin_shutdown, "end of the test", {}, {}, 0});
    });
    lane_.settle();
    lane_.on([this] {
      database_.reset();
      client_.close();
    });
  }
  virtual std::string yaml() const {
    return fmt::format(R"(
listen: {{postgres: "127.0.0.1:1"}}
databases:
  shop:
    backend: {{tls: disable, dbname: db}}
    pool: {{size: 2}}
    shards:
      s0: {{primary: "127.0.0.1:{}"}}
      s1: {{primary: "127.0.0.1:{}"}}
    rules:
      by_id: {{type: range, ranges: [{{below: 100, shard: s0}}, {{shard: s1}}]}}
    tables:
      t: {{rule: by_id, key: id}}
)",
                       server_[0].port(), server_[1].port());
  }
  // A session that is open and has greeted; the servers' memory is of what follows.
  void open(config::PoolMode mode = config::PoolMode::transaction) {
    lane_.on([&] {
      database_ = std::make_unique<WorkerDatabase>(
          runtime_->databases.at("shop"), lane_.loop,
          WorkerDatabase::Shared{
              &budgets_, &derivation_,
              [this](const std::string&, std::shared_ptr<const router::Catalog> catalog, std::uint64_t) {
                auto routing = std::make_shared<Routing>();
                routing->catalog = catalog;
                routing->topology = router::Topology::build(database_->settings(), *catalog, 1).value();
                routing->version = 1;
                database_->set_routing(routing);
              }});
      int ends[2];
      if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
      stream_ = net::Stream(lane_.loop, net::Descriptor(ends[0]));
      client_ = net::Stream(lane_.loop, net::Descriptor(ends[1]));
      SessionOptions options;
      options.database = database_.get();
      options.user = "alice";
      options.identity = database_->identity("alice", {});
      options.startup_settings = pool::no_settings();
      options.mode = mode;
      session_ = std::make_unique<Session>(std::move(options), *this);
      session_->open([this](const pool::ParameterMap& parameters) { greeted_ = parameters; },
                     [this](const Error& error) { failed_ = error; });
    });
    ASSERT_TRUE(lane_.eventually([this] { return greeted_ || failed_; }));
    ASSERT_TRUE(greeted_) << failed_->message;
  }

  // As Client does: bytes in, then back to the loop.
  void send(const std::string& bytes) {
    lane_.on([&] {
      session_->on_client_bytes(bytes);
      stream_.flush();
    });
  }
  std::string take() {
    return lane_.on([this] {
      stream_.flush();
      client_.read([this](std::string_view bytes) {
        received_.append(bytes);
        return true;
      });
      return received_;
    });
  }
  // What the client has when so many ReadyForQuery have come.
  std::string answers(int readies = 1) {
    for (int i = 0; i < 2500; ++i) {
      if (count_ready(take()) >= readies || ended_) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    lane_.settle();
    std::string all = take();
    received_.clear();
    return all;
  }
  std::string ask(const std::string& bytes, int readies = 1) {
    send(bytes);
    return answers(readies);
  }
  static int count_ready(std::string_view bytes) {
    int count = 0;
    postgres::FrameHeader header;
    while (postgres::peek_frame(bytes, 1 << 28, header) == postgres::FrameStatus::complete) {
      count += header.type == 'Z' ? 1 : 0;
      bytes.remove_prefix(header.total_size());
    }
    return count;
  }
  // The types of messages, with the SQLSTATE of errors: "T D C Z", "E:42601 Z".
  static std::string types(std::string_view bytes) {
    std::string text;
    postgres::FrameHeader header;
    while (postgres::peek_frame(bytes, 1 << 28, header) == postgres::FrameStatus::complete) {
      if (!text.empty()) text += ' ';
      text += header.type;
      if (header.type == 'E') {
        postgres::ErrorFields fields;
        if (postgres::parse_error_fields(postgres::frame_body(bytes, header), fields))
          text += fmt::format(":{}", fields.find_or('C', ""));
      }
      if (header.type == 'Z') text += fmt::format(":{}", bytes[5]);
      bytes.remove_prefix(header.total_size());
    }
    if (!bytes.empty()) text += " (cut)";
    return text;
  }
  // Without what the proxy asks for itself.
  std::vector<std::string> asked(std::size_t shard) const {
    std::vector<std::string> texts;
    const std::vector<std::string> catalog = catalog_queries();
    for (const std::string& sql : server_[shard].queries())
      if (std::ranges::find(catalog, sql) == catalog.end() && sql.find("current_setting") == std::string::npos)
        texts.push_back(sql);
    return texts;
  }
  int busy() {
    return lane_.on([this] {
      int count = 0;
      database_->each_pool([&](const pool::Pool& pool) { count += pool.counts().busy; });
      return count;
    });
  }

  net::Stream& stream() override { return stream_; }
  void end_session() override { ended_ = true; }
  void resume_reading() override { ++resumed_; }
  void cancel_statement() override {}
  void leave_retired_database() override {}
  void stop_statement(pool::Backend&) override {}
  void abandon(const pool::Backend&) override {}

  FakeServer server_[2];
  std::shared_ptr<const config::Config> config_;
  std::shared_ptr<const Runtime> runtime_;
  pool::Budgets budgets_;
  pool::KeyDerivation derivation_;
  Lane lane_;
  std::unique_ptr<WorkerDatabase> database_;
  net::Stream stream_{lane_.loop, net::Descriptor()};
  net::Stream client_{lane_.loop, net::Descriptor()};
  std::unique_ptr<Session> session_;
  std::optional<pool::ParameterMap> greeted_;
  std::optional<Error> failed_;
  std::string received_;
  std::atomic<bool> ended_ = false;
  int resumed_ = 0;
};

}  // namespace tessera::proxy::script
