#include "proxy/events.hpp"

#include <algorithm>

namespace tessera::proxy {

void Events::add(std::string_view severity, std::string_view text,
                 std::initializer_list<std::pair<std::string_view, std::string_view>> fields) {
  constexpr std::size_t longest = 1'000;
  Event event{0, std::chrono::system_clock::now(), severity, std::string(text), {}};
  for (const auto& [name, value] : fields) event.fields.emplace_back(name, value.substr(0, longest));
  const std::scoped_lock lock(mutex_);
  event.id = next_++;
  std::size_t& kind = of_a_kind_[event.text];
  if (kind >= most_of_a_kind) {
    const auto oldest =
        std::find_if(events_.begin(), events_.end(), [&](const Event& one) { return one.text == event.text; });
    events_.erase(oldest);
    --kind;
  }
  ++kind;
  events_.push_back(std::move(event));
  if (events_.size() <= most) return;
  const auto oldest = of_a_kind_.find(events_.front().text);
  if (--oldest->second == 0) of_a_kind_.erase(oldest);
  events_.pop_front();
}

std::vector<Event> Events::after(std::uint64_t id) const {
  const std::scoped_lock lock(mutex_);
  std::vector<Event> found;
  for (const Event& event : events_)
    if (event.id > id) found.push_back(event);
  return found;
}

Events& events() {
  static Events all;
  return all;
}

}  // namespace tessera::proxy
