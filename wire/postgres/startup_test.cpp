#include "wire/postgres/startup.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera::postgres {
namespace {

using namespace std::literals;
using ::testing::ElementsAre;
using ::testing::Pair;

std::string packet_of(std::uint32_t length, std::string_view rest) {
  std::string packet;
  for (int shift = 24; shift >= 0; shift -= 8) packet += static_cast<char>(length >> shift);
  return packet.append(rest);
}
std::string packet_of(std::string_view rest) {
  return packet_of(static_cast<std::uint32_t>(rest.size() + 4), rest);
}
std::string startup_of(std::string_view pairs) {
  return packet_of("\0\3\0\0"s.append(pairs));
}

SqlState code_of(std::string_view packet) {
  const auto parsed = parse_first_packet(packet);
  EXPECT_FALSE(parsed.has_value());
  return parsed ? SqlState("00000") : parsed.error().code;
}

StartupMessage parsed_startup(std::string_view packet) {
  const auto parsed = parse_first_packet(packet);
  EXPECT_TRUE(parsed.has_value()) << (parsed ? "" : parsed.error().message);
  return parsed ? std::get<StartupMessage>(*parsed) : StartupMessage{};
}

TEST(Startup, EncryptionRequests) {
  std::string ssl;
  append_ssl_request(ssl);
  EXPECT_EQ(ssl, "\0\0\0\10\4\322\26\57"sv);
  EXPECT_EQ(parse_first_packet(ssl), FirstPacket(SslRequest{}));
  std::string gss;
  append_gssenc_request(gss);
  EXPECT_EQ(gss, "\0\0\0\10\4\322\26\60"sv);
  EXPECT_EQ(parse_first_packet(gss), FirstPacket(GssEncRequest{}));
  EXPECT_EQ(code_of(packet_of("\4\322\26\57x"sv)), sqlstate::protocol_violation);
}

TEST(Startup, CancelRequests) {
  for (const std::size_t size : {4u, 32u, 256u}) {
    std::string packet;
    ASSERT_TRUE(append_cancel_request(packet, 0xdead'beef, std::string(size, '\0')));
    EXPECT_EQ(parse_first_packet(packet), FirstPacket(CancelRequest{0xdead'beef, std::string(size, '\0')}));
    for (std::size_t cut = 0; cut < packet.size(); ++cut) {
      EXPECT_FALSE(parse_first_packet(packet.substr(0, cut)).has_value());
    }
  }
  EXPECT_EQ(code_of(packet_of("\4\322\26\56\0\0\0\1key"sv)), sqlstate::protocol_violation);
  EXPECT_EQ(code_of(packet_of("\4\322\26\56\0\0\0\1"s + std::string(257, 'k'))), sqlstate::protocol_violation);
}

TEST(Startup, MessageRoundTrip) {
  const StartupMessage message{3,
                               0,
                               "alice",
                               "shop",
                               "database",
                               "-c search_path=a\\ b",
                               {{"search_path", "a b"}},
                               {{"application_name", "psql"}, {"client_encoding", "UTF8"}},
                               {"_pq_.command_compression"}};
  std::string packet;
  ASSERT_TRUE(append_startup(packet, message));
  EXPECT_EQ(parsed_startup(packet), message);
  EXPECT_TRUE(message.needs_negotiation());
  for (std::size_t cut = 0; cut < packet.size(); ++cut) {
    std::size_t total = 0;
    const std::string part = packet.substr(0, cut);
    EXPECT_EQ(peek_first_packet(part, total), cut < 4 ? FrameStatus::need_more : FrameStatus::header_only);
    EXPECT_FALSE(parse_first_packet(part).has_value());
    // The same with a length that matches the cut.
    if (cut >= 8) EXPECT_FALSE(parse_first_packet(packet_of(packet.substr(4, cut - 4))).has_value()) << cut;
  }
}

TEST(Startup, LengthsAreCheckedFirst) {
  std::size_t total = 0;
  for (const std::uint32_t length :
       {0u, 1u, 3u, 4u, 7u, 10'005u, 0x7fff'ffffu, 0x8000'0000u, 0x8000'0001u, 0xffff'ffffu}) {
    EXPECT_EQ(peek_first_packet(packet_of(length, "\0\3\0\0"sv), total), FrameStatus::malformed) << length;
    EXPECT_EQ(code_of(packet_of(length, "\0\3\0\0"sv)), sqlstate::protocol_violation);
  }
  EXPECT_EQ(peek_first_packet(packet_of(10'004, ""), total), FrameStatus::header_only);
  EXPECT_EQ(total, 10'004u);
  EXPECT_EQ(code_of(startup_of("user\0a\0\0"sv) + "behind"), sqlstate::protocol_violation);
}

TEST(Startup, TenThousandBytesFitAndNoMore) {
  StartupMessage message;
  message.user = "u";
  message.database = "d";
  // length, version, the two names with their values, the name of the third parameter, its zero byte, the terminator
  const std::size_t around = 4 + 4 + 7 + 11 + 2 + 1 + 1;
  message.parameters = {{"p", std::string(max_startup_length - around, 'x')}};
  std::string packet;
  ASSERT_TRUE(append_startup(packet, message));
  EXPECT_EQ(packet.size(), max_startup_length);
  EXPECT_EQ(parsed_startup(packet), message);
  message.parameters[0].second += 'x';
  EXPECT_FALSE(append_startup(packet, message));
  EXPECT_EQ(packet.size(), max_startup_length);
}

TEST(Startup, TheLastOfTwoEqualNamesCounts) {
  const auto message = parsed_startup(startup_of("user\0a\0DateStyle\0ISO\0user\0b\0DateStyle\0SQL\0\0"sv));
  EXPECT_EQ(message.user, "b");
  EXPECT_EQ(message.database, "b");
  EXPECT_THAT(message.parameters, ElementsAre(Pair("DateStyle", "SQL")));
}

TEST(Startup, EmptyDatabaseMeansTheUsers) {
  EXPECT_EQ(parsed_startup(startup_of("database\0\0user\0a\0\0"sv)).database, "a");
}

TEST(Startup, BadLayouts) {
  EXPECT_EQ(code_of(startup_of("user\0a\0"sv)), sqlstate::protocol_violation);        // no terminator
  EXPECT_EQ(code_of(startup_of("user\0a\0\0x"sv)), sqlstate::protocol_violation);     // bytes behind it
  EXPECT_EQ(code_of(startup_of("user\0a\0name\0"sv)), sqlstate::protocol_violation);  // no value
  EXPECT_EQ(code_of(startup_of("user\0a\0name"sv)), sqlstate::protocol_violation);
  EXPECT_EQ(code_of(startup_of(""sv)), sqlstate::protocol_violation);
  EXPECT_EQ(code_of(startup_of("\0"sv)), sqlstate::invalid_authorization);  // no user
  EXPECT_EQ(code_of(startup_of("user\0\0\0"sv)), sqlstate::invalid_authorization);
}

TEST(Startup, Versions) {
  EXPECT_EQ(code_of(packet_of("\0\2\0\0user\0a\0\0"sv)), sqlstate::feature_not_supported);
  EXPECT_EQ(code_of(packet_of("\0\4\0\0user\0a\0\0"sv)), sqlstate::feature_not_supported);
  EXPECT_EQ(code_of(packet_of("\4\322\26\55user\0a\0\0"sv)), sqlstate::feature_not_supported);
  const auto newer = parsed_startup(packet_of("\0\3\0\2user\0a\0\0"sv));
  EXPECT_EQ(newer.minor, 2);
  EXPECT_TRUE(newer.needs_negotiation());
  EXPECT_FALSE(parsed_startup(startup_of("user\0a\0\0"sv)).needs_negotiation());
  EXPECT_THAT(parsed_startup(startup_of("user\0a\0_pq_.x\0001\0_pq_.x\0002\0\0"sv)).protocol_options,
              ElementsAre("_pq_.x"));
}

TEST(Startup, TooManyParametersAreRefused) {
  std::string pairs = "user\0a\0"s;
  for (std::size_t i = 1; i < max_startup_settings; ++i) pairs += "n" + std::to_string(i) + "\0v\0"s;
  EXPECT_EQ(parsed_startup(startup_of(pairs + '\0')).parameters.size(), max_startup_settings - 1);
  EXPECT_EQ(code_of(startup_of(pairs + "x\0y\0\0"s)), sqlstate::program_limit_exceeded);
  std::string options;
  for (int i = 0; i < 1'001; ++i) options += "-ca=b ";
  EXPECT_EQ(code_of(startup_of("user\0a\0options\0"s + options + "\0\0"s)), sqlstate::program_limit_exceeded);
}

TEST(Startup, DirectTlsIsRecognised) {
  EXPECT_TRUE(is_direct_tls("\x16\3\1"));
  EXPECT_FALSE(is_direct_tls(""));
  EXPECT_FALSE(is_direct_tls("\0\0\0\10"sv));
}

TEST(Options, AreSplitAsTheServerDoes) {
  EXPECT_THAT(split_options(""), ElementsAre());
  EXPECT_THAT(split_options("  \t\n "), ElementsAre());
  EXPECT_THAT(split_options(" a  b\tc "), ElementsAre("a", "b", "c"));
  EXPECT_THAT(split_options("a\\ b c\\\\d \\e"), ElementsAre("a b", "c\\d", "e"));
  EXPECT_THAT(split_options("a\\"), ElementsAre("a"));
  EXPECT_THAT(split_options("\\ "), ElementsAre(" "));
}

TEST(Options, SettingsInAllSpellings) {
  const auto settings = parse_options(
      "-c geqo=off -cstatement_timeout=5min --search-path=a,b --lock-timeout= -c DateStyle=ISO,\\ MDY -c a.b=x=y "
      "-ec geqo=on -S 64MB -fs -f mx -PEbj -nT -W 0 -Cx -D x -r x -v3 -- ");
  ASSERT_TRUE(settings.has_value()) << settings.error().message;
  EXPECT_THAT(*settings, ElementsAre(Pair("geqo", "on"), Pair("statement_timeout", "5min"), Pair("search_path", "a,b"),
                                     Pair("lock_timeout", ""), Pair("DateStyle", "ISO, MDY"), Pair("a.b", "x=y"),
                                     Pair("datestyle", "euro"), Pair("work_mem", "64MB"),
                                     Pair("enable_seqscan", "false"), Pair("enable_mergejoin", "false")));
}

TEST(Options, MistakesAreSyntaxErrors) {
  for (const auto* options : {"geqo=off", "-", "-c", "-c geqo", "--geqo", "-x", "-x y", "-c a=b c", "-- a", "-B 100",
                              "-fz", "-f", "-W", "-F", "-p 1"}) {
    const auto settings = parse_options(options);
    ASSERT_FALSE(settings.has_value()) << options;
    EXPECT_EQ(settings.error().code, sqlstate::syntax_error) << options;
  }
  EXPECT_EQ(parse_options("-c geqo").error().message, "-c geqo requires a value");
  EXPECT_EQ(parse_options("--geqo").error().message, "--geqo requires a value");
}

}  // namespace
}  // namespace tessera::postgres
