// Logins that did not come to be, by database and SQLSTATE. Names that strangers make up are not kept: what concerns no
// configured database counts under "". Thread-safe; never touched by a statement.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.hpp"

namespace tessera::proxy {

class LoginFailures {
public:
  using Counts = std::map<std::pair<std::string, std::string>, std::uint64_t>;  // (database, SQLSTATE)

  void count(std::string_view database, SqlState code) {
    const std::scoped_lock lock(mutex_);
    ++counts_[{std::string(database), std::string(code.view())}];
  }
  Counts counts() const {
    const std::scoped_lock lock(mutex_);
    return counts_;
  }

private:
  mutable std::mutex mutex_;
  Counts counts_;
};

}  // namespace tessera::proxy
