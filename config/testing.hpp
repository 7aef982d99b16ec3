// For this folder's tests: an environment with known variables, and comparison with checked-in text.
#pragma once

#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <sstream>
#include <string>

#include "config/load.hpp"

namespace tessera::config {

// Real files, and a few variables whose values no message may show: each holds the word "canary".
inline Environment test_environment() {
  Environment env = real_environment();
  env.variable = [](const std::string& name) -> std::optional<std::string> {
    static const std::map<std::string, std::string> variables = {{"TESSERA_ADMIN_TOKEN", "canary-token"},
                                                                 {"APP_PASSWORD", "canary-password"},
                                                                 {"CANARY", "canary"},
                                                                 {"EMPTY", ""}};
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  };
  return env;
}

// `actual` is what the file at `path` holds. With TESSERA_ACCEPT=1 in the environment the file is written instead, for
// a reader of the diff to judge.
inline void expect_golden(const std::string& path, const std::string& actual) {
  if (std::getenv("TESSERA_ACCEPT") != nullptr) {
    std::ofstream(path, std::ios::binary) << actual;
    return;
  }
  std::ifstream stream(path, std::ios::binary);
  ASSERT_TRUE(stream) << path << " is missing; TESSERA_ACCEPT=1 writes it";
  std::ostringstream expected;
  expected << stream.rdbuf();
  EXPECT_EQ(actual, expected.str()) << "differs from " << path << "; TESSERA_ACCEPT=1 accepts";
}

}  // namespace tessera::config
