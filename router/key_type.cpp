// Types that can be sharding keys, by number and by name.
#include <array>
#include <string>

#include "router/key.hpp"
#include "router/key_class.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

struct Known {
  KeyType type;
  TypeOid oid;
  TypeOid array_oid;
  std::string_view name;  // canonical, as format_type() says it
};
constexpr std::array<Known, 20> known = {{
    {KeyType::int2, 21, 1005, "smallint"},
    {KeyType::int4, 23, 1007, "integer"},
    {KeyType::int8, 20, 1016, "bigint"},
    {KeyType::boolean, 16, 1000, "boolean"},
    {KeyType::text, 25, 1009, "text"},
    {KeyType::varchar, 1043, 1015, "character varying"},
    {KeyType::bpchar, 1042, 1014, "character"},
    {KeyType::uuid, 2950, 2951, "uuid"},
    {KeyType::date, 1082, 1182, "date"},
    {KeyType::timestamp, 1114, 1115, "timestamp without time zone"},
    {KeyType::timestamptz, 1184, 1185, "timestamp with time zone"},
    {KeyType::time, 1083, 1183, "time without time zone"},
    {KeyType::bytea, 17, 1001, "bytea"},
    {KeyType::oid, 26, 1028, "oid"},
    {KeyType::char_, 18, 1002, "\"char\""},
    {KeyType::numeric, 1700, 1231, "numeric"},
    {KeyType::float4, 700, 1021, "real"},
    {KeyType::float8, 701, 1022, "double precision"},
    {KeyType::macaddr, 829, 1040, "macaddr"},
    {KeyType::inet, 869, 1041, "inet"},
}};

struct Alias {
  std::string_view name;
  KeyType type;
};
constexpr std::array<Alias, 19> aliases = {{{"int2", KeyType::int2},
                                            {"int4", KeyType::int4},
                                            {"int", KeyType::int4},
                                            {"serial", KeyType::int4},
                                            {"int8", KeyType::int8},
                                            {"bigserial", KeyType::int8},
                                            {"smallserial", KeyType::int2},
                                            {"bool", KeyType::boolean},
                                            {"varchar", KeyType::varchar},
                                            {"bpchar", KeyType::bpchar},
                                            {"char", KeyType::bpchar},
                                            {"timestamp", KeyType::timestamp},
                                            {"timestamptz", KeyType::timestamptz},
                                            {"time", KeyType::time},
                                            {"decimal", KeyType::numeric},
                                            {"float4", KeyType::float4},
                                            {"float8", KeyType::float8},
                                            {"float", KeyType::float8},
                                            {"dec", KeyType::numeric}}};

// "character varying(20)" and "timestamp(3) with time zone" without the modifier, in lower case, single blanks.
std::string without_modifier(std::string_view name) {
  std::string bare;
  int depth = 0;
  for (const char c : name) {
    if (c == '(') ++depth;
    if (depth == 0) {
      const char next = is_space(c) ? ' ' : to_lower(c);
      if (next != ' ' || (!bare.empty() && bare.back() != ' ')) bare += next;
    }
    if (c == ')') --depth;
  }
  if (bare.ends_with(' ')) bare.pop_back();
  return bare;
}

}  // namespace

KeyType key_type_of(TypeOid oid) {
  for (const Known& type : known) {
    if (type.oid == oid) return type.type;
  }
  return KeyType::unsupported;
}

KeyType element_type_of(TypeOid array_oid) {
  for (const Known& type : known) {
    if (type.array_oid == array_oid) return type.type;
  }
  return KeyType::unsupported;
}

TypeOid oid_of(KeyType type) {
  for (const Known& candidate : known) {
    if (candidate.type == type) return candidate.oid;
  }
  return 0;
}

TypeOid array_oid_of(KeyType type) {
  for (const Known& candidate : known) {
    if (candidate.type == type) return candidate.array_oid;
  }
  return 0;
}

TypeOid type_oid_of(std::string_view type_name) {
  const bool array = type_name.ends_with("[]");
  if (array) type_name.remove_suffix(2);
  const KeyType type = key_type_of(type_name);
  return array ? array_oid_of(type) : oid_of(type);
}

KeyType key_type_of(std::string_view type_name) {
  std::string bare = without_modifier(type_name);
  if (bare.starts_with("pg_catalog.")) bare.erase(0, sizeof("pg_catalog.") - 1);
  for (const Known& type : known) {
    if (type.name == bare) return type.type;
  }
  for (const Alias& alias : aliases) {
    if (alias.name == bare) return alias.type;
  }
  return KeyType::unsupported;
}

std::string_view name_of(KeyType type) {
  for (const Known& candidate : known) {
    if (candidate.type == type) return candidate.name;
  }
  return "unsupported";
}

KeyType class_of(KeyType type) {
  switch (type) {
    case KeyType::int2:
    case KeyType::int4:
      return KeyType::int8;
    case KeyType::varchar:
    case KeyType::bpchar:
      return KeyType::text;
    case KeyType::float4:
      return KeyType::float8;
    default:
      return type;
  }
}

bool is_integer(KeyType type) {
  return class_of(type) == KeyType::int8;
}

bool holds_bytes(KeyType type) {
  switch (class_of(type)) {
    case KeyType::text:
    case KeyType::uuid:
    case KeyType::bytea:
    case KeyType::numeric:
    case KeyType::float8:
    case KeyType::macaddr:
    case KeyType::inet:
      return true;
    default:
      return false;
  }
}

bool keeps_list_type(KeyType type, KeyType column) {
  if (same_constants(type, column)) return true;
  if (type == KeyType::unsupported || column == KeyType::unsupported) return false;
  switch (column) {
    case KeyType::text:
    case KeyType::varchar:
    case KeyType::bpchar:
      return class_of(type) == KeyType::text;
    case KeyType::numeric:
      return is_integer(type);
    case KeyType::float8:
      return is_integer(type) || type == KeyType::numeric || type == KeyType::float4;
    case KeyType::timestamp:
      return type == KeyType::date;
    default:
      return false;
  }
}

bool same_constants(KeyType a, KeyType b) {
  if (a == KeyType::unsupported || b == KeyType::unsupported) return false;
  if (a == b) return true;
  if (is_integer(a) && is_integer(b)) return true;
  const auto plain_text = [](KeyType type) { return type == KeyType::text || type == KeyType::varchar; };
  return plain_text(a) && plain_text(b);
}

}  // namespace tessera::router
