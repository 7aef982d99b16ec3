// The console's commands: PgBouncer's names and columns where they have a meaning here. Facts are collected from all workers.
#pragma once

#include <string>
#include <string_view>

#include "proxy/console.hpp"

namespace tessera::proxy {

// Messages up to and with CommandComplete. Unknown commands are 42601 and list the known ones.
Result<std::string> run_console_command(std::string_view sql, Server& server, Console::Role role);

}  // namespace tessera::proxy
