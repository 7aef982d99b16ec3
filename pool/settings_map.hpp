// A sorted map of texts that is cheap to copy and to change: copies share their nodes, and a change makes anew the few
// nodes above it (a persistent AVL tree). So a session may have thousands of settings or channels, and each transaction
// and savepoint a map of its own, and a SET costs the logarithm of their number. What two maps share is not looked at
// when they are compared. The nodes are immutable: copies may belong to different threads.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tessera::pool {

class SettingsMap {
  struct Node;
  using Link = std::shared_ptr<const Node>;

public:
  using value_type = std::pair<const std::string, std::string>;

  SettingsMap() = default;
  SettingsMap(std::initializer_list<value_type> entries);

  bool empty() const { return root_ == nullptr; }
  std::size_t size() const;
  std::size_t hash() const;                             // of the entries, in whatever order they came
  const value_type* find(std::string_view name) const;  // null: there is none
  std::string_view value(std::string_view name) const;  // empty: there is none
  bool contains(std::string_view name) const { return find(name) != nullptr; }
  void set(std::string_view name, std::string_view value);
  void erase(std::string_view name);
  void clear() { root_ = nullptr; }
  bool operator==(const SettingsMap& other) const;

  struct Difference {
    std::string_view name;
    const std::string* before;  // null: not there
    const std::string* after;
  };
  // In the order of the names; no more than the first `most` of them.
  static std::vector<Difference> differences(const SettingsMap& before, const SettingsMap& after,
                                             std::size_t most = static_cast<std::size_t>(-1));

  class Iterator {
  public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = SettingsMap::value_type;
    using difference_type = std::ptrdiff_t;
    using pointer = const value_type*;
    using reference = const value_type&;
    Iterator() = default;
    explicit Iterator(const Node* root) { descend(root); }
    reference operator*() const;
    pointer operator->() const { return &**this; }
    Iterator& operator++();
    Iterator operator++(int);
    bool operator==(const Iterator&) const = default;

  private:
    void descend(const Node* node);
    std::vector<const Node*> path_;  // those to come whose left side is done or at hand; the next one is the last
  };
  using iterator = Iterator;
  using const_iterator = Iterator;
  Iterator begin() const { return Iterator(root_.get()); }
  Iterator end() const { return {}; }

private:
  class Rest;
  static Link made(const value_type& entry, Link left, Link right);
  static Link balanced(const value_type& entry, Link left, Link right);
  static Link with(const Link& node, const value_type& entry);
  static Link without(const Link& node, std::string_view name);
  static Link joined(const Link& left, const Link& right);

  Link root_;
};

}  // namespace tessera::pool
