// Small pieces that the extended protocol's handlers share. Private to session_extended.cpp and session_portals.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "wire/postgres/frame.hpp"

namespace tessera::proxy {

inline std::string_view body_of(std::string_view whole) {
  return whole.substr(postgres::frame_header_size);
}

// A message without a body.
template <void (*Append)(std::string&)>
std::string made() {
  std::string message;
  Append(message);
  return message;
}

// A Bind, Describe or Close as it came, with another statement name. `name_at` is the name's offset in the body.
inline void append_renamed(std::string& out, std::string_view whole, std::size_t name_at, std::string_view old_name,
                           std::string_view new_name) {
  const std::string_view body = body_of(whole);
  const auto length = static_cast<std::uint32_t>(body.size() + 4 + new_name.size() - old_name.size());
  out += whole[0];
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(length >> shift);
  out += body.substr(0, name_at);
  out += new_name;
  out += body.substr(name_at + old_name.size());
}

}  // namespace tessera::proxy
