// Values in the order of ORDER BY, as bytes: a row's sort columns, in the server's binary format, become one string,
// and two such strings compare (as unsigned bytes) as the server orders the rows. For those types only whose order is
// known here to be the server's, whatever its version and locale. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "router/key.hpp"

namespace tessera::router {

enum class SortOrder : std::uint8_t {
  boolean,
  signed_number,    // of 2, 4 or 8 bytes; so are dates and times, whose infinities are the last values
  unsigned_number,  // of 1 or 4 bytes
  floating,         // of 4 or 8 bytes; -0 = 0, NaN behind all
  numeric,          // 1.0 = 1.00; infinities, NaN behind all
  bytes,            // uuid, bytea; texts under the collations C and POSIX
  padded            // char(n) under these: blanks at the end do not count
};

// Of the type with this pg_type.oid; `bytewise`: its collation is C or POSIX. None: not known here.
std::optional<SortOrder> sort_order_of(TypeOid type, bool bytewise);

struct SortDirection {
  bool descending = false;
  bool nulls_first = false;
  friend bool operator==(const SortDirection&, const SortDirection&) = default;
};

// Appends what a value in binary format, or NULL, adds to its row's key. False: it is no value of such a type.
bool append_sort_key(std::string& key, SortOrder order, SortDirection direction, std::optional<std::string_view> value);

}  // namespace tessera::router
