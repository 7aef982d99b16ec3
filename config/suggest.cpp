#include "config/suggest.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <fmt/core.h>

namespace tessera::config {
namespace {

// Longer names are no typing mistakes, and the distance takes time in the product of the lengths.
constexpr std::size_t longest = 64;
constexpr std::size_t most_candidates = 1000;

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

std::size_t distance(std::string_view a, std::string_view b) {
  std::array<std::array<std::size_t, longest + 1>, 3> rows{};
  for (std::size_t j = 0; j <= b.size(); ++j) rows[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    auto& row = rows[i % 3];
    const auto& above = rows[(i + 2) % 3];
    const auto& two_above = rows[(i + 1) % 3];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const char x = lower(a[i - 1]);
      const char y = lower(b[j - 1]);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (x == y ? 0u : 1u)});
      const bool swapped = i > 1 && j > 1 && x == lower(b[j - 2]) && lower(a[i - 2]) == y;
      if (swapped) row[j] = std::min(row[j], two_above[j - 2] + 1);
    }
  }
  return rows[a.size() % 3][b.size()];
}

}  // namespace

std::string_view nearest(std::string_view name, std::span<const std::string_view> allowed) {
  if (name.empty() || name.size() > longest || allowed.size() > most_candidates) return {};
  std::string_view best;
  // Up to a third of the name may be wrong, but never all of it.
  std::size_t best_distance = std::min(std::max<std::size_t>(1, name.size() / 3) + 1, name.size());
  for (const std::string_view candidate : allowed) {
    if (candidate.size() > longest) continue;
    // A word that goes on where the other ends: warning for warn.
    constexpr std::size_t shortest_stem = 3;
    const bool stem = std::min(name.size(), candidate.size()) >= shortest_stem &&
                      (name.starts_with(candidate) || candidate.starts_with(name));
    const std::size_t d = stem ? 1 : distance(name, candidate);
    if (d < best_distance) {
      best = candidate;
      best_distance = d;
    }
  }
  return best;
}

std::string join(std::span<const std::string_view> names) {
  constexpr std::size_t shown = 30;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), shown); ++i) {
    if (i > 0) text += ", ";
    text += names[i];
  }
  if (names.size() > shown) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

std::string suggestion(std::string_view name, std::span<const std::string_view> allowed, std::string_view lead) {
  if (allowed.empty()) return {};
  const std::string_view best = nearest(name, allowed);
  std::string text = best.empty() ? std::string() : fmt::format("did you mean \"{}\"? ", best);
  return text + fmt::format("{}: {}", lead, join(allowed));
}

}  // namespace tessera::config
