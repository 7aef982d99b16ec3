#include "proxy/console_commands.hpp"

#include <gtest/gtest.h>

#include "proxy/console_views.hpp"

namespace tessera::proxy {
namespace {

using Verb = ConsoleCommand::Verb;

TEST(ConsoleCommands, AreReadWhateverTheirCase) {
  const struct {
    const char* sql;
    Verb verb;
    const char* subject;
  } cases[] = {{"show pools", Verb::show, "POOLS"},
               {"  SHOW\tPools ; ;\n", Verb::show, "POOLS"},
               {"SHOW TESSERA  shards;", Verb::show, "TESSERA SHARDS"},
               {"show tessera.shards", Verb::show, "TESSERA SHARDS"},
               {"pause", Verb::pause, ""},
               {"PAUSE shop", Verb::pause, "shop"},
               {"PAUSE \"My \"\"Shop\"\"\";", Verb::pause, "My \"Shop\""},
               {"resume shop", Verb::resume, "shop"},
               {"reconnect", Verb::reconnect, ""},
               {"RELOAD;", Verb::reload, ""},
               {"SHUTDOWN", Verb::shutdown, ""},
               {"SHUTDOWN WAIT_FOR_CLIENTS", Verb::shutdown, ""},
               {"", Verb::nothing, ""},
               {" ; ", Verb::nothing, ""}};
  for (const auto& one : cases) {
    const Result<ConsoleCommand> command = parse_console_command(one.sql);
    ASSERT_TRUE(command) << one.sql;
    EXPECT_EQ(command->verb, one.verb) << one.sql;
    EXPECT_EQ(command->subject, one.subject) << one.sql;
  }
}

TEST(ConsoleCommands, OthersAreSyntaxErrors) {
  for (const char* sql :
       {"SELECT 1", "SHOW", "PAUSE a b", "RELOAD now", "PAUSE \"open", "\"", "KILL shop", "\"SHOW POOLS"}) {
    const Result<ConsoleCommand> command = parse_console_command(sql);
    ASSERT_FALSE(command) << sql;
    EXPECT_EQ(command.error().code, sqlstate::syntax_error) << sql;
  }
}

TEST(ConsoleCommands, HelpNamesEveryView) {
  const std::string help = console_help();
  for (const std::string_view view : console_view_names()) {
    EXPECT_NE(help.find(view), std::string::npos) << view;
    EXPECT_TRUE(console_view_needs(view)) << view;
  }
  EXPECT_FALSE(console_view_needs("NOTHING"));
}

}  // namespace
}  // namespace tessera::proxy
