// Directory rule: single keys with a shard each, and a shard or a rule for all others. Position: 0 for an entry, 1 for
// the others.
#include <algorithm>
#include <fmt/core.h>
#include <unordered_map>

#include "router/key_class.hpp"
#include "router/rules.hpp"

namespace tessera::router {
namespace {

struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

struct Entries {
  KeyType type = KeyType::unsupported;                 // the class of the key's type
  std::unordered_map<std::int64_t, ShardId> integers;  // one of the two, by the type
  std::unordered_map<std::string, ShardId, TextHash, std::equal_to<>> texts;

  const ShardId* find(const KeyValue& key) const {
    if (holds_bytes(type)) {
      const auto found = texts.find(key.bytes);
      return found == texts.end() ? nullptr : &found->second;
    }
    const auto found = integers.find(key.integer);
    return found == integers.end() ? nullptr : &found->second;
  }
  // False: the key is there already.
  bool add(const KeyValue& key, ShardId shard) {
    if (holds_bytes(type)) return texts.emplace(key.bytes, shard).second;
    return integers.emplace(key.integer, shard).second;
  }
  // The keys of one shard, or all of them; they borrow.
  std::vector<KeyValue> keys(const ShardId* shard) const {
    std::vector<KeyValue> found;
    for (const auto& [key, owner] : integers) {
      if (shard == nullptr || owner == *shard) found.push_back({type, key, {}});
    }
    for (const auto& [key, owner] : texts) {
      if (shard == nullptr || owner == *shard) found.push_back({type, 0, key});
    }
    std::ranges::sort(found, [](const KeyValue& a, const KeyValue& b) { return compare(a, b) < 0; });
    return found;
  }
};

class DirectoryRule final : public Rule {
public:
  DirectoryRule(std::string name, std::size_t column, Entries entries, RulePointer otherwise,
                std::vector<ShardId> shards, std::string described)
      : name_(std::move(name)),
        column_(column),
        entries_(std::move(entries)),
        otherwise_(std::move(otherwise)),
        shards_(std::move(shards)),
        described_(std::move(described)) {}

  Result<Location> locate(std::span<const KeyValue> key) const override {
    if (const ShardId* shard = entries_.find(key[column_])) return Location{*shard, 0};
    if (otherwise_ == nullptr) return no_place(name_, key[column_]);
    const auto location = otherwise_->locate(key);
    if (!location) return location;
    return Location{location->shard, 1};
  }
  const std::vector<ShardId>& shards() const override { return shards_; }
  std::string describe() const override { return described_; }

  std::string predicate(ShardId shard, std::span<const KeyColumn> columns) const override {
    const std::string column = comparable(columns[column_]);
    const auto listed = [&](const std::vector<KeyValue>& keys) {
      return fmt::format("{} = ANY ({})", column, constant_array(keys, entries_.type));
    };
    std::vector<std::string> terms;
    if (const auto keys = entries_.keys(&shard); !keys.empty()) terms.push_back('(' + listed(keys) + ')');
    const std::string rest = otherwise_ == nullptr ? "false" : otherwise_->predicate(shard, columns);
    if (rest != "false") terms.push_back(fmt::format("(NOT ({}) AND {})", listed(entries_.keys(nullptr)), rest));
    return any_of(terms);
  }

private:
  std::string name_;
  std::size_t column_;
  Entries entries_;
  RulePointer otherwise_;  // may be null
  std::vector<ShardId> shards_;
  std::string described_;
};

}  // namespace

Result<RulePointer> build_directory_rule(const config::Rule& rule, const config::DirectoryRule& kind,
                                         const RuleContext& context) {
  Entries entries;
  entries.type = class_of(context.type());
  std::vector<ShardId> shards;
  std::string scratch;
  for (const auto& [text, name] : kind.entries) {
    const auto shard = context.shard(name);
    if (!shard) return std::unexpected(shard.error());
    // Read as the column's own type, so that char(n) loses its blanks and an integer that does not fit is noticed.
    const auto key = from_text(text, context.type(), scratch);
    if (!key) {
      return config_error(rule.position, fmt::format("the entry \"{}\" of rule \"{}\" is no {}", text, rule.name,
                                                     name_of(context.type())));
    }
    if (!entries.add(*key, *shard)) {
      return config_error(rule.position,
                          fmt::format("the entry \"{}\" of rule \"{}\" is there twice: another one means the same "
                                      "{}",
                                      text, rule.name, name_of(context.type())));
    }
    if (shards.empty() || shards.back() != *shard) shards.push_back(*shard);
  }
  RulePointer otherwise;
  if (kind.otherwise) {
    auto built = build_destination(*kind.otherwise, rule, context);
    if (!built) return built;
    otherwise = std::move(*built);
    shards.insert(shards.end(), otherwise->shards().begin(), otherwise->shards().end());
  }
  shards = sorted_unique(std::move(shards));
  if (shards.empty()) return config_error(rule.position, fmt::format("rule \"{}\" leads to no shard", rule.name));
  std::string described =
      fmt::format("directory, {} {}", kind.entries.size(), kind.entries.size() == 1 ? "entry" : "entries");
  if (otherwise != nullptr) described += fmt::format(", otherwise {}", otherwise->describe());
  return std::make_shared<DirectoryRule>(rule.name, context.column, std::move(entries), std::move(otherwise),
                                         std::move(shards), std::move(described));
}

}  // namespace tessera::router
