// Text that must not reach a log, an error or an admin answer. There is no implicit way back to a string and nothing
// that prints it: a reader of the code finds every use by searching for `reveal`.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace tessera {

class Secret {
public:
  Secret() = default;
  explicit Secret(std::string text) : text_(std::move(text)) {}
  std::string_view reveal() const { return text_; }
  bool empty() const { return text_.empty(); }
  friend bool operator==(const Secret&, const Secret&) = default;

private:
  std::string text_;
};

}  // namespace tessera
