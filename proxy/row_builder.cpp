#include "proxy/row_builder.hpp"

namespace tessera::proxy {

namespace {
constexpr postgres::Oid text_oid = 25;
}

std::string RowBuilder::description() const {
  std::vector<postgres::FieldView> fields;
  for (const std::string& column : columns_) fields.push_back({.name = column, .type = text_oid, .type_size = -1});
  std::string out;
  if (!postgres::append_row_description(out, fields)) out.clear();
  return out;
}

std::string RowBuilder::rows(std::string_view tag) const {
  std::string out;
  for (const std::vector<std::string>& row : rows_) {
    const std::vector<postgres::Value> values(row.begin(), row.end());
    if (!postgres::append_data_row(out, values)) break;
  }
  if (!postgres::append_command_complete(out, tag)) out.clear();
  return out;
}

}  // namespace tessera::proxy
