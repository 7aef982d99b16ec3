#include "config/reader.hpp"

#include <algorithm>
#include <array>
#include <fmt/core.h>
#include <stdexcept>

#include "config/scalars.hpp"
#include "config/secrets.hpp"
#include "config/suggest.hpp"

namespace tessera::config {
namespace {

std::string wrong_kind(std::string_view name, std::string_view wanted, const Node& node) {
  return fmt::format("\"{}\" must be {}, not {}", name, wanted, kind_name(node.kind));
}

// What stands in the file, for a message; secrets never.
std::string quoted(const Key& key, const Node& node) {
  if (key.kind == Kind::secret) return "the value";
  constexpr std::size_t most = 100;
  const std::string& text = node.shown();
  return text.size() <= most ? fmt::format("\"{}\"", text) : fmt::format("\"{}…\"", text.substr(0, most));
}

std::string_view kind_title(Kind kind) {
  return kind == Kind::texts ? "a list of values" : "a single value";
}

std::vector<std::string_view> key_names(const SectionSpec& spec) {
  std::vector<std::string_view> names;
  for (const Key& key : spec.keys) names.push_back(key.name);
  return names;
}

}  // namespace

Section::Section(const Node& node, const SectionSpec& spec, const Context& context)
    : node_(node), spec_(spec), context_(context) {
  check_keys();
}

Mark Section::mark() const {
  return node_.key_mark.line > 0 ? node_.key_mark : node_.mark;
}

std::size_t Section::problem_count() const {
  return context_.problems.count();
}

void Section::check_keys() const {
  if (node_.kind != Node::Kind::mapping && node_.kind != Node::Kind::null) {
    context_.problem(node_.mark, fmt::format("{} must be a mapping, not {}", spec_.title, kind_name(node_.kind)));
    return;
  }
  const auto names = key_names(spec_);
  for (const Node& item : node_.items) {
    if (const Key* known = spec_.find(item.key)) {
      check_effect(*known, item);
      continue;
    }
    const std::string hint = context_.problems.full() ? "" : suggestion(item.key, names, "allowed here");
    context_.problem(item.key_mark, fmt::format("unknown key \"{}\" in {}", item.key, spec_.title), hint);
  }
  for (const Key& key : spec_.keys) {
    const Node* found = node_.find(key.name);
    if (!key.required || (found != nullptr && found->kind != Node::Kind::null)) continue;
    context_.problem(found != nullptr ? found->key_mark : mark(),
                     fmt::format("\"{}\" is missing in {}", key.name, spec_.title), std::string(key.about));
  }
}

void Section::check_effect(const Key& key, const Node& item) const {
  if (key.effect == Effect::none)
    context_.warning(item.key_mark, fmt::format("\"{}\" has no effect in this version", key.name));
  if (key.effect == Effect::refused)
    context_.problem(item.key_mark, fmt::format("\"{}\" is not in this version", key.name), std::string(key.instead));
}

const Key& Section::lookup(std::string_view name, std::initializer_list<Kind> kinds) {
  const Key* key = spec_.find(name);
  if (key == nullptr) throw std::logic_error(fmt::format("no key \"{}\" in {}", name, spec_.title));
  if (kinds.size() > 0 && std::find(kinds.begin(), kinds.end(), key->kind) == kinds.end()) {
    throw std::logic_error(fmt::format("key \"{}\" in {} is of another kind", name, spec_.title));
  }
  asked_.insert(key->name);
  return *key;
}

const Node* Section::find(std::string_view name) {
  const Key& key = lookup(name, {});
  const Node* node = node_.find(key.name);
  return node == nullptr || node->kind == Node::Kind::null || node->broken ? nullptr : node;
}

void Section::problem(std::string_view key, std::string message, std::string hint) {
  const Node* node = find(key);
  context_.problem(node != nullptr ? node->mark : mark(), std::move(message), std::move(hint));
}

void Section::warning(std::string_view key, std::string message, std::string hint) {
  const Node* node = find(key);
  context_.warning(node != nullptr ? node->mark : mark(), std::move(message), std::move(hint));
}

const Node* Section::of_kind(const Key& key, Node::Kind kind) {
  const Node* node = find(key.name);
  if (node == nullptr || node->kind == kind) return node;
  const std::string_view wanted = kind == Node::Kind::scalar ? kind_title(key.kind) : kind_name(kind);
  context_.problem(node->mark, wrong_kind(key.name, wanted, *node));
  return nullptr;
}

const Node* Section::scalar(const Key& key) {
  const Node* present = node_.find(key.name);
  if (present != nullptr && present->kind == Node::Kind::null && !key.required) {
    context_.problem(present->key_mark, fmt::format("\"{}\" has no value", key.name), std::string(key.about));
  }
  return of_kind(key, Node::Kind::scalar);
}

void Section::read(std::string_view name, std::string& out) {
  const Key& key = lookup(name, {Kind::text, Kind::path, Kind::pem});
  const Node* node = scalar(key);
  if (node == nullptr) return;
  if (node->text.empty()) {
    context_.problem(node->mark, fmt::format("\"{}\" is empty", key.name), std::string(key.about));
    return;
  }
  out = key.kind == Kind::text ? node->text : resolve_path(node->text, context_.problems.file_name(node->mark.file));
  if (key.kind == Kind::pem) check_pem(*node, out);
}

void Section::check_pem(const Node& node, const std::string& path) const {
  constexpr std::size_t largest = 4u << 20;
  const auto text = context_.env.read_file(path, largest);
  if (!text) {
    context_.problem(node.mark, fmt::format("\"{}\" cannot be read: {}", node.shown(), text.error()));
  } else if (text->find("-----BEGIN ") == std::string::npos) {
    context_.problem(node.mark, fmt::format("\"{}\" is not a PEM file", node.shown()),
                     "a PEM file holds a line such as -----BEGIN CERTIFICATE-----");
  }
}

void Section::read(std::string_view name, Secret& out) {
  const Key& key = lookup(name, {Kind::secret});
  const Node* node = scalar(key);
  if (node == nullptr) return;
  if (node->text.empty()) {
    context_.problem(node->mark, fmt::format("\"{}\" is empty", key.name), "an empty secret would let anyone in");
    return;
  }
  out = Secret(node->text);
}

void Section::read(std::string_view name, int& out) {
  const Key& key = lookup(name, {Kind::integer, Kind::workers});
  const Node* node = scalar(key);
  if (node == nullptr) return;
  const bool is_auto = key.kind == Kind::workers && node->text == "auto";
  const auto value = is_auto ? 0 : parse_integer(node->text);
  if (value && *value >= key.min && *value <= key.max) {
    out = static_cast<int>(*value);
    return;
  }
  context_.problem(
      node->mark, fmt::format("{} is not a value for \"{}\"", quoted(key, *node), key.name),
      fmt::format("a whole number from {} to {}{}", key.min, key.max, key.kind == Kind::workers ? ", or auto" : ""));
}

void Section::read(std::string_view name, std::uint64_t& out) {
  const Key& key = lookup(name, {Kind::size});
  const Node* node = scalar(key);
  if (node == nullptr) return;
  const auto min = static_cast<std::uint64_t>(key.min);
  const auto max = static_cast<std::uint64_t>(key.max);
  const auto value = parse_size(node->text);
  if (value && *value >= min && *value <= max) {
    out = *value;
    return;
  }
  context_.problem(node->mark, fmt::format("{} is not a size for \"{}\"", quoted(key, *node), key.name),
                   fmt::format("bytes, or a number with kB, MB or GB, from {} to {}", size_text(min), size_text(max)));
}

void Section::read(std::string_view name, bool& out) {
  const Key& key = lookup(name, {Kind::boolean});
  const Node* node = scalar(key);
  if (node == nullptr) return;
  if (node->text == "true" || node->text == "false") {
    out = node->text == "true";
    return;
  }
  context_.problem(node->mark, fmt::format("{} is not a value for \"{}\"", quoted(key, *node), key.name),
                   "true or false");
}

void Section::read(std::string_view name, Milliseconds& out) {
  const Key& key = lookup(name, {Kind::duration});
  const Node* node = scalar(key);
  if (node == nullptr) return;
  if (const auto value = parse_duration(node->text)) {
    out = *value;
    return;
  }
  context_.problem(node->mark, fmt::format("{} is not a duration for \"{}\"", quoted(key, *node), key.name),
                   "0, or a whole number with ms, s, m, h or d: 250ms, 5s, 10m, 1h");
}

void Section::read(std::string_view name, Address& out) {
  const Key& key = lookup(name, {Kind::address});
  const Node* node = scalar(key);
  if (node == nullptr) return;
  if (auto value = parse_address(node->text)) {
    out = *std::move(value);
    return;
  }
  context_.problem(node->mark, fmt::format("{} is not an address for \"{}\"", quoted(key, *node), key.name),
                   "host:port, [IPv6 address]:port, or /folder/of/the/socket:port");
}

void Section::read(std::string_view name, std::vector<std::string>& out) {
  std::vector<std::string> values;
  each_text(name, [&](const Node& item) { values.push_back(item.text); });
  if (has(name)) out = std::move(values);
}

std::optional<int> Section::choice_value(std::string_view name) {
  const Key& key = lookup(name, {Kind::choice});
  const Node* node = scalar(key);
  if (node == nullptr) return std::nullopt;
  std::vector<std::string_view> names;
  for (const Choice& one : key.choices) {
    if (one.name == node->text) return one.value;
    names.push_back(one.name);
  }
  unknown_name(context_, *node, fmt::format("{} is not a value for \"{}\"", quoted(key, *node), key.name), names);
  return std::nullopt;
}

void Section::each_text(std::string_view name, const std::function<void(const Node&)>& visit) {
  const Key& key = lookup(name, {Kind::texts});
  const Node* node = find(name);
  if (node == nullptr) return;
  const auto take = [&](const Node& item) {
    if (item.broken) return;
    if (item.kind != Node::Kind::scalar) {
      context_.problem(item.mark, wrong_kind(key.name, "a list of single values", item));
    } else if (item.text.empty()) {
      context_.problem(item.mark, fmt::format("\"{}\" holds an empty value", key.name));
    } else {
      visit(item);
    }
  };
  if (node->kind == Node::Kind::scalar) {
    take(*node);
  } else if (of_kind(key, Node::Kind::sequence) != nullptr) {
    for (const Node& item : node->items) take(item);
  }
}

void Section::each_named_text(std::string_view name, const std::function<void(const Node&)>& visit) {
  const Key& key = lookup(name, {Kind::named_texts});
  const Node* node = of_kind(key, Node::Kind::mapping);
  if (node == nullptr) return;
  for (const Node& item : node->items) {
    if (item.broken) continue;
    if (item.kind == Node::Kind::scalar) {
      visit(item);
    } else {
      context_.problem(item.mark, wrong_kind(item.key, "a single value", item));
    }
  }
}

void Section::section(std::string_view name, const std::function<void(Section)>& visit) {
  const Key& key = lookup(name, {Kind::section});
  if (const Node* node = of_kind(key, Node::Kind::mapping)) visit(Section(*node, *key.section, context_));
}

void Section::each_section(std::string_view name, const std::function<void(Section)>& visit) {
  const Key& key = lookup(name, {Kind::sections});
  const Node* node = of_kind(key, Node::Kind::sequence);
  if (node == nullptr) return;
  for (const Node& item : node->items) visit(Section(item, *key.section, context_));
}

void Section::each_named_section(std::string_view name, const std::function<void(Section)>& visit) {
  const Key& key = lookup(name, {Kind::named_sections});
  const Node* node = of_kind(key, Node::Kind::mapping);
  if (node == nullptr) return;
  for (const Node& item : node->items) {
    const SectionSpec* spec = key.section;
    if (!spec->variants.empty()) {
      spec = variant(item, *spec);
      if (spec == nullptr) continue;
    }
    visit(Section(item, *spec, context_));
  }
}

const SectionSpec* Section::variant(const Node& node, const SectionSpec& spec) const {
  const Node* type = node.find(spec.variant_key);
  if (node.kind != Node::Kind::mapping && node.kind != Node::Kind::null) {
    context_.problem(node.mark, fmt::format("{} must be a mapping, not {}", spec.title, kind_name(node.kind)));
    return nullptr;
  }
  std::vector<std::string_view> names;
  for (const Variant& one : spec.variants) {
    if (type != nullptr && type->text == one.name) return one.section;
    names.push_back(one.name);
  }
  if (type == nullptr || type->kind != Node::Kind::scalar) {
    context_.problem(type != nullptr ? type->mark : node.key_mark,
                     fmt::format("\"{}\" is missing in {}", spec.variant_key, spec.title), "one of: " + join(names));
  } else if (!type->broken) {
    unknown_name(context_, *type, fmt::format("\"{}\" is not a {} for {}", type->shown(), spec.variant_key, spec.title),
                 names);
  }
  return nullptr;
}

void Section::finish() const {
  for (const Key& key : spec_.keys) {
    if (!asked_.contains(key.name))
      throw std::logic_error(fmt::format("key \"{}\" in {} is never read", key.name, spec_.title));
  }
}

void unknown_name(const Context& context, const Node& node, std::string_view message,
                  std::span<const std::string_view> allowed) {
  // A suggestion for an expanded value would tell what it is like.
  const std::string_view name = node.expanded() ? std::string_view() : node.text;
  const std::string hint = context.problems.full() ? "" : suggestion(name, allowed, "allowed");
  context.problem(node.mark, std::string(message), hint);
}

bool check_name(const Context& context, Mark where, const std::string& name, std::string_view what) {
  const bool control =
      std::any_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; });
  if (!name.empty() && !control) return true;
  context.problem(where, fmt::format("the name of {} is empty or holds control characters", what));
  return false;
}

}  // namespace tessera::config
