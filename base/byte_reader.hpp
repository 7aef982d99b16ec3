// The one class that reads numbers, strings and lengths which came from the wire. Every read is checked against what is
// left, in the form `n > left` that cannot overflow; the first failed read makes the reader bad for good, and every
// later read returns an empty value. So a parser reads a whole message and asks `ok()` once, at the end.
// Borrows the bytes: views that it returns live as long as they do. Integers are big-endian (PostgreSQL).
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace tessera {

class ByteReader {
public:
  explicit ByteReader(std::string_view bytes) : at_(bytes.data()), left_(bytes.size()) {}

  bool ok() const { return ok_; }
  // True when nothing failed and nothing is left over.
  bool finished() const { return ok_ && left_ == 0; }
  std::size_t left() const { return left_; }

  std::uint8_t u8() { return static_cast<std::uint8_t>(number<1>()); }
  std::uint16_t u16() { return static_cast<std::uint16_t>(number<2>()); }
  std::uint32_t u32() { return static_cast<std::uint32_t>(number<4>()); }
  std::uint64_t u64() { return number<8>(); }
  std::int16_t i16() { return static_cast<std::int16_t>(u16()); }
  std::int32_t i32() { return static_cast<std::int32_t>(u32()); }

  std::string_view bytes(std::size_t n) {
    if (!take(n)) return {};
    return {at_ - n, n};
  }
  // Up to and without the next zero byte; bad if there is none.
  std::string_view c_string() {
    const void* zero = ok_ && left_ > 0 ? std::memchr(at_, 0, left_) : nullptr;
    if (zero == nullptr) {
      take(left_ + 1);
      return {};
    }
    const auto length = static_cast<std::size_t>(static_cast<const char*>(zero) - at_);
    take(length + 1);
    return {at_ - length - 1, length};
  }
  std::string_view rest() { return bytes(left_); }
  void fail() { take(left_ + 1); }

private:
  bool take(std::size_t n) {
    if (!ok_ || n > left_) {
      ok_ = false;
      left_ = 0;
      return false;
    }
    at_ += n;
    left_ -= n;
    return true;
  }
  template <std::size_t Width>
  std::uint64_t number() {
    if (!take(Width)) return 0;
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < Width; ++i) value = value << 8 | static_cast<unsigned char>((at_ - Width)[i]);
    return value;
  }

  const char* at_;
  std::size_t left_;
  bool ok_ = true;
};

}  // namespace tessera
