// The program: `tessera serve | check | explain | id | schema`. What the commands do is in commands.cpp and serve.cpp;
// this is the command line.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fmt/format.h>

#include "admin/commands.hpp"
#include "config/suggest.hpp"
#include "proxy/version.hpp"

namespace {

// What stands on the command line and means nothing, said before anything that may be missing; empty: all is known.
std::string unknown_word(CLI::App& app, const std::vector<std::string_view>& words) {
  if (words.empty()) return {};
  CLI::App* of = &app;
  if (!words.front().starts_with('-')) {
    of = nullptr;
    std::vector<std::string> names;
    for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
      names.push_back(command->get_name());
      if (names.back() == words.front()) of = command;
    }
    const std::vector<std::string_view> commands(names.begin(), names.end());
    if (of == nullptr)
      return fmt::format("there is no command \"{}\"\n  hint: {}", words.front(),
                         tessera::config::suggestion(words.front(), commands, "the commands are"));
  }
  for (const std::string_view word : words) {
    if (word == "--") break;
    const std::string name(word.substr(0, word.find('=')));
    if (!name.starts_with("--") || of->get_option_no_throw(name) != nullptr) continue;
    std::vector<std::string> long_names;
    for (const CLI::Option* option : of->get_options())
      for (const std::string& long_name : option->get_lnames()) long_names.push_back("--" + long_name);
    const std::vector<std::string_view> options(long_names.begin(), long_names.end());
    return fmt::format("unknown option \"{}\"\n  hint: {}", name,
                       tessera::config::suggestion(name, options, "the options are"));
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  using namespace tessera::admin;
  CLI::App app{"Tessera: a SQL sharding proxy", "tessera"};
  app.set_version_flag("--version", "tessera " + std::string(tessera::proxy::version));
  app.require_subcommand(1);
  int code = 0;

  ServeOptions serve_options;
  CLI::App* serve_command = app.add_subcommand(
      "serve",
      "Run in the foreground. SIGHUP reloads the configuration, SIGTERM drains, SIGUSR1 reopens the log, SIGUSR2 "
      "hands over to a new process.");
  serve_command->add_option("-c,--config", serve_options.config, "configuration file or folder")->required();
  serve_command->add_option("--pid-file", serve_options.pid_file,
                            "write the process id here (else as the configuration says)");
  serve_command->callback([&] { code = serve(serve_options); });

  CheckOptions check_options;
  CLI::App* check_command = app.add_subcommand(
      "check", "Validate a configuration: every mistake with file:line:column; exit code 1 if there is one.");
  // One option with two spellings: required() would have the help call both of them so.
  check_command->add_option("-c,--config,config", check_options.config,
                            "configuration file or folder: needed, with -c or without");
  check_command->add_flag("--json", check_options.json, "print JSON");
  check_command->callback([&] {
    if (check_options.config.empty()) throw CLI::RequiredError("the configuration file or folder");
    code = check(check_options);
  });

  ExplainOptions explain_options;
  CLI::App* explain_command = app.add_subcommand("explain", "Print the plan of a statement, without any server.");
  explain_command->add_option("-c,--config", explain_options.config, "configuration file or folder")->required();
  explain_command->add_option("-d,--database", explain_options.database, "database, if there are several");
  explain_command->add_flag("--json", explain_options.json, "print JSON");
  explain_command->add_option("sql", explain_options.sql, "the statement")->required();
  explain_command->callback([&] { code = explain(explain_options); });

  IdOptions id_options;
  CLI::App* id_command = app.add_subcommand("id", "Take an id apart: time, shard, sequence.");
  id_command->add_option("id", id_options.id, "the id: a bigint in decimal digits; a negative one after --")
      ->required();
  id_command->add_option("--epoch", id_options.epoch,
                         "where its time begins: a date, or milliseconds since 1970 (default: 2020-01-01)");
  id_command->add_flag("--json", id_options.json, "print JSON");
  id_command->callback([&] { code = take_id_apart(id_options); });

  CLI::App* schema_command = app.add_subcommand("schema", "Print the JSON Schema of the configuration.");
  schema_command->callback([&] { code = print_schema(); });

  const std::vector<std::string_view> words(argv + 1, argv + argc);
  if (words.size() == 1 && words.front() == "help") {
    std::fputs(app.help().c_str(), stdout);
    return 0;
  }
  if (const std::string unknown = unknown_word(app, words); !unknown.empty()) {
    std::fprintf(stderr, "tessera: %s\n", unknown.c_str());
    return 2;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tessera: %s\n", error.what());
    return 1;
  }
  return code;
}
