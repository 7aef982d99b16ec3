// Sharding-key values: a typed value in the form that the sharding functions work on, and its making from what a client
// sends (a literal's text, a parameter in text or binary format). Pure, no allocation beyond a reused buffer.
//
// Right or refused: a value that is not certainly what the server would compare with the column (a date in another
// style, a time stamp whose meaning depends on the session's time zone, a fraction compared with an integer column) is
// not converted. The caller then knows nothing about the key and routes to all shards.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "parser/fingerprint.hpp"

namespace tessera::router {

using TypeOid = std::uint32_t;  // pg_type.oid

enum class KeyType : std::uint8_t {
  int2,
  int4,
  int8,
  boolean,
  text,
  varchar,
  bpchar,
  uuid,
  date,
  timestamp,
  timestamptz,
  time,
  bytea,
  oid,
  char_,
  numeric,
  float4,
  float8,
  macaddr,
  inet,
  unsupported
};

// By pg_type.oid, or by canonical name ("bigint", "character varying(20)", "timestamp without time zone", and the
// usual short names). KeyType::unsupported when it cannot be a key.
KeyType key_type_of(TypeOid oid);
KeyType key_type_of(std::string_view type_name);
std::string_view name_of(KeyType type);
// pg_type.oid of a type that can be a key, or of an array of it ("bigint[]"); 0 for others.
TypeOid type_oid_of(std::string_view type_name);

// A non-null value of one type. Integers, booleans, dates (days from 2000-01-01), time stamps (microseconds from
// 2000-01-01, as on the wire) stand in `integer`; the others in `bytes` (text without bpchar's padding, 16 bytes of a
// uuid, a bytea's bytes, a numeric's or float's canonical form as documented in key.cpp). `bytes` may borrow.
struct KeyValue {
  KeyType type = KeyType::unsupported;
  std::int64_t integer = 0;
  std::string_view bytes;
};

enum class Conversion {
  value,   // `out` holds it
  no_row,  // certainly equal to no value of the column (int column = 4.5): matches nothing
  unknown  // cannot be decided here
};

// A literal token of the SQL text (quotes and prefix included, sign apart) compared with a column of type `column`;
// `cast` is the type it is explicitly cast to, or unsupported for none. `scratch` backs out.bytes.
Conversion from_literal(std::string_view token, parser::LiteralKind kind, bool negative, KeyType column, KeyType cast,
                        std::string& scratch, KeyValue& out);

// A bound parameter. `declared` is the type the client gave in Parse (0: left to the server, which takes the column's).
Conversion from_parameter(std::string_view bytes, bool binary, TypeOid declared, KeyType column, KeyType cast,
                          std::string& scratch, KeyValue& out);

// Whether a column with this modifier (ShardTerm::modifiers) rounds the value or cuts it off when it is stored.
bool changed_by_storing(const KeyValue& value, int modifier);

// Whether these bytes mean another text in another encoding. That of a bytea is text too, unless it comes in binary.
bool is_foreign(std::string_view bytes, bool binary, KeyType type);

// The key's text in the form directories, ranges and hints use; the inverse of from_text. `from_text` reads a key as
// configured (range bounds, directory entries).
std::string to_text(const KeyValue& value);
std::optional<KeyValue> from_text(std::string_view text, KeyType type, std::string& scratch);

// Order of two values of the same type as the server orders them (text: bytewise, so range rules over text need the C
// collation; the catalog check refuses others). <0, 0, >0.
int compare(const KeyValue& a, const KeyValue& b);

}  // namespace tessera::router
