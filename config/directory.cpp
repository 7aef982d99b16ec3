// Directory rules: entries in the YAML itself and, for directories of any size, in a file of lines.
#include <algorithm>
#include <fmt/core.h>

#include "config/secrets.hpp"
#include "config/sections.hpp"

namespace tessera::config {
namespace {

constexpr std::size_t max_entries_bytes = 1u << 30;

struct Entry {
  std::string key;
  std::string shard;
};

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// key,shard: the shard stands after the last comma; a key in double quotes may hold anything but a line break, a quote
// in it being doubled.
std::optional<Entry> parse_line(std::string_view line) {
  const auto comma = line.rfind(',');
  if (comma == line.npos) return std::nullopt;
  Entry entry{{}, std::string(trimmed(line.substr(comma + 1)))};
  std::string_view key = trimmed(line.substr(0, comma));
  if (entry.shard.empty() || key.empty()) return std::nullopt;
  if (!key.starts_with('"')) {
    entry.key = key;
    return entry;
  }
  if (key.size() < 2 || !key.ends_with('"')) return std::nullopt;
  key = key.substr(1, key.size() - 2);
  for (std::size_t i = 0; i < key.size(); ++i) {
    if (key[i] == '"' && (++i == key.size() || key[i] != '"')) return std::nullopt;
    entry.key += key[i];
  }
  return entry;
}

class EntriesFile {
public:
  EntriesFile(const Context& context, const Names& names, DirectoryRule& rule, int file)
      : context_(context), names_(names), rule_(rule), file_(file) {}

  void read(std::string_view text) {
    if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
    for (int number = 1; !text.empty(); ++number) {
      const auto end = std::min(text.find('\n'), text.size());
      std::string_view line = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (!trimmed(line).empty()) take(line, {file_, number, 1});
    }
  }

private:
  void take(std::string_view line, Mark where) {
    auto entry = parse_line(line);
    if (!entry) {
      context_.problem(where, "not an entry of a directory", "key,shard; a key with quotes in it as \"a \"\"key\"\"\"");
      return;
    }
    // A node lends the line the words and suggestions of any other mention of a shard.
    Node shard;
    shard.kind = Node::Kind::scalar;
    shard.mark = where;
    shard.text = std::move(entry->shard);
    auto name = names_.shard(shard);
    if (!name) return;
    if (!rule_.entries.emplace(entry->key, *std::move(name)).second) {
      context_.problem(where, fmt::format("directory entry \"{}\" stands twice", entry->key),
                       "a key lives on one shard");
    }
  }

  const Context& context_;
  const Names& names_;
  DirectoryRule& rule_;
  int file_;
};

void read_entries_file(Section& section, const Names& names, DirectoryRule& rule) {
  std::string path;
  section.read("entries_file", path);
  if (path.empty()) return;
  const Node& node = *section.find("entries_file");
  const auto text = section.context().env.read_file(path, max_entries_bytes);
  if (!text) {
    section.problem("entries_file", fmt::format("\"{}\" cannot be read: {}", node.shown(), text.error()));
    return;
  }
  Problems& problems = section.context().problems;
  const int file = problems.add_file(node.expanded() ? node.shown() : path);
  EntriesFile(section.context(), names, rule, file).read(*text);
}

}  // namespace

DirectoryRule read_directory_rule(Section& section, const Names& names) {
  DirectoryRule rule;
  section.each_named_text("entries", [&](const Node& item) {
    if (auto shard = names.shard(item)) rule.entries.emplace(item.key, *std::move(shard));
  });
  read_entries_file(section, names, rule);
  if (section.node().find("entries") == nullptr && section.node().find("entries_file") == nullptr) {
    section.context().problem(section.mark(), "a directory rule without entries", "give entries, entries_file or both");
  }
  return rule;
}

}  // namespace tessera::config
