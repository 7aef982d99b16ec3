// Strong ids: an index or a number that means one thing is a type of its own, never a raw int.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace tessera {

template <typename Tag, typename Rep = std::uint32_t>
class StrongId {
public:
  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep value) : value_(value) {}
  constexpr Rep value() const { return value_; }
  friend constexpr auto operator<=>(const StrongId&, const StrongId&) = default;

private:
  Rep value_{};
};

// Position of a shard in its database's shard list, and of a rule or table in the topology's lists.
using ShardId = StrongId<struct ShardIdTag>;
using RuleId = StrongId<struct RuleIdTag>;
using TableId = StrongId<struct TableIdTag>;
// Numbers a client session or a backend connection for the life of the process.
using SessionId = StrongId<struct SessionIdTag, std::uint64_t>;
using BackendId = StrongId<struct BackendIdTag, std::uint64_t>;

}  // namespace tessera

template <typename Tag, typename Rep>
struct std::hash<tessera::StrongId<Tag, Rep>> {
  std::size_t operator()(const tessera::StrongId<Tag, Rep>& id) const noexcept { return std::hash<Rep>{}(id.value()); }
};
