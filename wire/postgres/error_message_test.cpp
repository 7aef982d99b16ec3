#include "wire/postgres/error_message.hpp"

#include <gtest/gtest.h>

namespace tessera::postgres {
namespace {

using namespace std::literals;

ErrorFields fields_of(std::string_view message) {
  FrameHeader header;
  EXPECT_EQ(peek_frame(message, max_message_length, header), FrameStatus::complete);
  ErrorFields fields;
  EXPECT_TRUE(parse_error_fields(frame_body(message, header), fields));
  return fields;
}

TEST(ErrorMessage, OurErrorComesBack) {
  const Error error{sqlstate::undefined_table, "relation \"a\" does not exist", "a detail", "a hint", 15};
  std::string out;
  append_error(out, error, Severity::fatal);
  EXPECT_EQ(out[0], 'E');
  const ErrorFields fields = fields_of(out);
  EXPECT_EQ(fields.to_error(), error);
  EXPECT_TRUE(fields.is_fatal());
  EXPECT_EQ(fields.find('S'), "FATAL");
  EXPECT_EQ(fields.find('V'), "FATAL");
  EXPECT_EQ(fields.find('W'), std::nullopt);
}

TEST(ErrorMessage, EmptyFieldsAreNotSent) {
  std::string out;
  append_error(out, {sqlstate::syntax_error, "m", "", "", 0});
  EXPECT_EQ(out, "E\0\0\0\35SERROR\0VERROR\0C42601\0Mm\0\0"sv);
}

TEST(ErrorMessage, SeverityDecidesBetweenErrorAndNotice) {
  for (const Severity severity : {Severity::error, Severity::fatal, Severity::panic}) {
    std::string out;
    append_error(out, {}, severity);
    EXPECT_EQ(out[0], 'E');
  }
  for (const Severity severity :
       {Severity::warning, Severity::notice, Severity::debug, Severity::info, Severity::log}) {
    std::string out;
    append_error(out, {}, severity);
    EXPECT_EQ(out[0], 'N') << severity_name(severity);
    EXPECT_EQ(fields_of(out).find('S'), severity_name(severity));
    EXPECT_FALSE(fields_of(out).is_fatal());
  }
}

TEST(ErrorMessage, ZeroBytesCannotSmuggleFields) {
  std::string out;
  append_error(out, {sqlstate::syntax_error, "near \"\0Hevil\""s, "", "", 0});
  EXPECT_EQ(fields_of(out).find('H'), std::nullopt);
  EXPECT_EQ(fields_of(out).find('M'), "near \"?Hevil\"");
}

TEST(ErrorMessage, WhatIsMissingOrOddHasADefault) {
  ErrorFields fields;
  ASSERT_TRUE(parse_error_fields("\0"sv, fields));
  EXPECT_EQ(fields.to_error(), (Error{sqlstate::internal_error, "unknown error", "", "", 0}));
  ASSERT_TRUE(parse_error_fields("C12\0P99999999999999\0SFATAL\0\0"sv, fields));
  EXPECT_EQ(fields.to_error().code, sqlstate::internal_error);
  EXPECT_EQ(fields.to_error().position, 0);
  EXPECT_TRUE(fields.is_fatal());  // a server before 9.6 sends no V
  ASSERT_TRUE(parse_error_fields("P-3\0\0"sv, fields));
  EXPECT_EQ(fields.to_error().position, 0);
}

TEST(ErrorMessage, MalformedListsAreRefused) {
  ErrorFields fields;
  for (const std::string_view body : {""sv, "M"sv, "Mtext"sv, "Mtext\0"sv, "Mtext\0\0x"sv, "\0\0"sv}) {
    EXPECT_FALSE(parse_error_fields(body, fields)) << body;
  }
}

}  // namespace
}  // namespace tessera::postgres
