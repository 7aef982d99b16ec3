// The numbers of one sequence: fetched in blocks and given out one by one, in the order in which they came. A block is
// as long as demand has shown: one number at first, twice as many each time that one is used up while it is fresh. What
// is not used within a second is void, so that a sequence that is set elsewhere counts soon, and an idle one leaves no
// gaps. Pure: time, and what is fetched, come from outside. Belongs to one worker.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"

namespace tessera::proxy {

class IdSource {
public:
  using Numbers = std::vector<std::int64_t>;
  using Then = std::function<void(Result<Numbers>)>;
  static constexpr std::size_t longest_block = 256;
  static constexpr Duration lifetime = std::chrono::seconds(1);

  // So many at once, if they are here and nobody else waits for them.
  std::optional<Numbers> take(std::size_t count, TimePoint now);
  // …or as soon as they are: `then` is called from fetched().
  void ask(std::size_t count, TimePoint now, Then then);
  // How many are to be fetched, which is under way from now on; 0: none.
  std::size_t fetch(TimePoint now);
  // What came of that. Fewer than asked for are as good.
  void fetched(Result<Numbers> numbers);
  // The sequence was set: what is here or on its way is void.
  void forget();
  bool fetching() const { return fetching_; }
  // Nothing is here, and nobody waits.
  bool idle(TimePoint now);
  TimePoint fetched_at() const { return fetch_began_; }
  // Of the first of those who wait. Far away: nobody does.
  TimePoint waits_since() const { return waiting_.empty() ? TimePoint::max() : waiting_.front().since; }

private:
  struct Block {
    std::deque<std::int64_t> numbers;
    TimePoint since;  // they are as old as the request for them
  };
  struct Waiting {
    std::size_t count;
    TimePoint since;
    Then then;
  };
  std::size_t stock() const;
  std::size_t wanted() const;
  Numbers pick(std::size_t count);
  void expire(TimePoint now);

  std::deque<Block> blocks_;
  std::deque<Waiting> waiting_;
  std::size_t length_ = 1;  // of the next block
  std::size_t used_ = 0;    // since the last one was asked for
  bool fetching_ = false;
  bool void_ = false;  // what is being fetched
  TimePoint fetch_began_{};
};

}  // namespace tessera::proxy
