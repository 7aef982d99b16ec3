// Sends statements of the extended protocol to one server: one for all of them, the unnamed one. For each message the
// reply is expected.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "executor/execution.hpp"
#include "wire/postgres/frontend.hpp"

namespace tessera::executor {

// The client's parameters and formats. `body`: its Bind behind the two names, or empty; `buffer`: what `out` views.
bool parse_parameters(const std::string& body, std::string& buffer, postgres::BindView& out);

class Sender {
public:
  explicit Sender(pool::Backend& backend) : backend_(backend) {}

  void query(std::string_view sql, std::uint32_t tag);
  void parse(std::string_view sql, const std::vector<postgres::Oid>& types);
  void bind(const postgres::BindView& values, std::span<const std::int16_t> results);
  void describe(char kind, std::string_view portal = {});
  void execute(pool::ExpectedReply expected, std::int32_t limit = 0);
  // A query of our own.
  void ask(std::string_view sql);
  void sync(std::uint32_t tag);
  // An error: a message was longer than one may be.
  Result<void> sent() const;

private:
  pool::Backend& backend_;
  bool sent_ = true;
};

}  // namespace tessera::executor
