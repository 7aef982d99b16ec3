#include "proxy/shard_names.hpp"

#include <future>
#include <gtest/gtest.h>
#include <map>

namespace tessera::proxy {
namespace {

using Addresses = std::vector<net::SocketAddress>;

Addresses addresses(const std::vector<std::string>& hosts) {
  Addresses all;
  for (const std::string& host : hosts) all.push_back(net::resolve(host, 5432).value().front());
  return all;
}

// One database; its shards as given, name and addresses.
std::shared_ptr<const Runtime> runtime_of(const std::vector<std::pair<std::string, Addresses>>& shards,
                                          config::Milliseconds interval = std::chrono::seconds(15)) {
  auto config = std::make_shared<config::Config>();
  config->databases.emplace_back().backend.resolve_interval = interval;
  auto database = std::make_shared<DatabaseRuntime>();
  database->config = config;
  database->settings = &config->databases.front();
  for (const auto& [host, known] : shards) {
    auto endpoint = std::make_shared<pool::Endpoint>();
    endpoint->host = host;
    endpoint->port = 5432;
    endpoint->addresses = known;
    database->primaries.push_back(std::move(endpoint));
  }
  auto runtime = std::make_shared<Runtime>();
  runtime->config = config;
  runtime->databases.emplace("shop", std::move(database));
  return runtime;
}

// A name service; what is not in it cannot be looked up.
Resolve service(std::map<std::string, std::vector<std::string>> names) {
  return [names](const std::string& host, std::uint16_t) -> Result<Addresses> {
    const auto found = names.find(host);
    if (found == names.end()) return fail(sqlstate::connection_failure, "cannot resolve");
    return addresses(found->second);
  };
}

TEST(ShardNames, AnotherAddressIsAMove) {
  const auto runtime = runtime_of({{"a", addresses({"10.0.0.1"})}, {"b", addresses({"10.0.0.2"})}});
  EXPECT_FALSE(have_moved(*runtime, service({{"a", {"10.0.0.1"}}, {"b", {"10.0.0.2"}}})));
  EXPECT_TRUE(have_moved(*runtime, service({{"a", {"10.0.0.1"}}, {"b", {"10.0.0.3"}}})));
  EXPECT_TRUE(have_moved(*runtime, service({{"a", {"10.0.0.1"}}, {"b", {"10.0.0.2", "10.0.0.3"}}})));
}

TEST(ShardNames, TheOrderOfTheAnswerIsNone) {
  const auto runtime = runtime_of({{"a", addresses({"10.0.0.1", "10.0.0.2"})}});
  EXPECT_FALSE(have_moved(*runtime, service({{"a", {"10.0.0.2", "10.0.0.1"}}})));
}

TEST(ShardNames, ANameThatIsNotKnownForAMomentStays) {
  EXPECT_FALSE(have_moved(*runtime_of({{"a", addresses({"10.0.0.1"})}}), service({})));
}

TEST(ShardNames, OnlyNamesAreLookedUp) {
  const auto runtime = runtime_of({{"10.0.0.1", addresses({"10.0.0.1"})},
                                   {"::1", addresses({"::1"})},
                                   {"/tmp", net::resolve("/tmp", 5432).value()}});
  const Resolve never = [](const std::string& host, std::uint16_t) -> Result<Addresses> {
    ADD_FAILURE() << host;
    return fail(sqlstate::connection_failure, "");
  };
  EXPECT_FALSE(have_moved(*runtime, never));
}

TEST(ShardNames, ADatabaseMayWantNone) {
  const auto runtime = runtime_of({{"a", addresses({"10.0.0.1"})}}, config::Milliseconds(0));
  EXPECT_FALSE(have_moved(*runtime, service({{"a", {"10.0.0.9"}}})));
}

TEST(ShardNames, LooksWhenItIsTime) {
  std::promise<void> told;
  const auto runtime = runtime_of({{"a", addresses({"10.0.0.1"})}});
  ShardNames names([&told](const Runtime&) { told.set_value(); }, service({{"a", {"10.0.0.9"}}}));
  const TimePoint start = Clock::now();
  std::future<void> moved = told.get_future();
  names.check(runtime, start + std::chrono::milliseconds(500), true);  // too soon
  names.check(runtime, start + std::chrono::seconds(14), false);
  EXPECT_EQ(moved.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  names.check(runtime, start + std::chrono::seconds(2), true);
  moved.wait();
}

}  // namespace
}  // namespace tessera::proxy
