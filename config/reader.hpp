// Reads one mapping of the tree by the table of keys. A `Section` checks on construction that the node is a mapping,
// that all its keys are in the table and none that must be there is missing; `read` then converts one value, and leaves
// the target (and with it the default) as it is when the key is absent or its value was reported as wrong. `finish`
// holds the code to the table: a key that was never asked for is a mistake of ours and throws std::logic_error, as does
// asking for a key that is not in the table. Nodes and context are borrowed.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "config/keys.hpp"
#include "config/load.hpp"
#include "config/yaml.hpp"

namespace tessera::config {

struct Context {
  Problems& problems;
  const Environment& env;

  void problem(Mark where, std::string message, std::string hint = {}) const {
    problems.add(where, std::move(message), std::move(hint));
  }
  void warning(Mark where, std::string message, std::string hint = {}) const {
    problems.add_warning(where, std::move(message), std::move(hint));
  }
  SourcePosition position(Mark where) const { return problems.position(where); }
};

class Section {
public:
  Section(const Node& node, const SectionSpec& spec, const Context& context);

  const Context& context() const { return context_; }
  const Node& node() const { return node_; }
  Mark mark() const;  // of the key under which it stands, or of the mapping

  // The value under a key; null if the key is absent, has no value, or was reported already.
  const Node* find(std::string_view key);
  bool has(std::string_view key) { return find(key) != nullptr; }
  void problem(std::string_view key, std::string message, std::string hint = {});
  void warning(std::string_view key, std::string message, std::string hint = {});

  void read(std::string_view key, std::string& out);
  void read(std::string_view key, Secret& out);
  void read(std::string_view key, int& out);
  void read(std::string_view key, std::uint64_t& out);
  void read(std::string_view key, bool& out);
  void read(std::string_view key, Milliseconds& out);
  void read(std::string_view key, Address& out);
  void read(std::string_view key, std::vector<std::string>& out);
  template <typename Enum>
    requires std::is_enum_v<Enum>
  void read(std::string_view key, Enum& out) {
    if (const auto value = choice_value(key)) out = static_cast<Enum>(*value);
  }
  template <typename T>
  void read(std::string_view key, std::optional<T>& out) {
    if (!has(key)) return;
    const std::size_t before = problem_count();
    T value{};
    read(key, value);
    if (problem_count() == before) out = value;
  }

  // Each text of a list (or the single one), with its place.
  void each_text(std::string_view key, const std::function<void(const Node&)>& visit);
  // Each value of a mapping from names to texts; its name is `node.key`.
  void each_named_text(std::string_view key, const std::function<void(const Node&)>& visit);
  void section(std::string_view key, const std::function<void(Section)>& visit);
  void each_section(std::string_view key, const std::function<void(Section)>& visit);        // of a list
  void each_named_section(std::string_view key, const std::function<void(Section)>& visit);  // name is node().key

  void finish() const;

private:
  const Key& lookup(std::string_view name, std::initializer_list<Kind> kinds);
  const Node* scalar(const Key& key);
  const Node* of_kind(const Key& key, Node::Kind kind);
  std::optional<int> choice_value(std::string_view key);
  void check_pem(const Node& node, const std::string& path) const;
  const SectionSpec* variant(const Node& node, const SectionSpec& spec) const;
  void check_keys() const;
  void check_effect(const Key& key, const Node& item) const;
  std::size_t problem_count() const;

  const Node& node_;
  const SectionSpec& spec_;
  const Context& context_;
  std::set<std::string_view> asked_;
};

// Reports a value that is not among the allowed ones, with the nearest of them.
void unknown_name(const Context& context, const Node& node, std::string_view message,
                  std::span<const std::string_view> allowed);

// A name that a user gave to something: not empty, no control characters. False: reported.
bool check_name(const Context& context, Mark where, const std::string& name, std::string_view what);

}  // namespace tessera::config
