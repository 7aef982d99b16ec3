// What the console understands: PgBouncer's commands where they have a meaning here, and SHOW TESSERA. Pure: text to a
// command, facts to messages. The console (console.hpp) carries commands out.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace tessera::proxy {

struct ConsoleCommand {
  enum class Verb { nothing, show, pause, resume, reconnect, reload, shutdown };
  Verb verb = Verb::nothing;
  // SHOW: the view, in upper case, words separated by one space ("POOLS", "TESSERA SHARDS"). PAUSE, RESUME, RECONNECT:
  // the database, as written; empty: all.
  std::string subject;
};

// 42601 for what is not a command; it lists the known ones. A semicolon at the end and SQL's letter case do not matter;
// a database's name may stand in double quotes.
Result<ConsoleCommand> parse_console_command(std::string_view sql);

// The commands, for SHOW HELP.
std::string console_help();

}  // namespace tessera::proxy
