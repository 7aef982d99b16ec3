#include "proxy/id_source.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace tessera::proxy {

std::size_t IdSource::stock() const {
  return std::transform_reduce(blocks_.begin(), blocks_.end(), std::size_t{0}, std::plus<>(),
                               [](const Block& block) { return block.numbers.size(); });
}

std::size_t IdSource::wanted() const {
  return std::transform_reduce(waiting_.begin(), waiting_.end(), std::size_t{0}, std::plus<>(),
                               [](const Waiting& waiting) { return waiting.count; });
}

void IdSource::expire(TimePoint now) {
  while (!blocks_.empty() && now - blocks_.front().since >= lifetime) {
    length_ = std::clamp<std::size_t>(used_, 1, length_);
    blocks_.pop_front();
  }
}

IdSource::Numbers IdSource::pick(std::size_t count) {
  Numbers picked;
  used_ += count;
  while (picked.size() < count) {
    std::deque<std::int64_t>& numbers = blocks_.front().numbers;
    picked.push_back(numbers.front());
    numbers.pop_front();
    if (numbers.empty()) blocks_.pop_front();
  }
  return picked;
}

std::optional<IdSource::Numbers> IdSource::take(std::size_t count, TimePoint now) {
  expire(now);
  if (!waiting_.empty() || stock() < count) return std::nullopt;
  return pick(count);
}

void IdSource::ask(std::size_t count, TimePoint now, Then then) {
  waiting_.push_back({count, now, std::move(then)});
}

std::size_t IdSource::fetch(TimePoint now) {
  if (fetching_) return 0;
  expire(now);
  const std::size_t here = stock();
  const std::size_t missing = wanted() - std::min(wanted(), here);
  // A long block is followed by the next before it is empty.
  const bool ahead = length_ > 4 && here > 0 && here <= length_ / 4 && used_ > 0;
  if (missing == 0 && !ahead) return 0;
  if (fetch_began_ != TimePoint{}) {
    if (now - fetch_began_ < lifetime)
      length_ = std::min(length_ * 2, longest_block);
    else
      length_ = std::clamp<std::size_t>(used_, 1, length_);
  }
  fetching_ = true;
  void_ = false;
  fetch_began_ = now;
  used_ = 0;
  return std::max(length_, missing);
}

void IdSource::fetched(Result<Numbers> numbers) {
  fetching_ = false;
  if (numbers && !void_ && !numbers->empty()) blocks_.push_back({{numbers->begin(), numbers->end()}, fetch_began_});
  std::vector<std::pair<Then, Result<Numbers>>> told;
  while (!waiting_.empty() && stock() >= waiting_.front().count) {
    told.emplace_back(std::move(waiting_.front().then), pick(waiting_.front().count));
    waiting_.pop_front();
  }
  if (!numbers)
    for (Waiting& waiting : std::exchange(waiting_, {}))
      told.emplace_back(std::move(waiting.then), std::unexpected(numbers.error()));
  for (auto& [then, result] : told) then(std::move(result));
}

bool IdSource::idle(TimePoint now) {
  expire(now);
  return !fetching_ && waiting_.empty() && blocks_.empty();
}

void IdSource::forget() {
  blocks_.clear();
  length_ = 1;
  void_ = true;
}

}  // namespace tessera::proxy
