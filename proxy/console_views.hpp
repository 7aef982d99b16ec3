// The views of SHOW on the console: facts as result sets, under PgBouncer's names and columns where they make sense (so
// that its exporters work), and Tessera's own under SHOW TESSERA. All columns are text. Pure but for the clock and the
// server's configuration.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "proxy/facts.hpp"

namespace tessera::proxy {

class Server;

std::vector<std::string_view> console_view_names();
// What must be collected for it, or why there is no such view.
Result<Wanted> console_view_needs(std::string_view view);
// Messages up to and with CommandComplete. `view` is one that console_view_needs knows.
std::string console_view(std::string_view view, const Facts& facts, const Server& server);

}  // namespace tessera::proxy
