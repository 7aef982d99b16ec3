// "Did you mean …": the nearest of the allowed names, and the sentence that lists them.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::config {

// The name with the smallest edit distance (insert, delete, replace, swap of neighbours), ASCII case counting nothing;
// empty if even that one is too far away to be meant.
std::string_view nearest(std::string_view name, std::span<const std::string_view> allowed);

// `did you mean "size"? allowed here: mode, size`. With no names allowed, empty.
std::string suggestion(std::string_view name, std::span<const std::string_view> allowed, std::string_view lead);

// "a, b, c", at most 30 of them.
std::string join(std::span<const std::string_view> names);

}  // namespace tessera::config
