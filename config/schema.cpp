// The JSON Schema, printed from the table of keys. Every value may also be written as ${env:…} or ${file:…}, which only
// matters where the schema would ask for something else than free text.
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "config/keys.hpp"
#include "config/load.hpp"

namespace tessera::config {
namespace {

using Json = nlohmann::ordered_json;

Json section_schema(const SectionSpec& spec, std::string_view variant = {});

std::string text_of(std::string_view text) {
  return std::string(text);
}

Json or_secret(Json schema) {
  return {{"anyOf", Json::array({std::move(schema), {{"$ref", "#/$defs/expanded"}}})}};
}

Json choice_schema(const Key& key) {
  Json names = Json::array();
  for (const Choice& one : key.choices) names.push_back(text_of(one.name));
  return {{"enum", names}};
}

Json integer_schema(const Key& key) {
  return {{"type", "integer"}, {"minimum", key.min}, {"maximum", key.max}};
}

// A text in the file: what YAML reads as a number or a truth value is a text here too.
Json text_schema() {
  return {{"type", Json::array({"string", "number", "boolean"})}};
}

Json texts_schema() {
  return {{"anyOf", Json::array({{{"type", "array"}, {"items", text_schema()}}, text_schema()})}};
}

// Names for sections of one kind: in a schema with variants, the one that fits the `type`.
Json any_section(const SectionSpec& spec) {
  if (spec.variants.empty()) return section_schema(spec);
  Json kinds = Json::array();
  for (const Variant& one : spec.variants) kinds.push_back(section_schema(*one.section, one.name));
  return {{"oneOf", kinds}};
}

Json value_schema(const Key& key) {
  switch (key.kind) {
    case Kind::text:
      return text_schema();
    case Kind::secret:
    case Kind::path:
    case Kind::pem:
      return {{"type", "string"}};
    case Kind::integer:
      return or_secret(integer_schema(key));
    case Kind::workers:
      return or_secret({{"anyOf", Json::array({integer_schema(key), {{"const", "auto"}}})}});
    case Kind::boolean:
      return or_secret({{"type", "boolean"}});
    case Kind::duration:
      return {{"$ref", "#/$defs/duration"}};
    case Kind::size:
      return {{"$ref", "#/$defs/size"}};
    case Kind::address:
      return {{"$ref", "#/$defs/address"}};
    case Kind::choice:
      return or_secret(choice_schema(key));
    case Kind::texts:
      return texts_schema();
    case Kind::section:
      return section_schema(*key.section);
    case Kind::sections:
      return {{"type", "array"}, {"items", section_schema(*key.section)}};
    case Kind::named_sections:
      return {{"type", "object"}, {"additionalProperties", any_section(*key.section)}};
    case Kind::named_texts:
      return {{"type", "object"}, {"additionalProperties", text_schema()}};
  }
  return {};
}

Json section_schema(const SectionSpec& spec, std::string_view variant) {
  Json properties = Json::object();
  Json required = Json::array();
  for (const Key& key : spec.keys) {
    Json value = !variant.empty() && key.name == "type" ? Json{{"const", text_of(variant)}} : value_schema(key);
    value["description"] = text_of(key.about);
    if (!key.standard.empty()) value["default"] = text_of(key.standard);
    properties[text_of(key.name)] = std::move(value);
    if (key.required) required.push_back(text_of(key.name));
  }
  Json schema{{"type", "object"}, {"additionalProperties", false}, {"properties", std::move(properties)}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

}  // namespace

std::string json_schema() {
  Json schema{{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", "Tessera configuration"}};
  schema.update(section_schema(root_section));
  schema["$defs"] = {
      {"expanded", {{"type", "string"}, {"pattern", "\\$\\{(env|file):[^}]*\\}"}}},
      {"duration",
       or_secret(
           {{"anyOf", Json::array({{{"const", 0}}, {{"type", "string"}, {"pattern", "^(0|[0-9]+(ms|s|m|h|d))$"}}})}})},
      {"size", or_secret({{"anyOf", Json::array({{{"type", "integer"}, {"minimum", 0}},
                                                 {{"type", "string"},
                                                  {"pattern", "^[0-9]+(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?$"}}})}})},
      {"address",
       or_secret({{"type", "string"}, {"pattern", "^(\\[[0-9A-Fa-f:.]+\\]|/.*|[A-Za-z0-9._-]+):[0-9]{1,5}$"}})},
  };
  return schema.dump(2) + "\n";
}

}  // namespace tessera::config
