// Result sets of our own, all columns of type text: what SHOW, EXPLAIN (TESSERA) and the console answer.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/postgres/backend.hpp"

namespace tessera::proxy {

class RowBuilder {
public:
  explicit RowBuilder(std::vector<std::string> columns) : columns_(std::move(columns)) {}
  void row(std::vector<std::string> values) { rows_.push_back(std::move(values)); }
  std::size_t size() const { return rows_.size(); }
  // RowDescription alone (Describe), rows and CommandComplete alone (Execute), or all (a simple query).
  std::string description() const;
  std::string rows(std::string_view tag) const;
  std::string all(std::string_view tag) const { return description() + rows(tag); }

private:
  std::vector<std::string> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace tessera::proxy
