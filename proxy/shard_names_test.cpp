#include "proxy/shard_names.hpp"

#include <fmt/format.h>
#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>

#include "proxy/events.hpp"

namespace tessera::proxy {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

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
  EXPECT_FALSE(look_up(*runtime, service({{"a", {"10.0.0.1"}}, {"b", {"10.0.0.2"}}})).moved);
  EXPECT_TRUE(look_up(*runtime, service({{"a", {"10.0.0.1"}}, {"b", {"10.0.0.3"}}})).moved);
  EXPECT_TRUE(look_up(*runtime, service({{"a", {"10.0.0.1"}}, {"b", {"10.0.0.2", "10.0.0.3"}}})).moved);
}

TEST(ShardNames, TheOrderOfTheAnswerIsNone) {
  const auto runtime = runtime_of({{"a", addresses({"10.0.0.1", "10.0.0.2"})}});
  EXPECT_FALSE(look_up(*runtime, service({{"a", {"10.0.0.2", "10.0.0.1"}}})).moved);
}

TEST(ShardNames, ANameThatIsNotKnownForAMomentStays) {
  EXPECT_FALSE(look_up(*runtime_of({{"a", addresses({"10.0.0.1"})}}), service({})).moved);
}

TEST(ShardNames, OnlyNamesAreLookedUp) {
  const auto runtime = runtime_of({{"10.0.0.1", addresses({"10.0.0.1"})},
                                   {"::1", addresses({"::1"})},
                                   {"/tmp", net::resolve("/tmp", 5432).value()}});
  const Resolve never = [](const std::string& host, std::uint16_t) -> Result<Addresses> {
    ADD_FAILURE() << host;
    return fail(sqlstate::connection_failure, "");
  };
  EXPECT_FALSE(look_up(*runtime, never).moved);
}

TEST(ShardNames, ADatabaseMayWantNone) {
  const auto runtime = runtime_of({{"a", addresses({"10.0.0.1"})}}, config::Milliseconds(0));
  EXPECT_FALSE(look_up(*runtime, service({{"a", {"10.0.0.9"}}})).moved);
}

TEST(ShardNames, WhyANameCannotBeLookedUp) {
  const auto runtime = runtime_of({{"a", addresses({"10.0.0.1"})}, {"b", addresses({"10.0.0.2"})}});
  const NamesSeen seen = look_up(*runtime, service({{"b", {"10.0.0.2"}}}));
  EXPECT_FALSE(seen.moved);
  EXPECT_EQ(seen.reasons, (std::map<std::string, std::string>{{"a", "cannot resolve"}, {"b", ""}}));
}

// The log's lines that a look has added.
std::vector<std::string> told_by(ShardNames& names, const Runtime& runtime) {
  const std::vector<Event> before = events().after(0);
  names.look(runtime);
  std::vector<std::string> texts;
  for (const Event& event : events().after(before.empty() ? 0 : before.back().id)) {
    texts.push_back(std::string(event.severity) + ": " + event.text);
    for (const auto& [name, value] : event.fields) texts.back() += fmt::format(" {}={}", name, value);
  }
  return texts;
}

TEST(ShardNames, ANameThatCannotBeLookedUpIsToldOnce) {
  const auto runtime = runtime_of({{"a", addresses({"10.0.0.1"})}, {"b", addresses({"10.0.0.2"})}});
  const std::map<std::string, std::vector<std::string>> both = {{"a", {"10.0.0.1"}}, {"b", {"10.0.0.2"}}};
  std::map<std::string, std::vector<std::string>> known = both;
  ShardNames names([](const Runtime&) -> Result<void> { return {}; },
                   [&known](const std::string& host, std::uint16_t port) { return service(known)(host, port); });
  EXPECT_THAT(told_by(names, *runtime), IsEmpty());
  known.erase("a");
  EXPECT_THAT(told_by(names, *runtime),
              ElementsAre("warn: the host name of a shard cannot be looked up: the addresses known go on being used "
                          "host=a reason=cannot resolve"));
  EXPECT_THAT(told_by(names, *runtime), IsEmpty());
  known = both;
  EXPECT_THAT(told_by(names, *runtime), ElementsAre("info: the host name of a shard can be looked up again host=a"));
  EXPECT_THAT(told_by(names, *runtime), IsEmpty());
  // A name that a reload has taken away is forgotten.
  known.clear();
  EXPECT_THAT(told_by(names, *runtime), SizeIs(2));
  known = both;
  EXPECT_THAT(told_by(names, *runtime_of({})), IsEmpty());
  EXPECT_THAT(told_by(names, *runtime), IsEmpty());
}

TEST(ShardNames, AddressesThatCannotBeUsedAreToldOnceForEachReason) {
  const auto runtime = runtime_of({{"a", addresses({"10.0.0.1"})}});
  std::string reason = "one";
  std::string address = "10.0.0.2";
  ShardNames names(
      [&reason](const Runtime&) -> Result<void> {
        if (reason.empty()) return {};
        return fail(sqlstate::config_file_error, reason);
      },
      [&address](const std::string& host, std::uint16_t port) { return service({{"a", {address}}})(host, port); });
  const std::string line = "error: shards have other addresses, which cannot be used reason=";
  EXPECT_THAT(told_by(names, *runtime), ElementsAre(line + "one"));
  EXPECT_THAT(told_by(names, *runtime), IsEmpty());
  reason = "two";
  EXPECT_THAT(told_by(names, *runtime), ElementsAre(line + "two"));
  EXPECT_THAT(told_by(names, *runtime), IsEmpty());
  address = "10.0.0.1";  // back again
  EXPECT_THAT(told_by(names, *runtime), IsEmpty());
  address = "10.0.0.2";
  EXPECT_THAT(told_by(names, *runtime), ElementsAre(line + "two"));
}

TEST(ShardNames, LooksWhenItIsTime) {
  std::promise<void> told;
  const auto runtime = runtime_of({{"a", addresses({"10.0.0.1"})}});
  ShardNames names(
      [&told](const Runtime&) -> Result<void> {
        told.set_value();
        return {};
      },
      service({{"a", {"10.0.0.9"}}}));
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
