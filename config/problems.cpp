#include "config/problems.hpp"

#include <algorithm>
#include <fmt/core.h>
#include <tuple>
#include <utility>

namespace tessera::config {

std::string to_string(const Problem& problem) {
  std::string text = problem.where.file;
  if (problem.where.line > 0) text += fmt::format(":{}:{}", problem.where.line, problem.where.column);
  text += problem.severity == Severity::error ? ": error: " : ": warning: ";
  text += problem.message;
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

void Problems::add_warning(Mark where, std::string message, std::string hint) {
  // What an alias repeats is said once.
  const bool said = std::any_of(warnings_.begin(), warnings_.end(),
                                [&](const Found& one) { return one.where == where && one.message == message; });
  if (said || warnings_.size() == most) return;
  warnings_.push_back({where, warnings_.size(), std::move(message), std::move(hint)});
}

Mark Problems::mark(const SourcePosition& position) const {
  const auto file = std::find(files_.begin(), files_.end(), position.file);
  return {static_cast<int>(file - files_.begin()), position.line, position.column};
}

std::string Problems::already_at(Mark first) const {
  return fmt::format("it stands already at {}:{}:{}", file_name(first.file), first.line, first.column);
}

std::vector<Problem> Problems::in_order(std::vector<Found> found, Severity severity) const {
  const auto place = [](const Found& one) {
    return std::tuple(one.where.file, one.where.line, one.where.column, one.order);
  };
  std::sort(found.begin(), found.end(), [&](const Found& a, const Found& b) { return place(a) < place(b); });
  std::vector<Problem> problems;
  for (Found& one : found)
    problems.push_back({position(one.where), std::move(one.message), std::move(one.hint), severity});
  return problems;
}

std::vector<Problem> Problems::take_warnings() {
  return in_order(std::exchange(warnings_, {}), Severity::warning);
}

std::vector<Problem> Problems::take() {
  std::vector<Problem> problems = in_order(std::exchange(found_, {}), Severity::error);
  if (dropped_ > 0) {
    problems.push_back({{files_.front(), 0, 0}, fmt::format("{} more problems are not shown", dropped_), {}});
  }
  dropped_ = 0;
  return problems;
}

}  // namespace tessera::config
