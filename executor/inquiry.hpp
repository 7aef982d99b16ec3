// Inquiry: queries of our own, one after the other, on a connection that a transaction lends. Their rows are held, as
// text.
#pragma once

#include <string>
#include <vector>

#include "executor/execution.hpp"
#include "pool/text_rows.hpp"

namespace tessera::executor {

class Inquiry final : public Execution {
public:
  using Rows = std::vector<pool::TextRows::Row>;

  Inquiry(std::vector<std::string> queries, const Place& place, net::EventLoop& loop, Events events);
  // When it is done: those of each query.
  const std::vector<Rows>& results() const { return results_; }

private:
  class Part;
  Branch* relaying() const override { return nullptr; }

  std::vector<std::string> queries_;
  std::vector<Rows> results_;
};

}  // namespace tessera::executor
