#include "config/secrets.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fmt/core.h>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

namespace tessera::config {
namespace {

using Text = std::expected<std::string, std::string>;

Text read_regular_file(const std::string& path, std::size_t limit) {
  std::error_code failure;
  const auto status = std::filesystem::status(path, failure);
  if (failure) return std::unexpected(failure.message());
  // A pipe or a device could block for ever, or never end.
  if (!std::filesystem::is_regular_file(status)) return std::unexpected("not a regular file");
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return std::unexpected(std::strerror(errno));
  std::string text;
  char block[65536];
  while (stream.read(block, sizeof block) || stream.gcount() > 0) {
    text.append(block, static_cast<std::size_t>(stream.gcount()));
    if (text.size() > limit) return std::unexpected(fmt::format("larger than {} bytes", limit));
  }
  if (stream.bad()) return std::unexpected("it cannot be read to its end");
  return text;
}

// The value of one reference, "env:NAME" or "file:/path"; or the message of the problem.
Text look_up(std::string_view reference, const Environment& env, const std::string& said_in) {
  if (reference.starts_with("env:")) {
    const std::string name(reference.substr(4));
    if (auto value = env.variable(name)) return *std::move(value);
    return std::unexpected(fmt::format("environment variable \"{}\" is not set", name));
  }
  if (reference.starts_with("file:")) {
    const std::string path(reference.substr(5));
    Text text = env.read_file(resolve_path(path, said_in), max_secret_bytes);
    if (!text) return std::unexpected(fmt::format("file \"{}\" cannot be read: {}", path, text.error()));
    // Editors and `echo` end files with a newline that is no part of the secret.
    if (text->ends_with('\n')) text->pop_back();
    if (text->ends_with('\r')) text->pop_back();
    return text;
  }
  return std::unexpected(fmt::format("\"${{{}}}\" is not known", reference));
}

class Expansion {
public:
  Expansion(Node& node, const Environment& env, Problems& problems) : node_(node), env_(env), problems_(problems) {}

  void run() {
    std::string_view rest = node_.text;
    for (auto dollar = rest.find("${"); dollar != rest.npos; dollar = rest.find("${")) {
      if (dollar > 0 && rest[dollar - 1] == '$') {
        result_.append(rest.substr(0, dollar - 1)).append("${");
        rest.remove_prefix(dollar + 2);
        continue;
      }
      result_.append(rest.substr(0, dollar));
      rest.remove_prefix(dollar);
      const auto end = rest.find('}');
      if (end == rest.npos) {
        complain("\"${\" without \"}\"");
        return;
      }
      if (!reference(rest.substr(2, end - 2))) return;
      rest.remove_prefix(end + 1);
    }
    result_.append(rest);
    node_.raw = std::exchange(node_.text, std::move(result_));
  }

private:
  bool reference(std::string_view name) {
    Text value = look_up(name, env_, problems_.file_name(node_.mark.file));
    if (!value) {
      complain(std::move(value.error()));
      return false;
    }
    result_ += *value;
    return true;
  }
  void complain(std::string message) {
    problems_.add(node_.mark, std::move(message), "use ${env:NAME} or ${file:/path}; $${ stands for a literal ${");
    node_.raw = std::exchange(node_.text, std::string());
    node_.broken = true;
  }

  Node& node_;
  const Environment& env_;
  Problems& problems_;
  std::string result_;
};

}  // namespace

Environment real_environment() {
  return {
      .variable = [](const std::string& name) -> std::optional<std::string> {
        const char* value = std::getenv(name.c_str());
        if (value == nullptr) return std::nullopt;
        return value;
      },
      .read_file = read_regular_file,
  };
}

std::string resolve_path(const std::string& path, const std::string& said_in) {
  if (path.empty() || path.front() == '/') return path;
  const auto slash = said_in.rfind('/');
  return slash == said_in.npos ? path : said_in.substr(0, slash + 1) + path;
}

void expand_secrets(Node& node, const Environment& env, Problems& problems) {
  if (node.kind == Node::Kind::scalar) {
    if (node.text.find("${") != std::string::npos) Expansion(node, env, problems).run();
    if (node.text.find('\0') != std::string::npos) {
      problems.add(node.mark, "the value contains a zero byte");
      node.broken = true;
    }
  }
  for (Node& item : node.items) expand_secrets(item, env, problems);
}

}  // namespace tessera::config
