// The golden plans: see golden.hpp.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>

#include "router/golden.hpp"

namespace tessera::router {
namespace {

class GoldenPlans : public testing::TestWithParam<std::string> {};

TEST_P(GoldenPlans, AreAsAccepted) {
  golden::File file = golden::read(GetParam());
  const auto topology = Topology::build(std::make_shared<const config::Database>(file.database), file.catalog, 1);
  ASSERT_TRUE(topology) << topology.error().message << " " << topology.error().detail;
  ASSERT_FALSE(file.cases.empty());
  const bool accept = std::getenv("TESSERA_ACCEPT") != nullptr;
  for (golden::Case& one : file.cases) {
    const std::string actual = golden::explain(file, **topology, one.sql);
    if (accept) {
      one.expected = actual;
    } else {
      EXPECT_EQ(actual, one.expected) << one.sql << "\nTESSERA_ACCEPT=1 accepts what is printed now";
    }
  }
  if (accept) golden::write(file);
}

std::vector<std::string> files() {
  std::vector<std::string> found;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("router/testdata/plans", none)) {
    if (entry.path().extension() == ".txt") found.push_back(entry.path().string());
  }
  std::ranges::sort(found);
  return found;
}

std::string test_name(const testing::TestParamInfo<std::string>& info) {
  return std::filesystem::path(info.param).stem().string();
}

INSTANTIATE_TEST_SUITE_P(Router, GoldenPlans, testing::ValuesIn(files()), test_name);

}  // namespace
}  // namespace tessera::router
