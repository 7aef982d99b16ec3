// Follows the host names of the shards: a name may mean another address by now (fail-over by DNS, a container that was
// started anew). They are looked up again every `backend.resolve_interval`, and soon when servers do not answer; on a
// thread of their own, because a name service may take its time.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "net/socket.hpp"
#include "proxy/chores.hpp"
#include "proxy/runtime.hpp"

namespace tessera::proxy {

using Resolve = std::function<Result<std::vector<net::SocketAddress>>(const std::string& host, std::uint16_t port)>;

struct NamesSeen {
  // There is a shard whose name means other addresses than those in the runtime. The others were not looked at then.
  bool moved = false;
  // By name, of those that were looked up: why they cannot be; empty: they can. A name that cannot be looked up goes on
  // meaning what it did.
  std::map<std::string, std::string> reasons;
};
// Blocks as long as `resolve` does.
NamesSeen look_up(const Runtime& runtime, const Resolve& resolve);

class ShardNames {
public:
  // `moved` takes the new addresses over, or says why it cannot. It is called on the thread of this object.
  using Moved = std::function<Result<void>(const Runtime&)>;
  explicit ShardNames(Moved moved, Resolve resolve = net::resolve);

  // Any worker, every tick. `failing`: some server that it asked does not answer.
  void check(const std::shared_ptr<const Runtime>& runtime, TimePoint now, bool failing);
  // What `check` has done on the thread of this object: looks once, now. One thread at a time.
  void look(const Runtime& runtime);
  // Waits for the lookup that is under way.
  void stop() { thread_.stop(); }

private:
  static constexpr std::chrono::seconds pause_when_failing{1};

  void note_reasons(const Runtime& runtime, const NamesSeen& seen);

  Moved moved_;
  Resolve resolve_;
  // As the log has it, which hears of changes alone. The thread's only.
  std::set<std::string> unknown_;  // names that cannot be looked up
  std::string refused_;            // why the new addresses cannot be used
  std::atomic<TimePoint> looked_up_at_;
  std::atomic<bool> busy_ = false;
  Chores thread_;
};

}  // namespace tessera::proxy
