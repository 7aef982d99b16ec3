// Reads the configuration. `load` takes a YAML file, or a folder whose *.yaml files are merged, and gives either a
// `Config` that keeps every promise of config.hpp, or every mistake that was found, each with file:line:column: it
// never stops at the first. Runs once at start-up and once for each reload, on a control thread; it opens the files
// that the configuration names (certificates, secrets, directory entries), so it may block. No function here throws
// because of what a file contains. Limits on one configuration: 16 MB of YAML, 64 levels of nesting, 400,000 values
// once aliases are expanded.
#pragma once

#include <cstddef>
#include <expected>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.hpp"

namespace tessera::config {

enum class Severity { error, warning };

// One mistake, or one thing to know. Neither text ever contains an expanded ${env:…} or ${file:…}, nor a password.
struct Problem {
  SourcePosition where;  // line 0: the file as a whole
  std::string message;   // what is wrong; no trailing full stop
  std::string hint;      // what would be right; may be empty
  Severity severity = Severity::error;
  friend bool operator==(const Problem&, const Problem&) = default;
};

// "file:line:column: error: message" (or "warning"), and the hint, if any, on an indented second line. No newline at
// the end.
std::string to_string(const Problem& problem);

struct Loaded {
  std::optional<Config> config;   // has a value exactly if there are no problems
  std::vector<Problem> problems;  // in the order of the files
  std::vector<Problem> warnings;  // the same; they keep nobody from loading the file
};

// The world outside the YAML text; tests and fuzzers bring their own.
struct Environment {
  // The value of an environment variable; none: not set.
  std::function<std::optional<std::string>(const std::string& name)> variable;
  // The whole file, or a few words that say why not ("no such file or directory"). Must refuse more than `limit` bytes.
  std::function<std::expected<std::string, std::string>(const std::string& path, std::size_t limit)> read_file;
};
// The process's environment variables and regular files.
Environment real_environment();

// A file, or a folder (its *.yaml files, merged in the order of their names). A relative path inside the YAML is
// relative to the folder of the file that says it.
Loaded load(const std::string& path, const Environment& env);
// The same for text that is already here; `name` stands in the problems, and its folder is where relative paths begin.
Loaded load_text(const std::string& name, std::string_view text, const Environment& env);

// The JSON Schema (draft 2020-12) for editors, made from the table of keys that the loader uses. config/schema.json.
std::string json_schema();

// The configuration as JSON under the same keys as the YAML, defaults included, every secret as "***": for `SHOW
// CONFIG` and the admin endpoint.
std::string describe(const Config& config);

}  // namespace tessera::config
