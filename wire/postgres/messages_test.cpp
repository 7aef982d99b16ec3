// Every message with a body, in both directions, as a table: built, parsed and built again; cut at every byte; with a
// byte too many; with every length and count replaced by the values that have broken parsers elsewhere; and mutated.
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

#include "wire/postgres/rebuild.hpp"

namespace tessera::postgres {
namespace {

using namespace std::string_view_literals;
using testing::rebuild_backend;
using testing::rebuild_frontend;
using testing::rebuild_password;
using testing::rebuild_sasl_initial;
using testing::Rebuilt;

struct Field {
  std::size_t offset;  // in the body
  std::size_t width;
};

struct Sample {
  std::string name;
  std::string frame;
  std::function<Rebuilt(char, std::string_view)> rebuild;
  std::vector<Field> fields;  // lengths and counts
};

std::string made(const std::function<bool(std::string&)>& build) {
  std::string out;
  EXPECT_TRUE(build(out));
  return out;
}

Rebuilt as_password(char, std::string_view body) {
  return rebuild_password(body);
}
Rebuilt as_sasl_initial(char, std::string_view body) {
  return rebuild_sasl_initial(body);
}

std::vector<Sample> frontend_samples() {
  const std::vector<Value> values = {"abcde"sv, std::nullopt, ""sv, "\0\1"sv};
  const std::vector<std::int16_t> formats = {0, 1, 1, 0};
  const std::vector<Oid> types = {23, 0, 0xffff'ffff};
  FunctionCallView call{7, {1}, {"xy"sv, std::nullopt}, 1};
  return {
      {"Query", made([](auto& out) { return append_query(out, "select 1"); }), rebuild_frontend, {}},
      {"Parse", made([&](auto& out) { return append_parse(out, "s", "q", types); }), rebuild_frontend, {{4, 2}}},
      {"Bind",
       made([&](auto& out) { return append_bind(out, "p", "s", values, {formats, formats}); }),
       rebuild_frontend,
       {{4, 2}, {14, 2}, {16, 4}, {25, 4}, {29, 4}, {33, 4}, {39, 2}}},
      {"Bind without anything",
       made([](auto& out) { return append_bind(out, "", "", {}); }),
       rebuild_frontend,
       {{2, 2}, {4, 2}, {6, 2}}},
      {"Describe", made([](auto& out) { return append_describe(out, 'S', "name"); }), rebuild_frontend, {}},
      {"Close", made([](auto& out) { return append_close(out, 'P', ""); }), rebuild_frontend, {}},
      {"Execute", made([](auto& out) { return append_execute(out, "portal", -1); }), rebuild_frontend, {}},
      {"FunctionCall",
       made([&](auto& out) { return append_function_call(out, call); }),
       rebuild_frontend,
       {{4, 2}, {8, 2}, {10, 4}, {16, 4}}},
      {"CopyFail", made([](auto& out) { return append_copy_fail(out, "because"); }), rebuild_frontend, {}},
      {"PasswordMessage", made([](auto& out) { return append_password(out, "secret"); }), as_password, {}},
      {"SASLInitialResponse",
       made([](auto& out) { return append_sasl_initial(out, {"SCRAM", "n,,n=,r=x"}); }),
       as_sasl_initial,
       {{6, 4}}},
      {"SASLInitialResponse without data",
       made([](auto& out) { return append_sasl_initial(out, {"SCRAM", {}}); }),
       as_sasl_initial,
       {}},
  };
}

std::vector<Sample> backend_samples() {
  const std::vector<Value> values = {"abcde"sv, std::nullopt, ""sv};
  const std::vector<FieldView> fields = {{"id", 16'384, 1, 20, 8, -1, 1}, {"", 0, 0, 25, -1, 5, 0}};
  const std::vector<Oid> types = {23, 25};
  const std::vector<std::string_view> names = {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"};
  const std::vector<ErrorField> errors = {{'S', "ERROR"}, {'C', "42P01"}, {'M', "no such table"}, {'x', ""}};
  const CopyResponseView copy{1, {1, 1}};
  using B = std::string;
  return {
      {"AuthenticationOk", made([](B& out) { return append_authentication_ok(out), true; }), rebuild_backend, {}},
      {"AuthenticationCleartext",
       made([](B& out) { return append_authentication_cleartext(out), true; }),
       rebuild_backend,
       {}},
      {"AuthenticationMD5",
       made([](B& out) { return append_authentication_md5(out, "\0abc"sv); }),
       rebuild_backend,
       {}},
      {"AuthenticationSASL", made([&](B& out) { return append_authentication_sasl(out, names); }), rebuild_backend, {}},
      {"ParameterStatus",
       made([](B& out) { return append_parameter_status(out, "TimeZone", "UTC"); }),
       rebuild_backend,
       {}},
      {"BackendKeyData",
       made([](B& out) { return append_backend_key_data(out, 42, "\1\2\3\4"); }),
       rebuild_backend,
       {}},
      {"ReadyForQuery",
       made([](B& out) { return append_ready_for_query(out, TransactionStatus::failed), true; }),
       rebuild_backend,
       {}},
      {"Notification",
       made([](B& out) { return append_notification(out, {7, "channel", "payload"}); }),
       rebuild_backend,
       {}},
      {"NegotiateProtocolVersion",
       made([](B& out) {
         const std::vector<std::string_view> options = {"_pq_.a", "_pq_.b"};
         return append_negotiate_protocol_version(out, 3 << 16, options);
       }),
       rebuild_backend,
       {{4, 4}}},
      {"RowDescription", made([&](B& out) { return append_row_description(out, fields); }), rebuild_backend, {{0, 2}}},
      {"RowDescription of nothing",
       made([](B& out) { return append_row_description(out, {}); }),
       rebuild_backend,
       {{0, 2}}},
      {"DataRow",
       made([&](B& out) { return append_data_row(out, values); }),
       rebuild_backend,
       {{0, 2}, {2, 4}, {11, 4}, {15, 4}}},
      {"CommandComplete", made([](B& out) { return append_command_complete(out, "INSERT 0 1"); }), rebuild_backend, {}},
      {"ParameterDescription",
       made([&](B& out) { return append_parameter_description(out, types); }),
       rebuild_backend,
       {{0, 2}}},
      {"CopyInResponse", made([&](B& out) { return append_copy_response(out, 'G', copy); }), rebuild_backend, {{1, 2}}},
      {"CopyOutResponse",
       made([&](B& out) { return append_copy_response(out, 'H', copy); }),
       rebuild_backend,
       {{1, 2}}},
      {"CopyBothResponse",
       made([&](B& out) { return append_copy_response(out, 'W', copy); }),
       rebuild_backend,
       {{1, 2}}},
      {"FunctionCallResponse",
       made([](B& out) { return append_function_call_response(out, "value"sv); }),
       rebuild_backend,
       {{0, 4}}},
      {"FunctionCallResponse of NULL",
       made([](B& out) { return append_function_call_response(out, {}); }),
       rebuild_backend,
       {}},
      {"ErrorResponse", made([&](B& out) { return append_error_fields(out, 'E', errors); }), rebuild_backend, {}},
      {"NoticeResponse", made([&](B& out) { return append_error_fields(out, 'N', errors); }), rebuild_backend, {}},
  };
}

std::vector<Sample> all_samples() {
  auto samples = frontend_samples();
  for (auto& sample : backend_samples()) samples.push_back(std::move(sample));
  return samples;
}

std::string_view body_of(const Sample& sample) {
  FrameHeader header;
  EXPECT_EQ(peek_frame(sample.frame, max_message_length, header), FrameStatus::complete);
  EXPECT_EQ(header.total_size(), sample.frame.size()) << sample.name;
  return frame_body(sample.frame, header);
}

std::uint32_t number_at(std::string_view bytes, const Field& field) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < field.width; ++i)
    value = value << 8 | static_cast<unsigned char>(bytes[field.offset + i]);
  return value;
}

void set_number(std::string& bytes, const Field& field, std::uint32_t value) {
  for (std::size_t i = 0; i < field.width; ++i) {
    bytes[field.offset + i] = static_cast<char>(value >> (8 * (field.width - 1 - i)));
  }
}

TEST(Messages, ParseAndBuildAgainGivesTheSameBytes) {
  for (const Sample& sample : all_samples()) {
    EXPECT_EQ(sample.rebuild(sample.frame[0], body_of(sample)), sample.frame) << sample.name;
  }
}

TEST(Messages, CutAtAnyByteIsRefused) {
  for (const Sample& sample : all_samples()) {
    const std::string_view body = body_of(sample);
    for (std::size_t size = 0; size < body.size(); ++size) {
      const std::string cut(body.substr(0, size));  // its own allocation, so that a sanitizer sees a read behind it
      EXPECT_EQ(sample.rebuild(sample.frame[0], cut), std::nullopt) << sample.name << " cut to " << size;
    }
  }
}

TEST(Messages, LeftoverBytesAreRefused) {
  for (const Sample& sample : all_samples()) {
    if (sample.name == "BackendKeyData") continue;  // its key takes what there is, up to 256 bytes
    EXPECT_EQ(sample.rebuild(sample.frame[0], std::string(body_of(sample)) + '\0'), std::nullopt) << sample.name;
    EXPECT_EQ(sample.rebuild(sample.frame[0], std::string(body_of(sample)) + "xy"), std::nullopt) << sample.name;
  }
}

TEST(Messages, EveryLengthAndCountIsChecked) {
  constexpr std::uint32_t hostile[] = {0,           1,           2,           3,           4,
                                       0x7fff,      0x8000,      0xffff,      0x7fff'fffe, 0x7fff'ffff,
                                       0x8000'0000, 0x8000'0001, 0xffff'fffe, 0xffff'ffff};
  int tried = 0;
  for (const Sample& sample : all_samples()) {
    const std::string body(body_of(sample));
    for (const Field& field : sample.fields) {
      const std::uint32_t right = number_at(body, field);
      for (const std::uint32_t value : hostile) {
        std::string changed = body;
        set_number(changed, field, value);
        if (number_at(changed, field) == right) continue;
        // NULL in place of an empty value, or the reverse, is another message, and a sound one.
        const auto is_empty = [](std::uint32_t length) { return length == 0 || length == 0xffff'ffff; };
        if (field.width == 4 && is_empty(right) && is_empty(value)) continue;
        EXPECT_EQ(sample.rebuild(sample.frame[0], changed), std::nullopt)
            << sample.name << " field at " << field.offset << " = " << value;
        ++tried;
      }
    }
  }
  EXPECT_GT(tried, 200);
}

TEST(Messages, WhatIsAcceptedHasOneSpelling) {
  std::mt19937 random(7);
  for (const Sample& sample : all_samples()) {
    for (int round = 0; round < 2'000; ++round) {
      std::string body(body_of(sample));
      for (auto changes = random() % 3 + 1; changes > 0 && !body.empty(); --changes) {
        body[random() % body.size()] = static_cast<char>(random());
      }
      const Rebuilt again = sample.rebuild(sample.frame[0], body);
      if (again) EXPECT_EQ(std::string_view(*again).substr(frame_header_size), body) << sample.name;
    }
  }
}

TEST(Messages, WithoutBody) {
  std::string out;
  append_sync(out);
  append_flush(out);
  append_terminate(out);
  append_copy_done(out);
  append_parse_complete(out);
  append_bind_complete(out);
  append_close_complete(out);
  append_no_data(out);
  append_empty_query_response(out);
  append_portal_suspended(out);
  std::string types;
  std::string_view rest = out;
  for (FrameHeader header; peek_frame(rest, 4, header) == FrameStatus::complete;) {
    types += header.type;
    rest.remove_prefix(header.total_size());
  }
  EXPECT_TRUE(rest.empty());
  EXPECT_EQ(types, "SHXc123nIs");
}

TEST(Messages, OpaqueBodies) {
  std::string out;
  ASSERT_TRUE(append_copy_data(out, "a\0b"sv));
  ASSERT_TRUE(append_sasl_response(out, "c=biws"));
  ASSERT_TRUE(append_authentication_sasl_continue(out, "r=x"));
  ASSERT_TRUE(append_authentication_sasl_final(out, "v=y"));
  EXPECT_EQ(out, "d\0\0\0\7a\0bp\0\0\0\12c=biwsR\0\0\0\13\0\0\0\13r=xR\0\0\0\13\0\0\0\14v=y"sv);
}

TEST(Messages, ViewsHoldWhatWasSent) {
  const auto samples = frontend_samples();
  BindView bind;
  ASSERT_TRUE(parse_bind(body_of(samples[2]), bind));
  EXPECT_EQ(bind.portal, "p");
  EXPECT_EQ(bind.statement, "s");
  EXPECT_THAT(bind.parameter_formats, ::testing::ElementsAre(0, 1, 1, 0));
  EXPECT_THAT(bind.parameters, ::testing::ElementsAre("abcde"sv, std::nullopt, ""sv, "\0\1"sv));
  const auto* const storage = bind.parameters.data();
  ASSERT_TRUE(parse_bind(body_of(samples[2]), bind));
  EXPECT_EQ(bind.parameters.data(), storage);  // reused, not allocated again
  ParseView parse;
  ASSERT_TRUE(parse_parse(body_of(samples[1]), parse));
  EXPECT_EQ(parse.query, "q");
  EXPECT_THAT(parse.parameter_types, ::testing::ElementsAre(23u, 0u, 0xffff'ffffu));
  ExecuteView execute;
  ASSERT_TRUE(parse_execute(body_of(samples[6]), execute));
  EXPECT_EQ(execute.portal, "portal");
  EXPECT_EQ(execute.max_rows, -1);
}

TEST(Messages, FormatsOfValues) {
  const std::vector<std::int16_t> none;
  const std::vector<std::int16_t> one = {1};
  const std::vector<std::int16_t> two = {1, 0};
  const std::vector<std::int16_t> odd = {2};
  EXPECT_EQ(format_of(none, 5), Format::text);
  EXPECT_EQ(format_of(one, 5), Format::binary);
  EXPECT_EQ(format_of(two, 1), Format::text);
  EXPECT_EQ(format_of(two, 2), std::nullopt);
  EXPECT_EQ(format_of(odd, 0), std::nullopt);
}

TEST(Messages, OtherTransactionStatesAreRefused) {
  TransactionStatus status{};
  EXPECT_FALSE(parse_ready_for_query("X", status));
  EXPECT_FALSE(parse_ready_for_query("", status));
  EXPECT_FALSE(parse_ready_for_query("II", status));
}

}  // namespace
}  // namespace tessera::postgres
