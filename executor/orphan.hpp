// Finishes a commit whose client has gone: what was asked for is carried out, as by a server, and its connections go
// back to their pools.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "executor/execution.hpp"
#include "executor/idle_owner.hpp"

namespace tessera::executor {

class Orphan final : public IdleOwner {
public:
  // `backends`: what the commit was lent. `done`: from the loop, last.
  Orphan(std::unique_ptr<Execution> commit, std::vector<pool::Backend*> backends, std::function<void()> done);
  ~Orphan() override;

private:
  void finished();

  void on_backend_lost(pool::Backend& backend, const Error&) override { std::erase(backends_, &backend); }

  std::unique_ptr<Execution> commit_;
  std::vector<pool::Backend*> backends_;
  std::function<void()> done_;
};

}  // namespace tessera::executor
