// The console page at `/`: three static files without any fact in them. The page fetches the API with a token that the
// reader types in (kept in the tab alone); everything it shows is set as text, never as HTML. Nothing is loaded from
// elsewhere.
#pragma once

#include <string_view>

namespace tessera::admin {

std::string_view console_html();
std::string_view console_js();
std::string_view console_css();

}  // namespace tessera::admin
