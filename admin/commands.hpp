// The subcommands of `tessera`. Each returns the process's exit code: 0 well, 1 the input is wrong, 2 the command line
// is wrong.
#pragma once

#include <string>
#include <vector>

#include "config/load.hpp"

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

struct IdOptions {
  std::string id;
  std::string epoch;  // empty: ids::epoch
  bool json = false;
};

int serve(const ServeOptions& options);
int check(const CheckOptions& options);
int explain(const ExplainOptions& options);
int take_id_apart(const IdOptions& options);
int print_schema();

// For the commands that read a configuration: problems or warnings to standard error.
void complain(const std::vector<config::Problem>& problems);
// Of the rules, which only building them shows: the first one of each database.
std::vector<config::Problem> rule_problems(const config::Config& config);

}  // namespace tessera::admin
