// Which key types may stand for one another, and the conversion between values of two types. Internal to router.
#pragma once

#include <optional>
#include <string>

#include "router/key.hpp"

namespace tessera::router {

// Types whose equal values hash and order alike, so that tables with keys of the one or the other are co-located under
// the same rule: int8 for the integers, text for the character types, float8 for the floats, else the type itself.
KeyType class_of(KeyType type);
bool is_integer(KeyType type);
// Whether a KeyValue of this type stands in `bytes`.
bool holds_bytes(KeyType type);
// Whether any constant compared with a column of the one type means the same value for the other: so that `a.x = b.y
// and a.x = <constant>` says `b.y = <constant>`. Narrower than class_of: a float4 rounds its constants, a char(n) cuts
// blanks.
bool same_constants(KeyType a, KeyType b);

// Whether a column of type `column` in x IN (…) is still compared as such when an element has this type: the list's
// type in common is then the column's, or one in which its values and constants are the same.
bool keeps_list_type(KeyType type, KeyType column);

// The element type of an array type, or unsupported.
KeyType element_type_of(TypeOid array_oid);
// pg_type.oid; 0 for unsupported.
TypeOid oid_of(KeyType type);
TypeOid array_oid_of(KeyType type);

// Text as the type's input function reads it, and the wire's binary form. `out.bytes` is backed by `scratch` or borrows
// from the argument. False: not certain, or an error that the server will report.
bool read_text(std::string_view text, KeyType type, std::string& scratch, KeyValue& out);
bool read_binary(std::string_view bytes, KeyType type, std::string& scratch, KeyValue& out);

// The value of `column`'s type that the server finds equal to `value` (which is of another type).
Conversion coerce(const KeyValue& value, KeyType column, std::string& scratch, KeyValue& out);

// float8 in KeyValue::bytes: the eight bytes of the double in memory order, -0 as 0 and one NaN.
double read_double(std::string_view bytes);
void write_double(double value, std::string& scratch);

}  // namespace tessera::router
