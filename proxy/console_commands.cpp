#include "proxy/console_commands.hpp"

#include <fmt/format.h>

#include "proxy/row_builder.hpp"
#include "proxy/version.hpp"

namespace tessera::proxy {

Result<std::string> run_console_command(std::string_view sql, Server&, Console::Role) {
  std::string words;
  for (const char c : sql)
    if (c != ';') words += static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  while (!words.empty() && words.back() == ' ') words.pop_back();
  if (words == "SHOW VERSION") {
    RowBuilder rows({"version"});
    rows.row({fmt::format("Tessera {}", version)});
    return rows.all("SHOW");
  }
  return fail(sqlstate::syntax_error, fmt::format("unknown console command \"{}\"", sql), "known: SHOW VERSION");
}

}  // namespace tessera::proxy
