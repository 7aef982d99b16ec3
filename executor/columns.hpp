// What shards say of the columns of one statement's rows.
#pragma once

#include <string_view>

#include "base/error.hpp"

namespace tessera::executor {

// Whether two RowDescriptions (or NoData) agree as far as they must between shards: table oids differ.
bool same_columns(std::string_view a, std::string_view b);

// The refusal of a statement whose columns do not agree.
Error different_columns();

}  // namespace tessera::executor
