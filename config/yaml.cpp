#include "config/yaml.hpp"

#include <fmt/core.h>
#include <map>
#include <sstream>
#include <unordered_map>
#include <utility>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

namespace tessera::config {
namespace {

// Text and nodes that aliases may add up to, in bytes.
constexpr std::size_t max_expanded_bytes = 4 * max_yaml_bytes;

// What one node stands for once its aliases are expanded.
struct Weight {
  std::size_t nodes = 0;
  std::size_t bytes = 0;
  int depth = 0;
};

Weight weigh(const Node& node) {
  Weight sum{1, node.text.size() + node.key.size(), 1};
  for (const Node& item : node.items) {
    const Weight one = weigh(item);
    sum.nodes += one.nodes;
    sum.bytes += one.bytes;
    sum.depth = std::max(sum.depth, one.depth + 1);
  }
  return sum;
}

// Builds the tree from the parser's events. Refuses by throwing, which ends the parse.
class Builder : public YAML::EventHandler {
public:
  explicit Builder(int file) : file_(file) {}
  Node take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (wants_key()) refuse(mark, "a key must be a name");
    Node node;
    node.mark = convert(mark);
    // A missing value has no place of its own; the parser gives that of whatever comes next.
    if (!open_.empty() && open_.back().node.kind == Node::Kind::mapping) node.mark = open_.back().key_mark;
    finish(mark, std::move(node), anchor);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check_tag(mark, tag);
    Node node;
    node.kind = Node::Kind::scalar;
    node.mark = convert(mark);
    node.text = value;
    finish(mark, std::move(node), anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) refuse(mark, "an alias cannot stand inside the value that it names");
    charge(mark, found->second.weight);
    finish(mark, found->second.node, YAML::NullAnchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    start(mark, tag, anchor, Node::Kind::sequence);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    start(mark, tag, anchor, Node::Kind::mapping);
  }
  void OnMapEnd() override { end(); }

private:
  struct Open {
    Node node;
    YAML::anchor_t anchor = YAML::NullAnchor;
    bool has_key = false;
    std::string key;
    Mark key_mark;
  };
  struct Anchored {
    Node node;
    Weight weight;
  };

  [[noreturn]] static void refuse(const YAML::Mark& mark, const std::string& why) {
    throw YAML::ParserException(mark, why);
  }
  static void check_tag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!" || tag == "tag:yaml.org,2002:str") return;
    refuse(mark, "tags (!name) are not supported");
  }
  Mark convert(const YAML::Mark& mark) const { return {file_, mark.line + 1, mark.column + 1}; }
  bool wants_key() const {
    return !open_.empty() && open_.back().node.kind == Node::Kind::mapping && !open_.back().has_key;
  }

  void charge(const YAML::Mark& mark, const Weight& weight) {
    nodes_ += weight.nodes;
    bytes_ += weight.bytes;
    if (nodes_ > max_yaml_nodes || bytes_ > max_expanded_bytes) {
      refuse(mark, fmt::format("too many values: more than {} (or {} MB of text) once aliases are expanded",
                               max_yaml_nodes, max_expanded_bytes >> 20));
    }
    if (static_cast<int>(open_.size()) + weight.depth > max_yaml_depth) {
      refuse(mark, fmt::format("nested more than {} deep", max_yaml_depth));
    }
  }
  void start(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Node::Kind kind) {
    check_tag(mark, tag);
    if (wants_key()) refuse(mark, "a key must be a name");
    charge(mark, {1, 0, 1});
    Open open;
    open.node.kind = kind;
    open.node.mark = convert(mark);
    open.anchor = anchor;
    open_.push_back(std::move(open));
  }
  void end() {
    Open open = std::move(open_.back());
    open_.pop_back();
    attach(std::move(open.node), open.anchor);
  }
  void finish(const YAML::Mark& mark, Node node, YAML::anchor_t anchor) {
    if (node.kind == Node::Kind::null || node.kind == Node::Kind::scalar) charge(mark, {1, node.text.size(), 1});
    if (wants_key()) {
      if (node.kind != Node::Kind::scalar) refuse(mark, "a key must be a name");
      Open& top = open_.back();
      top.has_key = true;
      top.key_mark = convert(mark);
      remember(node, anchor);
      top.key = std::move(node.text);
      return;
    }
    attach(std::move(node), anchor);
  }
  void attach(Node node, YAML::anchor_t anchor) {
    remember(node, anchor);
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& top = open_.back();
    if (top.node.kind == Node::Kind::mapping) {
      node.key = std::move(top.key);
      node.key_mark = top.key_mark;
      top.has_key = false;
    }
    top.node.items.push_back(std::move(node));
  }
  void remember(const Node& node, YAML::anchor_t anchor) {
    if (anchor == YAML::NullAnchor) return;
    const Weight weight = weigh(node);
    // The copy is memory like any other, whether or not an alias follows.
    charge({}, {weight.nodes, weight.bytes, 0});
    anchors_[anchor] = {node, weight};
  }

  int file_;
  Node root_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  std::size_t nodes_ = 0;
  std::size_t bytes_ = 0;
};

void report_duplicate(const Node& again, const Node& first, Problems& problems) {
  problems.add(again.key_mark, fmt::format("duplicate key \"{}\"", again.key), problems.already_at(first.key_mark));
}

void remove_duplicate_keys(Node& node, Problems& problems) {
  if (node.kind == Node::Kind::mapping) {
    std::unordered_map<std::string, std::size_t> seen;
    std::vector<Node> kept;
    for (Node& item : node.items) {
      const auto [first, fresh] = seen.emplace(item.key, kept.size());
      if (fresh) {
        kept.push_back(std::move(item));
      } else {
        report_duplicate(item, kept[first->second], problems);
      }
    }
    node.items = std::move(kept);
  }
  for (Node& item : node.items) remove_duplicate_keys(item, problems);
}

}  // namespace

const Node* Node::find(std::string_view name) const {
  if (kind != Kind::mapping) return nullptr;
  for (const Node& item : items) {
    if (item.key == name) return &item;
  }
  return nullptr;
}

std::string_view kind_name(Node::Kind kind) {
  switch (kind) {
    case Node::Kind::null:
      return "nothing";
    case Node::Kind::scalar:
      return "a single value";
    case Node::Kind::sequence:
      return "a list";
    case Node::Kind::mapping:
      return "a mapping";
  }
  return "nothing";
}

Node parse_yaml(std::string_view text, int file, Problems& problems) {
  if (text.size() > max_yaml_bytes) {
    problems.add({file, 0, 0}, fmt::format("the file is larger than {} MB", max_yaml_bytes >> 20),
                 "a large directory belongs in a file of its own: entries_file");
    return {};
  }
  Builder builder(file);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    Builder second(file);
    if (parser.HandleNextDocument(second)) {
      problems.add({file, 0, 0}, "there is more than one document in the file", "remove the second \"---\"");
    }
  } catch (const YAML::Exception& error) {
    const bool placed = !error.mark.is_null();
    problems.add({file, placed ? error.mark.line + 1 : 0, placed ? error.mark.column + 1 : 0}, "YAML: " + error.msg);
    return {};
  }
  Node root = builder.take();
  remove_duplicate_keys(root, problems);
  return root;
}

void merge_yaml(Node& into, Node from, Problems& problems) {
  if (into.kind == Node::Kind::null) {
    // Keep the key under which an empty value stood.
    std::swap(from.key, into.key);
    std::swap(from.key_mark, into.key_mark);
    into = std::move(from);
    return;
  }
  if (into.kind != Node::Kind::mapping || from.kind != Node::Kind::mapping) return;
  std::unordered_map<std::string, std::size_t> seen;
  for (std::size_t i = 0; i < into.items.size(); ++i) seen.emplace(into.items[i].key, i);
  for (Node& item : from.items) {
    const auto found = seen.find(item.key);
    if (found == seen.end()) {
      into.items.push_back(std::move(item));
      continue;
    }
    Node& first = into.items[found->second];
    const bool empty = first.kind == Node::Kind::null || item.kind == Node::Kind::null;
    if (empty || (first.kind == Node::Kind::mapping && item.kind == Node::Kind::mapping)) {
      merge_yaml(first, std::move(item), problems);
    } else {
      report_duplicate(item, first, problems);
    }
  }
}

}  // namespace tessera::config
