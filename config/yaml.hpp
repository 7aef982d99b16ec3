// YAML text to a plain tree of values, each knowing where it stood. The only place that knows yaml-cpp. We take its
// parser's events and build the tree ourselves, because its own tree keeps duplicate keys silently, shares aliased
// nodes (so that a few lines can stand for billions of values), and has no limits.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "config/problems.hpp"

namespace tessera::config {

inline constexpr std::size_t max_yaml_bytes = 16u << 20;
inline constexpr std::size_t max_yaml_nodes = 400'000;
inline constexpr int max_yaml_depth = 64;

struct Node {
  enum class Kind { null, scalar, sequence, mapping };
  Kind kind = Kind::null;
  Mark mark;
  std::string text;         // scalar: its value, secrets expanded
  std::string raw;          // scalar: what stands in the file, if `text` was expanded from it
  bool broken = false;      // scalar: reported already (a secret that cannot be read), so not to be judged again
  std::string key;          // when this is a value of a mapping
  Mark key_mark;            // likewise
  std::vector<Node> items;  // of a sequence or a mapping, in file order

  bool expanded() const { return !raw.empty(); }
  // What a message may show.
  const std::string& shown() const { return expanded() ? raw : text; }
  const Node* find(std::string_view name) const;
};

// "a mapping", "a list", "nothing", "a value".
std::string_view kind_name(Node::Kind kind);

// The one document of `text`. Syntax errors, too many values, too deep nesting: a problem, and a null node.
// Keys that occur twice in a mapping: a problem each, the first one stays.
Node parse_yaml(std::string_view text, int file, Problems& problems);

// Adds the keys of `from` to `into`, both mappings (or null); mappings under the same key are merged in their turn,
// a key without a value gives way, anything else under the same key is a problem.
void merge_yaml(Node& into, Node from, Problems& problems);

}  // namespace tessera::config
