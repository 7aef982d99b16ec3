// Whether servers answer a statement with the same columns.
#pragma once

#include <string_view>

#include "base/error.hpp"

namespace tessera::executor {

// Of two RowDescription or NoData messages, as far as they must agree between shards: oids of tables differ.
bool same_columns(std::string_view a, std::string_view b);
// They are not the same.
Error different_columns();

}  // namespace tessera::executor
