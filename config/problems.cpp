#include "config/problems.hpp"

#include <algorithm>
#include <fmt/core.h>
#include <tuple>
#include <utility>

namespace tessera::config {

std::string to_string(const Problem& problem) {
  std::string text = problem.where.file;
  if (problem.where.line > 0) text += fmt::format(":{}:{}", problem.where.line, problem.where.column);
  text += ": error: " + problem.message;
  if (!problem.hint.empty()) text += "\n  hint: " + problem.hint;
  return text;
}

int Problems::add_file(std::string name) {
  files_.push_back(std::move(name));
  return static_cast<int>(files_.size()) - 1;
}

void Problems::add(Mark where, std::string message, std::string hint) {
  if (found_.size() == most) {
    ++dropped_;
    return;
  }
  found_.push_back({where, found_.size(), std::move(message), std::move(hint)});
}

std::string Problems::already_at(Mark first) const {
  return fmt::format("it stands already at {}:{}:{}", file_name(first.file), first.line, first.column);
}

std::vector<Problem> Problems::take() {
  const auto place = [](const Found& one) {
    return std::tuple(one.where.file, one.where.line, one.where.column, one.order);
  };
  std::sort(found_.begin(), found_.end(), [&](const Found& a, const Found& b) { return place(a) < place(b); });
  std::vector<Problem> problems;
  for (Found& one : found_) problems.push_back({position(one.where), std::move(one.message), std::move(one.hint)});
  if (dropped_ > 0) {
    problems.push_back({{files_.front(), 0, 0}, fmt::format("{} more problems are not shown", dropped_), {}});
  }
  found_.clear();
  dropped_ = 0;
  return problems;
}

}  // namespace tessera::config
