// The subcommands of `tessera`. Each returns the process's exit code: 0 well, 1 the input is wrong, 2 the command line
// is wrong.
#pragma once

#include <string>

namespace tessera::admin {

struct ServeOptions {
  std::string config;
  std::string pid_file;
};
struct CheckOptions {
  std::string config;
  bool json = false;
};
struct ExplainOptions {
  std::string config;
  std::string database;
  std::string sql;
  bool json = false;
};

int serve(const ServeOptions& options);
int check(const CheckOptions& options);
int explain(const ExplainOptions& options);
int print_schema();

}  // namespace tessera::admin
