#include "router/topology.hpp"

#include <algorithm>
#include <fmt/core.h>
#include <map>
#include <unordered_map>

#include "router/key_class.hpp"
#include "router/rules.hpp"

namespace tessera::router {

struct Topology::Contents {
  std::uint64_t version = 0;
  std::shared_ptr<const config::Database> configured;  // may be null
  std::vector<std::string> shards;
  std::optional<ShardId> default_shard;
  std::vector<TableRouting> tables;
  std::unordered_map<std::string, std::size_t> tables_by_name;  // "schema.name"
  std::vector<RulePointer> rules;
  std::vector<std::string> rule_names;
};

namespace {

constexpr RuleId no_rule{~0u};

using BoundRules = std::map<std::pair<std::string, std::vector<KeyType>>, RuleId>;

// What the key columns of a table are. Empty: not known.
Result<std::vector<KeyType>> key_types(const config::Table& table, const Catalog& catalog) {
  const Relation* relation = catalog.find(table.schema, table.name);
  const Catalog configured = Catalog::from_config(config::Database{.tables = {table}});
  const Relation& stated = *configured.find(table.schema, table.name);
  std::vector<KeyType> types;
  for (const std::string& name : table.key) {
    const Column* column = relation != nullptr ? relation->find_column(name) : stated.find_column(name);
    if (column == nullptr) {
      return config_error(table.position, fmt::format("table \"{}\" has no column \"{}\"", table.name, name));
    }
    if (column->type_name.empty() && column->key_type == KeyType::unsupported) return std::vector<KeyType>{};
    if (column->key_type == KeyType::unsupported) {
      return config_error(table.position,
                          fmt::format("column \"{}\" of table \"{}\" is of type {}, which cannot be a sharding key",
                                      name, table.name, column->type_name));
    }
    const KeyType said = stated.find_column(name)->key_type;
    if (!table.key_type.empty() && class_of(said) != class_of(column->key_type)) {
      return config_error(table.position,
                          fmt::format("column \"{}\" of table \"{}\" is of type {}, not {} as configured", name,
                                      table.name, column->type_name, table.key_type));
    }
    if (!column->deterministic) {
      return config_error(
          table.position,
          fmt::format("column \"{}\" of table \"{}\" has a collation under which different texts are equal; they "
                      "could belong to different shards",
                      name, table.name),
          "give the column a deterministic collation");
    }
    types.push_back(column->key_type);
  }
  return types;
}

Result<void> check_order(const config::Table& table, const Catalog& catalog, const Rule& rule) {
  if (!rule.ordered()) return {};
  const Relation* relation = catalog.find(table.schema, table.name);
  const Column* column = relation == nullptr ? nullptr : relation->find_column(table.key.front());
  if (column == nullptr || column->deterministic_c_order) return {};
  return config_error(
      table.position,
      fmt::format("column \"{}\" of table \"{}\" is not ordered bytewise, as the ranges of rule \"{}\" are",
                  table.key.front(), table.name, table.rule),
      "give the column the collation \"C\"");
}

Result<RulePointer> bind_rule(const config::Database& database, const config::Table& table,
                              std::span<const KeyType> classes) {
  const auto rule = std::ranges::find(database.rules, table.rule, &config::Rule::name);
  if (rule == database.rules.end()) {
    return config_error(table.position, fmt::format("table \"{}\" names the rule \"{}\", which does not exist",
                                                    table.name, table.rule));
  }
  const bool composite = std::holds_alternative<config::CompositeRule>(rule->kind);
  if (!composite && classes.size() != 1) {
    return config_error(table.position, fmt::format("rule \"{}\" takes a key of one column, table \"{}\" has {}",
                                                    table.rule, table.name, classes.size()));
  }
  return build_rule(*rule, RuleContext{database, classes, 0, nullptr});
}

Error for_table(Error error, const config::Table& table) {
  error.message += fmt::format(" (table \"{}\" at {})", table.name, place_text(table.position));
  return error;
}

// Of `id: snowflake`: the column, and the shard numbers that its values may carry. With a rule that reads them the id
// leads to its shard; otherwise they say nothing.
Result<void> read_ids(const config::Database& database, const config::Table& table, const Catalog& catalog,
                      TableRouting& routing) {
  routing.id_column = table.id_column.empty() ? table.key.front() : table.id_column;
  routing.id_slots = {0};
  if (database.default_shard.empty())
    return config_error(table.position,
                        fmt::format("table \"{}\" has \"id\", and the database no default_shard, where "
                                    "it is kept which ids have been given",
                                    table.name),
                        "set default_shard");
  const Relation* relation = catalog.find(table.schema, table.name);
  const Column* column = relation == nullptr ? nullptr : relation->find_column(routing.id_column);
  if (relation != nullptr && relation->complete && column == nullptr)
    return config_error(table.position,
                        fmt::format("table \"{}\" has no column \"{}\" for ids", table.name, routing.id_column));
  if (column != nullptr && column->key_type != KeyType::unsupported && column->key_type != KeyType::int8)
    return config_error(table.position, fmt::format("ids are of the type bigint, column \"{}\" of table \"{}\" is {}",
                                                    routing.id_column, table.name, column->type_name));
  const auto rule = std::ranges::find(database.rules, table.rule, &config::Rule::name);
  if (rule == database.rules.end() || table.key != std::vector{routing.id_column}) return {};
  const auto* embedded = std::get_if<config::EmbeddedRule>(&rule->kind);
  if (embedded == nullptr) return {};
  if (embedded->shard_shift != 10 || embedded->shard_bits != 13)
    return config_error(table.position,
                        fmt::format("ids have their shard in the bits 10 to 22, rule \"{}\" of table "
                                    "\"{}\" looks elsewhere",
                                    table.rule, table.name),
                        "leave out shard_shift and shard_bits");
  const std::size_t count = embedded->shards.empty() ? database.shards.size() : embedded->shards.size();
  routing.id_slots.resize(count);
  for (std::uint32_t slot = 0; slot < count; ++slot) routing.id_slots[slot] = slot;
  return {};
}

}  // namespace

// One pass over the configuration.
class Topology::Builder {
public:
  Builder(const config::Database& database, const Catalog& catalog) : database_(database), catalog_(catalog) {}

  Result<void> shards() {
    for (const config::Shard& shard : database_.shards) contents->shards.push_back(shard.name);
    if (database_.default_shard.empty()) return {};
    const auto found = context_.shard(database_.default_shard);
    if (!found) return std::unexpected(found.error());
    contents->default_shard = *found;
    return {};
  }

  Result<void> table(const config::Table& table) {
    TableRouting routing{.schema = table.schema, .name = table.name};
    if (table.reference) {
      routing.kind = TableRouting::Kind::reference;
    } else if (table.rule.empty()) {
      const auto shard = context_.shard(table.shard);
      if (!shard) return std::unexpected(for_table(shard.error(), table));
      routing.shard = *shard;
    } else {
      routing.kind = TableRouting::Kind::sharded;
      routing.key_columns = table.key;
      routing.rule_name = table.rule;
      auto types = key_types(table, catalog_);
      if (!types) return std::unexpected(types.error());
      routing.key_types = std::move(*types);
      routing.rule = no_rule;
      if (!table.id.empty()) {
        if (auto ids = read_ids(database_, table, catalog_, routing); !ids) return std::unexpected(ids.error());
      }
    }
    if (!routing.key_types.empty()) {
      std::vector<KeyType> classes;
      for (const KeyType type : routing.key_types) classes.push_back(class_of(type));
      const auto next = RuleId(static_cast<std::uint32_t>(contents->rules.size()));
      const auto known = bound_.find({table.rule, classes});
      routing.rule = known == bound_.end() ? next : known->second;
      if (known == bound_.end()) {
        auto rule = bind_rule(database_, table, classes);
        if (!rule) return std::unexpected(for_table(rule.error(), table));
        bound_.emplace(std::pair(table.rule, classes), next);
        contents->rules.push_back(std::move(*rule));
        contents->rule_names.push_back(table.rule);
      }
      if (const auto checked = check_order(table, catalog_, *contents->rules[routing.rule.value()]); !checked) {
        return std::unexpected(checked.error());
      }
    }
    contents->tables_by_name[routing.schema + '.' + routing.name] = contents->tables.size();
    contents->tables.push_back(std::move(routing));
    return {};
  }

  std::shared_ptr<Contents> contents = std::make_shared<Contents>();

private:
  const config::Database& database_;
  const Catalog& catalog_;
  const RuleContext context_{database_, {}, 0, nullptr};
  BoundRules bound_;
};

Result<std::shared_ptr<const Topology>> Topology::build(const config::Database& database, const Catalog& catalog,
                                                        std::uint64_t version) {
  Builder builder(database, catalog);
  if (auto done = builder.shards(); !done) return std::unexpected(std::move(done.error()));
  for (const config::Table& table : database.tables)
    if (auto done = builder.table(table); !done) return std::unexpected(std::move(done.error()));
  builder.contents->version = version;
  return std::shared_ptr<const Topology>(new Topology(std::move(builder.contents)));
}

Result<std::shared_ptr<const Topology>> Topology::build(const std::shared_ptr<const config::Database>& database,
                                                        const Catalog& catalog, std::uint64_t version) {
  auto built = build(*database, catalog, version);
  if (!built) return built;
  auto contents = std::make_shared<Contents>(*(*built)->contents_);
  contents->configured = database;
  return std::shared_ptr<const Topology>(new Topology(std::move(contents)));
}

std::vector<Error> Topology::problems(const config::Database& database, const Catalog& catalog) {
  Builder builder(database, catalog);
  std::vector<Error> problems;
  const auto note = [&problems](Result<void> done) {
    if (!done) problems.push_back(std::move(done.error()));
  };
  note(builder.shards());
  for (const config::Table& table : database.tables) note(builder.table(table));
  return problems;
}

std::optional<Error> Topology::misfit(const Relation& relation) const {
  if (contents_->configured == nullptr) return std::nullopt;
  const config::Database& configured = *contents_->configured;
  const auto listed = std::ranges::find_if(configured.tables, [&relation](const config::Table& table) {
    return table.schema == relation.schema && table.name == relation.name;
  });
  if (listed == configured.tables.end()) return std::nullopt;
  Catalog alone;
  alone.loaded = true;
  alone.relations.push_back(relation);
  alone.index();
  Builder builder(configured, alone);
  if (auto shards = builder.shards(); !shards) return shards.error();
  auto fits = builder.table(*listed);
  return fits ? std::nullopt : std::optional(std::move(fits.error()));
}

Topology::Topology(std::shared_ptr<const Contents> contents) : contents_(std::move(contents)) {}

std::uint64_t Topology::version() const {
  return contents_->version;
}

std::size_t Topology::shard_count() const {
  return contents_->shards.size();
}

std::string_view Topology::shard_name(ShardId shard) const {
  return contents_->shards.at(shard.value());
}

std::optional<ShardId> Topology::find_shard(std::string_view name) const {
  const auto found = std::ranges::find(contents_->shards, name);
  if (found == contents_->shards.end()) return std::nullopt;
  return ShardId(static_cast<std::uint32_t>(found - contents_->shards.begin()));
}

std::optional<ShardId> Topology::default_shard() const {
  return contents_->default_shard;
}

const TableRouting* Topology::find_table(std::string_view schema, std::string_view name) const {
  std::string full;
  full.reserve(schema.size() + name.size() + 1);
  full.append(schema).append(1, '.').append(name);
  const auto found = contents_->tables_by_name.find(full);
  return found == contents_->tables_by_name.end() ? nullptr : &contents_->tables[found->second];
}

const std::vector<TableRouting>& Topology::tables() const {
  return contents_->tables;
}

const Rule& Topology::rule(RuleId id) const {
  return *contents_->rules.at(id.value());
}

std::string_view Topology::rule_name(RuleId id) const {
  return contents_->rule_names.at(id.value());
}

}  // namespace tessera::router
