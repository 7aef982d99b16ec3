#include "wire/postgres/frame.hpp"

#include <gtest/gtest.h>
#include <string>

namespace tessera::postgres {
namespace {

std::string header_with(std::uint32_t length) {
  std::string bytes = "Q";
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(length >> shift);
  return bytes;
}

TEST(Frame, NeedsFiveBytes) {
  FrameHeader header;
  const std::string bytes = header_with(4);
  for (std::size_t size = 0; size < 5; ++size) {
    EXPECT_EQ(peek_frame(std::string(bytes, 0, size), max_message_length, header), FrameStatus::need_more);
  }
  EXPECT_EQ(peek_frame(bytes, max_message_length, header), FrameStatus::complete);
  EXPECT_EQ(header.type, 'Q');
  EXPECT_EQ(header.body_size(), 0u);
  EXPECT_EQ(header.total_size(), 5u);
}

TEST(Frame, LengthsBelowFourAndAboveTheCapAreMalformed) {
  FrameHeader header;
  for (const std::uint32_t length :
       {0u, 1u, 3u, 0x4000'0000u, 0x7fff'ffffu, 0x8000'0000u, 0x8000'0001u, 0xffff'ffffu}) {
    EXPECT_EQ(peek_frame(header_with(length), max_message_length, header), FrameStatus::malformed) << length;
  }
  EXPECT_EQ(peek_frame(header_with(4), max_message_length, header), FrameStatus::complete);
  EXPECT_EQ(peek_frame(header_with(0x3fff'ffff), max_message_length, header), FrameStatus::header_only);
  EXPECT_EQ(peek_frame(header_with(101), 100, header), FrameStatus::malformed);
  EXPECT_EQ(peek_frame(header_with(100), 100, header), FrameStatus::header_only);
  EXPECT_EQ(peek_frame(header_with(0xffff'ffff), UINT64_MAX, header), FrameStatus::header_only);
}

TEST(Frame, CompleteOnlyWithTheWholeBody) {
  FrameHeader header;
  const std::string bytes = header_with(10) + "abcdef" + "next";
  for (std::size_t size = 5; size < 11; ++size) {
    EXPECT_EQ(peek_frame(std::string(bytes, 0, size), max_message_length, header), FrameStatus::header_only) << size;
  }
  for (std::size_t size = 11; size <= bytes.size(); ++size) {
    EXPECT_EQ(peek_frame(std::string(bytes, 0, size), max_message_length, header), FrameStatus::complete) << size;
  }
  EXPECT_EQ(frame_body(bytes, header), "abcdef");
}

}  // namespace
}  // namespace tessera::postgres
