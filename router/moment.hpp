// Texts that a server reads as the moment at which it reads them: 'now', 'today', 'tomorrow 12:00'. Each shard would
// read another. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace tessera::router {

// Whether date/time input could take the text, or an element of an array or range in it, for such a moment. Zone names
// beside it, but for UTC's, are not known.
bool tells_moment(std::string_view text);

// Where in the SQL text the first string literal stands that does.
std::optional<std::size_t> literal_of_moment(std::string_view sql);

}  // namespace tessera::router
