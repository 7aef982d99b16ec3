#include "pool/settings_map.hpp"

#include <algorithm>
#include <functional>

namespace tessera::pool {

struct SettingsMap::Node {
  value_type entry;
  Link left, right;
  int height;
  std::size_t size;  // of the whole subtree, as the hash is
  std::size_t hash;
};

namespace {

std::size_t hash_of(const SettingsMap::value_type& entry) {
  const std::hash<std::string_view> hash;
  return (hash(entry.first) * 31 + hash(entry.second)) * 0x9E3779B97F4A7C15;
}

template <typename Link>
int height_of(const Link& node) {
  return node ? node->height : 0;
}

}  // namespace

SettingsMap::SettingsMap(std::initializer_list<value_type> entries) {
  for (const auto& [name, value] : entries) set(name, value);
}

std::size_t SettingsMap::size() const {
  return root_ ? root_->size : 0;
}

std::size_t SettingsMap::hash() const {
  return root_ ? root_->hash : 0;
}

const SettingsMap::value_type* SettingsMap::find(std::string_view name) const {
  const Node* node = root_.get();
  while (node != nullptr && node->entry.first != name)
    node = name < node->entry.first ? node->left.get() : node->right.get();
  return node == nullptr ? nullptr : &node->entry;
}

std::string_view SettingsMap::value(std::string_view name) const {
  const value_type* const found = find(name);
  return found == nullptr ? std::string_view() : std::string_view(found->second);
}

void SettingsMap::set(std::string_view name, std::string_view value) {
  if (const value_type* const found = find(name); found != nullptr && found->second == value) return;
  root_ = with(root_, {std::string(name), std::string(value)});
}

void SettingsMap::erase(std::string_view name) {
  if (contains(name)) root_ = without(root_, name);
}

// ---- the tree -------------------------------------------------------------------------------------------------------

SettingsMap::Link SettingsMap::made(const value_type& entry, Link left, Link right) {
  Node node{entry, std::move(left), std::move(right), 0, 1, hash_of(entry)};
  node.height = 1 + std::max(height_of(node.left), height_of(node.right));
  for (const Link& side : {node.left, node.right}) {
    if (!side) continue;
    node.size += side->size;
    node.hash += side->hash;
  }
  return std::make_shared<const Node>(std::move(node));
}

// One side may be higher than the other by two.
SettingsMap::Link SettingsMap::balanced(const value_type& entry, Link left, Link right) {
  if (height_of(left) > height_of(right) + 1) {
    if (height_of(left->left) >= height_of(left->right))
      return made(left->entry, left->left, made(entry, left->right, std::move(right)));
    const Link& top = left->right;
    return made(top->entry, made(left->entry, left->left, top->left), made(entry, top->right, std::move(right)));
  }
  if (height_of(right) > height_of(left) + 1) {
    if (height_of(right->right) >= height_of(right->left))
      return made(right->entry, made(entry, std::move(left), right->left), right->right);
    const Link& top = right->left;
    return made(top->entry, made(entry, std::move(left), top->left), made(right->entry, top->right, right->right));
  }
  return made(entry, std::move(left), std::move(right));
}

SettingsMap::Link SettingsMap::with(const Link& node, const value_type& entry) {
  if (!node) return made(entry, nullptr, nullptr);
  if (entry.first == node->entry.first) return made(entry, node->left, node->right);
  if (entry.first < node->entry.first) return balanced(node->entry, with(node->left, entry), node->right);
  return balanced(node->entry, node->left, with(node->right, entry));
}

SettingsMap::Link SettingsMap::without(const Link& node, std::string_view name) {
  if (name == node->entry.first) return joined(node->left, node->right);
  if (name < node->entry.first) return balanced(node->entry, without(node->left, name), node->right);
  return balanced(node->entry, node->left, without(node->right, name));
}

SettingsMap::Link SettingsMap::joined(const Link& left, const Link& right) {
  if (!left) return right;
  if (!right) return left;
  const Node* first = right.get();
  while (first->left) first = first->left.get();
  return balanced(first->entry, left, without(right, first->entry.first));
}

// ---- all of them ----------------------------------------------------------------------------------------------------

void SettingsMap::Iterator::descend(const Node* node) {
  for (; node != nullptr; node = node->left.get()) path_.push_back(node);
}

SettingsMap::Iterator::reference SettingsMap::Iterator::operator*() const {
  return path_.back()->entry;
}

SettingsMap::Iterator& SettingsMap::Iterator::operator++() {
  const Node* const done = path_.back();
  path_.pop_back();
  descend(done->right.get());
  return *this;
}

SettingsMap::Iterator SettingsMap::Iterator::operator++(int) {
  Iterator before = *this;
  ++*this;
  return before;
}

// What of a map is still to be compared: subtrees and single entries, the first one last.
class SettingsMap::Rest {
public:
  explicit Rest(const SettingsMap& map) { push(map.root_.get()); }
  bool empty() const { return parts_.empty(); }
  void pop() { parts_.pop_back(); }
  const value_type& entry() const { return parts_.back().node->entry; }
  // Of the part at hand; 0: it is a single entry.
  std::size_t to_open() const { return parts_.back().whole ? parts_.back().node->size : 0; }
  bool shares(const Rest& other) const {
    return parts_.back().whole && other.parts_.back().whole && parts_.back().node == other.parts_.back().node;
  }
  void open() {
    const Node* const node = parts_.back().node;
    parts_.pop_back();
    push(node->right.get());
    parts_.push_back({node, false});
    push(node->left.get());
  }

private:
  struct Part {
    const Node* node;
    bool whole;  // with all that is below it
  };
  void push(const Node* node) {
    if (node != nullptr) parts_.push_back({node, true});
  }
  std::vector<Part> parts_;
};

std::vector<SettingsMap::Difference> SettingsMap::differences(const SettingsMap& before, const SettingsMap& after,
                                                              std::size_t most) {
  std::vector<Difference> found;
  Rest old(before), now(after);
  while (found.size() < most && !(old.empty() && now.empty())) {
    if (!old.empty() && !now.empty() && old.shares(now)) {
      old.pop();
      now.pop();
      continue;
    }
    // The larger part is opened, so that the maps meet where they share a subtree.
    const std::size_t in_old = old.empty() ? 0 : old.to_open(), in_now = now.empty() ? 0 : now.to_open();
    if (in_old > 0 || in_now > 0) {
      (in_old >= in_now ? old : now).open();
      continue;
    }
    const int order = old.empty() ? 1 : now.empty() ? -1 : old.entry().first.compare(now.entry().first);
    const std::string* const was = order <= 0 ? &old.entry().second : nullptr;
    const std::string* const is = order >= 0 ? &now.entry().second : nullptr;
    if (was == nullptr || is == nullptr || *was != *is)
      found.push_back({order <= 0 ? old.entry().first : now.entry().first, was, is});
    if (order <= 0) old.pop();
    if (order >= 0) now.pop();
  }
  return found;
}

bool SettingsMap::operator==(const SettingsMap& other) const {
  if (root_ == other.root_) return true;
  return size() == other.size() && hash() == other.hash() && differences(*this, other, 1).empty();
}

}  // namespace tessera::pool
