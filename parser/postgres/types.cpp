// Names of types as the server's format_type writes them.
#include <array>
#include <utility>

#include "parser/postgres/builder.hpp"

namespace tessera::parser::postgres {

namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 14> long_names = {
    {{"int2", "smallint"},
     {"int4", "integer"},
     {"int8", "bigint"},
     {"float4", "real"},
     {"float8", "double precision"},
     {"bool", "boolean"},
     {"varchar", "character varying"},
     {"bpchar", "character"},
     {"char", "\"char\""},
     {"varbit", "bit varying"},
     {"timestamp", "timestamp without time zone"},
     {"timestamptz", "timestamp with time zone"},
     {"time", "time without time zone"},
     {"timetz", "time with time zone"}}};

}  // namespace

// pg_catalog comes before the search path, so that an unqualified int8 is the built-in one.
std::string type_name(const PgQuery__TypeName& type) {
  if (type.setof || type.pct_type) return {};
  std::vector<std::string> names = strings(list(type.names, type.n_names));
  if (names.empty() || names.size() > 2) return {};
  if (names.size() == 2 && names[0] == "pg_catalog") names.erase(names.begin());
  std::string result = names.back();
  if (names.size() == 2) {
    result = names[0] + "." + names[1];
  } else {
    for (const auto& [name, full] : long_names) {
      if (name == result) {
        result = full;
        break;
      }
    }
  }
  if (type.n_array_bounds > 0) result += "[]";  // of any number of dimensions
  return result;
}

bool has_modifier(const PgQuery__TypeName& type) {
  return type.n_typmods > 0;
}

}  // namespace tessera::parser::postgres
