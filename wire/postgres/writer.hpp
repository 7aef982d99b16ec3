// Builds one message at the end of an output buffer. Every builder of this folder goes through it, so that one place
// guarantees: a length on the wire is the length of what was written, no field is cut short, and a message that would
// exceed `max_message_length`, a count that does not fit its field or a zero byte inside a string leaves the buffer as
// it was (a length that wraps around lets a user's data be read as messages: CVE-2024-27304).
// Borrows the buffer for its own life; nothing else may append meanwhile.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "wire/postgres/frame.hpp"

namespace tessera::postgres {

class MessageWriter {
public:
  // `type` 0 writes no type byte (start-up packets).
  MessageWriter(std::string& out, char type) : out_(out), start_(out.size()) {
    if (type != 0) out_.push_back(type);
    length_at_ = out_.size();
    out_.append(4, '\0');
  }
  MessageWriter(const MessageWriter&) = delete;
  MessageWriter& operator=(const MessageWriter&) = delete;
  // An unfinished message is taken back.
  ~MessageWriter() {
    if (!finished_) out_.resize(start_);
  }

  void u8(std::uint8_t value) { number(value, 1); }
  void u16(std::uint16_t value) { number(value, 2); }
  void i16(std::int16_t value) { number(static_cast<std::uint16_t>(value), 2); }
  void u32(std::uint32_t value) { number(value, 4); }
  void i32(std::int32_t value) { number(static_cast<std::uint32_t>(value), 4); }
  // A number of things that follow.
  void count16(std::size_t count) {
    ok_ = ok_ && count <= std::numeric_limits<std::uint16_t>::max();
    u16(static_cast<std::uint16_t>(count));
  }
  void bytes(std::string_view data) {
    if (fits(data.size())) out_.append(data);
  }
  void c_string(std::string_view text) {
    ok_ = ok_ && text.find('\0') == std::string_view::npos;
    bytes(text);
    u8(0);
  }
  // A 32-bit length and the bytes, as values in Bind and DataRow have.
  void sized(std::string_view data) {
    ok_ = ok_ && data.size() <= max_message_length;
    u32(static_cast<std::uint32_t>(data.size()));
    bytes(data);
  }
  void fail() { ok_ = false; }
  // The value that the length field will have.
  std::size_t size() const { return out_.size() - length_at_; }

  // Sets the length. False: the message cannot be built, and the buffer is as it was before.
  [[nodiscard]] bool finish() {
    if (!ok_) return false;
    const auto length = static_cast<std::uint32_t>(size());
    for (std::size_t i = 0; i < 4; ++i) out_[length_at_ + i] = static_cast<char>(length >> (24 - 8 * i));
    finished_ = true;
    return true;
  }

private:
  bool fits(std::size_t more) {
    ok_ = ok_ && more <= max_message_length - (size());
    return ok_;
  }
  void number(std::uint32_t value, unsigned width) {
    if (!fits(width)) return;
    for (unsigned i = width; i > 0; --i) out_.push_back(static_cast<char>(value >> (8 * (i - 1))));
  }

  std::string& out_;
  const std::size_t start_;
  std::size_t length_at_ = 0;
  bool ok_ = true;
  bool finished_ = false;
};

}  // namespace tessera::postgres
