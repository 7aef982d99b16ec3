#include "proxy/places.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera::proxy {
namespace {

config::Config config_with(int shards, int pool_size) {
  config::Config config;
  config::Database& database = config.databases.emplace_back();
  database.name = "shop";
  database.shards.resize(static_cast<std::size_t>(shards));
  database.pool.size = pool_size;
  database.limits.clients = 100;
  database.users.resize(3);
  return config;
}

TEST(Places, CountsThePoolsOfEveryUserAndShard) {
  config::Config config = config_with(4, 20);
  EXPECT_EQ(server_connections(config), 3u * 4 * 20);
  config.databases[0].users[0].pool_size = 5;
  EXPECT_EQ(server_connections(config), (5u + 20 + 20) * 4);
  config.databases[0].auth_query.emplace();
  EXPECT_EQ(server_connections(config), (5u + 20 + 20 + 20) * 4);
  config.databases[0].pool.max_server_connections = 30;
  EXPECT_EQ(server_connections(config), 30u * 4);
  config.databases[0].pool.max_server_connections = 0;
  config.databases[0].backend.auth = config::BackendAuth::password;
  EXPECT_EQ(server_connections(config), 20u * 4);
}

TEST(Places, ClientsGetWhatIsLeft) {
  const Places made = places(config_with(2, 10), 10'000, 2);
  EXPECT_EQ(made.servers, 60u);
  EXPECT_EQ(made.itself, 160u);
  EXPECT_EQ(made.clients, 10'000u - 60 - 160);
  EXPECT_THAT(made.warnings, testing::IsEmpty());
}

TEST(Places, MaxClientsIsNeverMoreThanThereIsRoomFor) {
  config::Config config = config_with(2, 10);
  config.listen.max_clients = 500;
  EXPECT_EQ(places(config, 10'000, 2).clients, 500u);
  EXPECT_THAT(places(config, 10'000, 2).warnings, testing::IsEmpty());
  const Places few = places(config, 400, 2);
  EXPECT_EQ(few.clients, 400u - 100 - 60);
  ASSERT_EQ(few.warnings.size(), 1u);
  EXPECT_THAT(few.warnings[0], testing::StartsWith("listen.max_clients asks for 500 clients, and of the 400 file "
                                                   "descriptors there are 240 for them"));
}

TEST(Places, WithFewDescriptorsEverybodyGetsAPart) {
  const Places made = places(config_with(4, 100), 200, 4);
  EXPECT_EQ(made.itself, 50u);
  EXPECT_EQ(made.servers, 75u);
  EXPECT_EQ(made.clients, 75u);
  ASSERT_EQ(made.warnings.size(), 2u);
  EXPECT_THAT(made.warnings[0], testing::StartsWith("the pools may open 1200 server connections"));
  EXPECT_THAT(made.warnings[1], testing::StartsWith("limits.clients asks for 100 clients"));
}

TEST(Places, NoDescriptorsAtAll) {
  EXPECT_EQ(places(config_with(1, 1), 0, 1).clients, 0u);
}

}  // namespace
}  // namespace tessera::proxy
