// The rows that a server sends in binary format, as the data of a binary COPY into another server: the same bytes but
// for the messages' type, since a DataRow is laid out as a tuple of COPY. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tessera::executor {

class CopyRows {
public:
  // `rows`: DataRow messages, cut anywhere. Returns how many begin in it.
  std::size_t append(std::string_view rows, std::string& out);
  // Begin and end of the data, each a message of its own.
  static void append_header(std::string& out);
  static void append_trailer(std::string& out);

private:
  std::string header_;    // of a message, if it was cut
  std::size_t left_ = 0;  // bytes of a message that are still to come
};

}  // namespace tessera::executor
