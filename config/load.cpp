#include "config/load.hpp"

#include <algorithm>
#include <filesystem>
#include <fmt/core.h>
#include <utility>

#include "config/secrets.hpp"
#include "config/sections.hpp"
#include "config/yaml.hpp"

namespace tessera::config {
namespace {

Config read_root(Section section) {
  Config config;
  section.section("listen", [&](Section one) { read_listen(std::move(one), config.listen); });
  section.section("admin", [&](Section one) { read_admin(std::move(one), config.admin); });
  section.read("workers", config.workers);
  section.read("io_uring", config.io_uring);
  section.section("store", [&](Section one) { read_store(std::move(one), config.store); });
  section.section("log", [&](Section one) { read_log(std::move(one), config.log); });
  section.read("drain_timeout", config.drain_timeout);
  section.read("pid_file", config.pid_file);
  section.each_named_section("databases",
                             [&](Section one) { config.databases.push_back(read_database(std::move(one))); });
  const Node* databases = section.find("databases");
  if (databases != nullptr && databases->kind == Node::Kind::mapping && databases->items.empty()) {
    section.problem("databases", "there are no databases", "name: {shards: {s0: {primary: host:port}}}");
  }
  section.finish();
  if (config.admin.listen && config.admin.listen == config.listen.postgres && config.admin.listen->port != 0)
    section.context().problem(section.find("admin")->find("listen")->mark,
                              "the admin endpoint and PostgreSQL clients cannot listen on the same address",
                              "give admin.listen another port");
  if (const Node* admin = section.find("admin")) check_console_users(section.context(), *admin, config);
  return config;
}

// Reports what cannot be read, and gives what can.
class Loader {
public:
  explicit Loader(const Environment& env) : env_(env) {}

  void add_text(const std::string& name, std::string_view text) {
    const int file = problems_.add_file(name);
    Node tree = parse_yaml(text, file, problems_);
    if (tree.kind == Node::Kind::scalar || tree.kind == Node::Kind::sequence) {
      problems_.add(tree.mark, fmt::format("a configuration is a mapping, not {}", kind_name(tree.kind)));
      return;
    }
    if (tree.mark.line == 0) tree.mark = {file, 1, 1};
    if (root_.mark.line == 0) root_.mark = tree.mark;
    merge_yaml(root_, std::move(tree), problems_);
  }
  void add_file(const std::string& path) {
    const auto text = env_.read_file(path, max_yaml_bytes);
    if (text) {
      add_text(path, *text);
    } else {
      fail(path, "the file cannot be read: " + text.error());
    }
  }
  void fail(const std::string& path, std::string message) {
    problems_.add({problems_.add_file(path), 0, 0}, std::move(message));
  }

  Loaded finish(const std::string& source) {
    // What follows would only repeat that the file could not be understood.
    if (root_.kind == Node::Kind::null && !problems_.empty()) return {std::nullopt, problems_.take(), {}};
    expand_secrets(root_, env_, problems_);
    const Context context{problems_, env_};
    Config config = read_root(Section(root_, root_section, context));
    std::vector<Problem> warnings = problems_.take_warnings();
    if (!problems_.empty()) return {std::nullopt, problems_.take(), std::move(warnings)};
    config.source = source;
    return {std::move(config), {}, std::move(warnings)};
  }

private:
  const Environment& env_;
  Problems problems_;
  Node root_;
};

std::vector<std::string> yaml_files(const std::string& folder, std::error_code& failure) {
  std::vector<std::string> paths;
  for (std::filesystem::directory_iterator it(folder, failure), end; !failure && it != end; it.increment(failure)) {
    if (it->path().extension() == ".yaml" && !it->path().filename().string().starts_with('.')) {
      paths.push_back(it->path().string());
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

Loaded load(const std::string& path, const Environment& env) {
  Loader loader(env);
  std::error_code failure;
  if (!std::filesystem::is_directory(path, failure)) {
    loader.add_file(path);
    return loader.finish(path);
  }
  const auto files = yaml_files(path, failure);
  if (failure) loader.fail(path, "the folder cannot be read: " + failure.message());
  if (!failure && files.empty()) loader.fail(path, "there is no *.yaml file in the folder");
  for (const std::string& file : files) loader.add_file(file);
  return loader.finish(path);
}

Loaded load_text(const std::string& name, std::string_view text, const Environment& env) {
  Loader loader(env);
  loader.add_text(name, text);
  return loader.finish(name);
}

}  // namespace tessera::config
