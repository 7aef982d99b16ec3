#include "executor/columns.hpp"

#include <vector>

#include "wire/postgres/backend.hpp"

namespace tessera::executor {
namespace {

// The oids of types that somebody has created are others on each server. As text their values are the same.
bool same_type(const postgres::FieldView& a, const postgres::FieldView& b) {
  constexpr postgres::Oid first_own = 16384;
  if (a.type == b.type) return true;
  return a.type >= first_own && b.type >= first_own && a.format == 0;  // text
}

}  // namespace

bool same_columns(std::string_view a, std::string_view b) {
  std::vector<postgres::FieldView> left, right;
  const auto has_rows = [](std::string_view description) {
    return description.starts_with(postgres::backend::row_description);
  };
  if (!has_rows(a) || !has_rows(b)) return a == b;
  if (!postgres::parse_row_description(a.substr(postgres::frame_header_size), left) ||
      !postgres::parse_row_description(b.substr(postgres::frame_header_size), right) || left.size() != right.size())
    return false;
  for (std::size_t i = 0; i < left.size(); ++i)
    if (left[i].name != right[i].name || !same_type(left[i], right[i]) ||
        left[i].type_modifier != right[i].type_modifier || left[i].format != right[i].format)
      return false;
  return true;
}

Error different_columns() {
  return {sqlstate::feature_not_supported,
          "the shards answer this statement with different columns",
          {},
          "give the tables the same columns on all shards",
          0};
}

}  // namespace tessera::executor
