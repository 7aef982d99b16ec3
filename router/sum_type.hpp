// What type an argument of sum() and avg() has, where it can be told from its text and sums of it do not follow the
// order of their rows. Internal to router, pure.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "router/key.hpp"

namespace tessera::router {

namespace type_oid {  // pg_type.oid
inline constexpr TypeOid int2 = 21, int4 = 23, int8 = 20, numeric = 1700;
}

// smallint, integer, bigint or numeric: of columns (whose type `column` knows by alias, or none, and name), numbers,
// arithmetic, CASE, coalesce and their like. 0: of another type, or it cannot be told.
TypeOid sum_type(std::string_view argument,
                 const std::function<TypeOid(std::string_view alias, const std::string& name)>& column);

}  // namespace tessera::router
