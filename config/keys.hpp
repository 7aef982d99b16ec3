// The one table of keys: every key that a configuration may hold, what may stand under it, and its default. The loader
// (reader.hpp) accepts exactly these, the JSON Schema is printed from them, and tests hold docs/configuration.md and
// the defaults of config.hpp against them, so the four cannot drift apart.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include "config/choices.hpp"

namespace tessera::config {

enum class Kind {
  text,
  secret,   // text that is never shown
  path,     // relative to the folder of the file
  pem,      // a path; the file must be readable and look like PEM
  integer,  // min to max
  workers,  // integer, or "auto" for 0
  boolean,
  duration,
  size,  // bytes, min to max
  address,
  choice,          // one of `choices`
  texts,           // a list of texts; a single text stands for a list of one
  section,         // a mapping with the keys of `section`
  sections,        // a list of such mappings
  named_sections,  // name -> such a mapping
  named_texts,     // name -> text
};

struct SectionSpec;

// What a key is good for in this version. The file format is ahead of the program: what is not built yet is said to
// whoever writes the key, never ignored in silence.
enum class Effect {
  full,
  none,     // accepted with a warning
  refused,  // a mistake: who relies on it would be hurt
};

struct Key {
  std::string_view name;
  Kind kind = Kind::text;
  std::string_view about{};     // one sentence, shown by editors
  std::string_view standard{};  // the default as one would write it; empty: none, or it depends
  bool required = false;
  std::int64_t min = 0;
  std::int64_t max = 0;
  std::span<const Choice> choices{};
  const SectionSpec* section = nullptr;
  Effect effect = Effect::full;
  std::string_view instead{};  // for `refused`: what to do without it
};

// A section whose keys depend on one of them (a rule's `type`).
struct Variant {
  std::string_view name;
  const SectionSpec* section;
};

struct SectionSpec {
  std::string_view title;  // for messages: "unknown key "x" in <title>"
  std::span<const Key> keys;
  std::string_view variant_key{};
  std::span<const Variant> variants{};

  const Key* find(std::string_view name) const;
};

extern const SectionSpec root_section;
// Part of the root, in a file of its own because it is the larger half.
extern const SectionSpec database_section;

// How the tables are written down.
namespace key {
constexpr Key of(Kind kind, std::string_view name, std::string_view about, std::string_view standard = {}) {
  return {.name = name, .kind = kind, .about = about, .standard = standard};
}
constexpr Key integer(std::string_view name, std::int64_t min, std::int64_t max, std::string_view standard,
                      std::string_view about) {
  return {.name = name, .kind = Kind::integer, .about = about, .standard = standard, .min = min, .max = max};
}
constexpr Key size(std::string_view name, std::int64_t min, std::int64_t max, std::string_view standard,
                   std::string_view about) {
  return {.name = name, .kind = Kind::size, .about = about, .standard = standard, .min = min, .max = max};
}
constexpr Key choice(std::string_view name, std::span<const Choice> choices, std::string_view standard,
                     std::string_view about) {
  return {.name = name, .kind = Kind::choice, .about = about, .standard = standard, .choices = choices};
}
constexpr Key section(Kind kind, std::string_view name, const SectionSpec& spec, std::string_view about) {
  return {.name = name, .kind = kind, .about = about, .section = &spec};
}
constexpr Key required(Key key) {
  key.required = true;
  return key;
}
constexpr Key without_effect(Key key) {
  key.effect = Effect::none;
  return key;
}
constexpr Key not_yet(Key key, std::string_view instead) {
  key.effect = Effect::refused;
  key.instead = instead;
  return key;
}
inline constexpr std::int64_t int_max = std::numeric_limits<int>::max();
}  // namespace key

}  // namespace tessera::config
