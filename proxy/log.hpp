// The log: one line for each event, logfmt or JSON, with the time, the level, a message that does not vary and fields
// that do. Values are escaped, so nobody's name can forge a line. Thread-safe. Secrets have no way in: fields are plain
// strings, and `Secret` does not convert.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.hpp"
#include "config/config.hpp"

namespace tessera::proxy::log {

using Fields = std::initializer_list<std::pair<std::string_view, std::string_view>>;

// Opens the file, or standard error. Also after a reload, and to reopen a file that was rotated away.
Result<void> configure(const config::Log& settings);

void debug(std::string_view message, Fields fields = {});
void info(std::string_view message, Fields fields = {});
void warn(std::string_view message, Fields fields = {});
void error(std::string_view message, Fields fields = {});
// A warning that holds a statement: not among the events (events.hpp), which hold all others from `info` on.
void statement(std::string_view message, Fields fields = {});

}  // namespace tessera::proxy::log
