// Follows the host names of the shards: a name may mean another address by now (fail-over by DNS, a container that was
// started anew). They are looked up again every `backend.resolve_interval`, and soon when servers do not answer; on a
// thread of their own, because a name service may take its time.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "net/socket.hpp"
#include "proxy/chores.hpp"
#include "proxy/runtime.hpp"

namespace tessera::proxy {

using Resolve = std::function<Result<std::vector<net::SocketAddress>>(const std::string& host, std::uint16_t port)>;

// Is there a shard whose name means other addresses than those in `runtime`? A name that cannot be looked up goes on
// meaning what it did. Blocks as long as `resolve` does.
bool have_moved(const Runtime& runtime, const Resolve& resolve);

class ShardNames {
public:
  // `moved` is called on the thread of this object.
  explicit ShardNames(std::function<void(const Runtime&)> moved, Resolve resolve = net::resolve);

  // Any worker, every tick. `failing`: some server that it asked does not answer.
  void check(const std::shared_ptr<const Runtime>& runtime, TimePoint now, bool failing);
  // Waits for the lookup that is under way.
  void stop() { thread_.stop(); }

private:
  static constexpr std::chrono::seconds pause_when_failing{1};

  std::function<void(const Runtime&)> moved_;
  Resolve resolve_;
  std::atomic<TimePoint> looked_up_at_;
  std::atomic<bool> busy_ = false;
  Chores thread_;
};

}  // namespace tessera::proxy
