// DataRows as COPY data, cut at every byte.
#include "executor/copy_rows.hpp"

#include <gtest/gtest.h>

#include "pool/reply_script.hpp"

namespace tessera::executor {
namespace {

using pool::script::raw;

TEST(CopyRows, AreTheRowsUnderAnotherName) {
  const std::string rows = raw('D', std::string("\0\1\0\0\0\1D", 7)) + raw('D', std::string("\0\0", 2)) +
                           raw('D', std::string("\0\2\377\377\377\377\0\0\0\0", 10));
  std::string expected = rows;
  expected[0] = expected[12] = expected[19] = 'd';
  for (std::size_t first = 0; first <= rows.size(); ++first) {
    for (std::size_t second = first; second <= rows.size(); ++second) {
      CopyRows copy;
      std::string out;
      copy.append(rows.substr(0, first), out);
      copy.append(rows.substr(first, second - first), out);
      copy.append(rows.substr(second), out);
      ASSERT_EQ(out, expected) << first << ' ' << second;
    }
  }
}

TEST(CopyRows, HaveABeginningAndAnEnd) {
  std::string out;
  CopyRows::append_header(out);
  EXPECT_EQ(out, raw('d', std::string("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19)));
  out.clear();
  CopyRows::append_trailer(out);
  EXPECT_EQ(out, raw('d', "\377\377"));
}

}  // namespace
}  // namespace tessera::executor
