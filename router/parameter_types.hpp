// Which type the server gives a parameter that the client has not declared: that of the first thing it meets. For a
// parameter that stands once, beside a column, it is the column's. One that stands more often is of the column's type
// for certain only if every place asks for that type: `id = $1 AND day > to_timestamp($1)` makes it a double precision.
// Internal to router.
#pragma once

#include <string>
#include <vector>

#include "router/planning.hpp"

namespace tessera::router {

class ParameterTypes {
public:
  ParameterTypes(const PlanRequest& request, const std::vector<ResolvedTable>& tables);

  // Whether the parameter, undeclared, has the type of `column` (or of arrays of it) wherever it stands. A cast right
  // around the operand counts in place of the column.
  bool inferred(const parser::Operand& operand, KeyType column, bool array) const;

private:
  struct Place {
    std::uint32_t begin;  // of $n in the text
    KeyType type;
    bool array;
  };
  void collect(const PlanRequest& request, const std::vector<ResolvedTable>& tables);
  void collect_rows(const PlanRequest& request, const std::vector<ResolvedTable>& tables);
  void add(const parser::Operand& operand, KeyType type, bool array);
  bool asks_for(const parser::ParameterUse& use, KeyType type, bool array) const;

  const std::vector<parser::ParameterUse>& uses_;
  bool repeated_ = false;      // some parameter stands more than once
  std::vector<Place> places_;  // the places beside a column
};

}  // namespace tessera::router
