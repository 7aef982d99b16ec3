// Collects every mistake of one load. Marks name a file by number, so that a tree of many values does not carry its
// file name many times. Lives on the stack of one `load`.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "config/load.hpp"

namespace tessera::config {

// A place in one of the files of a load; line and column are 1-based, line 0 is the file as a whole.
struct Mark {
  int file = 0;
  int line = 0;
  int column = 0;
  friend bool operator==(const Mark&, const Mark&) = default;
};

class Problems {
public:
  // The number for marks in this file.
  int add_file(std::string name);
  void add(Mark where, std::string message, std::string hint = {});
  // Not a mistake; said once for a place, however many aliases lead there.
  void add_warning(Mark where, std::string message, std::string hint = {});

  bool empty() const { return found_.empty(); }
  // Further problems are only counted: no need to find good words for them.
  bool full() const { return found_.size() == most; }
  std::size_t count() const { return found_.size() + dropped_; }
  const std::string& file_name(int file) const { return files_.at(static_cast<std::size_t>(file)); }
  SourcePosition position(Mark mark) const { return {file_name(mark.file), mark.line, mark.column}; }
  Mark mark(const SourcePosition& position) const;
  // A hint for what may stand only once.
  std::string already_at(Mark first) const;
  // In the order of the files; above `most` a last one says how many are not shown.
  std::vector<Problem> take();
  std::vector<Problem> take_warnings();

private:
  static constexpr std::size_t most = 1000;
  struct Found {
    Mark where;
    std::size_t order;
    std::string message;
    std::string hint;
  };
  std::vector<Problem> in_order(std::vector<Found> found, Severity severity) const;
  std::vector<std::string> files_;
  std::vector<Found> found_;
  std::vector<Found> warnings_;
  std::size_t dropped_ = 0;
};

}  // namespace tessera::config
