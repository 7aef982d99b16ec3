// Commit: ends a transaction that has work on several shards. Whoever commits over several shards does it here.
//
// For now in turn: COMMIT on one after the other. If the first one fails nothing is committed, and the client gets its
// error. If a later one does, some are committed and the others not: the error says so (08007) and names them. That
// this cannot happen is what two-phase commit will be for.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "executor/execution.hpp"

namespace tessera::executor {

class Commit final : public Execution {
public:
  // `places`: lent, each in a transaction that has not failed. Afterwards none is in one.
  Commit(const std::vector<Place>& places, net::EventLoop& loop, Events events);

private:
  class Part;
  Branch* relaying() const override { return nullptr; }
  void on_acquired() override { go_on(); }
  void part_ended();
  void go_on();
  Error outcome() const;

  std::vector<Part*> parts_;
  std::optional<Error> reason_;  // why it cannot be completed
};

}  // namespace tessera::executor
