// Random queries over random small tables: what the plan's shards answer, put together, is what one database answers,
// or the query is refused. The answers are computed here, by nested loops with three-valued logic.
#include <algorithm>
#include <array>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <map>
#include <random>

#include "parser/postgres/parse.hpp"
#include "router/gather.hpp"
#include "router/golden.hpp"

namespace tessera::router {
namespace {

using Value = std::optional<int>;
using Row = std::vector<Value>;
using Table = std::vector<Row>;
using Truth = std::optional<bool>;

constexpr int values = 6;  // of every column: 0 … 5

// Table 0: users (id, a); 1: orders (user_id, a); 2: items (user_id, a); 3: colours (id, a), a reference table.
struct Data {
  std::array<Table, 4> tables;
  bool null_equals = false;  // transform_null_equals: x = NULL means IS NULL
};

struct Column {
  std::size_t table;  // of the join, by position: see aliases
  std::size_t column;
};

constexpr std::array<const char*, 4> aliases = {"u", "o", "i", "c"};
constexpr std::array<std::array<const char*, 2>, 4> names = {
    {{"id", "a"}, {"user_id", "a"}, {"user_id", "a"}, {"id", "a"}}};

std::string text(const Column& column) {
  return fmt::format("{}.{}", aliases[column.table], names[column.table][column.column]);
}

// One row per table of the join so far; null pointers for the filled-up side of an outer join.
using Tuple = std::array<const Row*, 4>;

Value read(const Tuple& tuple, const Column& column) {
  const Row* row = tuple[column.table];
  return row == nullptr ? std::nullopt : (*row)[column.column];
}

struct Condition {
  enum class Kind { equal, in, between, columns, is_null, equals_null, both, either, negated, exists } kind;
  Column left{}, right{};
  int low = 0, high = 0;
  std::vector<Condition> parts;

  std::string sql() const {
    switch (kind) {
      case Kind::equal:
        return fmt::format("{} = {}", text(left), low);
      case Kind::in:
        return fmt::format("{} IN ({}, {})", text(left), low, high);
      case Kind::between:
        return fmt::format("{} BETWEEN {} AND {}", text(left), low, high);
      case Kind::columns:
        return fmt::format("{} = {}", text(left), text(right));
      case Kind::is_null:
        return fmt::format("{} IS NULL", text(left));
      case Kind::equals_null:
        return fmt::format("{} = NULL", text(left));
      case Kind::both:
        return fmt::format("({} AND {})", parts[0].sql(), parts[1].sql());
      case Kind::either:
        return fmt::format("({} OR {})", parts[0].sql(), parts[1].sql());
      case Kind::negated:
        return fmt::format("NOT ({})", parts[0].sql());
      case Kind::exists:
        return fmt::format("EXISTS (SELECT 1 FROM items i WHERE {})", parts[0].sql());
    }
    return {};
  }

  static Truth equal(Value a, Value b) { return a && b ? Truth(*a == *b) : std::nullopt; }
  static Truth either_of(Truth a, Truth b) {
    if ((a && *a) || (b && *b)) return true;
    return a && b ? Truth(false) : std::nullopt;
  }
  static Truth negation(Truth a) { return a ? Truth(!*a) : std::nullopt; }

  Truth holds(const Tuple& tuple, const Data& data) const {
    switch (kind) {
      case Kind::equal:
        return equal(read(tuple, left), low);
      case Kind::in:
        return either_of(equal(read(tuple, left), low), equal(read(tuple, left), high));
      case Kind::between: {
        const Value value = read(tuple, left);
        return value ? Truth(low <= *value && *value <= high) : std::nullopt;
      }
      case Kind::columns:
        return equal(read(tuple, left), read(tuple, right));
      case Kind::is_null:
        return !read(tuple, left).has_value();
      case Kind::equals_null:
        return data.null_equals ? Truth(!read(tuple, left).has_value()) : std::nullopt;
      case Kind::both:
        return negation(either_of(negation(parts[0].holds(tuple, data)), negation(parts[1].holds(tuple, data))));
      case Kind::either:
        return either_of(parts[0].holds(tuple, data), parts[1].holds(tuple, data));
      case Kind::negated:
        return negation(parts[0].holds(tuple, data));
      case Kind::exists:
        for (const Row& row : data.tables[2]) {
          Tuple inner = tuple;
          inner[2] = &row;
          if (parts[0].holds(inner, data) == Truth(true)) return true;
        }
        return false;
    }
    return std::nullopt;
  }
};

constexpr std::array<const char*, 4> named_tables = {"users u", "orders o", "items i", "colours c"};

enum class Join { inner, left, right, full };
struct Query {
  struct Step {
    Join join;
    std::size_t table;
    Condition on;
  };
  std::size_t first = 0;
  std::vector<Step> steps;
  Condition where;

  std::string from() const {
    constexpr std::array<const char*, 4> words = {"JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"};
    std::string text = named_tables[first];
    for (const Step& step : steps) {
      text += fmt::format(" {} {} ON {}", words[static_cast<std::size_t>(step.join)], named_tables[step.table],
                          step.on.sql());
    }
    return text;
  }
  std::string sql() const { return fmt::format("SELECT * FROM {} WHERE {}", from(), where.sql()); }

  std::vector<Tuple> joined(const Data& data) const {
    std::vector<Tuple> tuples;
    for (const Row& row : data.tables[first]) tuples.emplace_back()[first] = &row;
    for (const Step& step : steps) tuples = joined(tuples, step, data);
    return tuples;
  }

  // The rows as text, each with the number of times that it occurs.
  std::map<std::string, int> answer(const Data& data) const {
    std::map<std::string, int> rows;
    for (const Tuple& tuple : joined(data)) {
      if (where.holds(tuple, data) != Truth(true)) continue;
      std::string row;
      for (const Row* part : tuple) {
        for (std::size_t i = 0; i < 2; ++i)
          row += part == nullptr || !(*part)[i] ? "-," : fmt::format("{},", *(*part)[i]);
      }
      ++rows[row];
    }
    return rows;
  }

private:
  static std::vector<Tuple> joined(const std::vector<Tuple>& left, const Step& step, const Data& data) {
    std::vector<Tuple> found;
    std::vector<bool> matched(data.tables[step.table].size());
    for (const Tuple& tuple : left) {
      bool any = false;
      for (std::size_t i = 0; i < matched.size(); ++i) {
        Tuple both = tuple;
        both[step.table] = &data.tables[step.table][i];
        if (step.on.holds(both, data) != Truth(true)) continue;
        found.push_back(both);
        any = matched[i] = true;
      }
      if (!any && (step.join == Join::left || step.join == Join::full)) found.push_back(tuple);
    }
    for (std::size_t i = 0; i < matched.size(); ++i) {
      if (!matched[i] && (step.join == Join::right || step.join == Join::full)) {
        found.emplace_back()[step.table] = &data.tables[step.table][i];
      }
    }
    return found;
  }
};

// DELETE FROM target USING … WHERE …
struct Deletion {
  std::size_t target = 0;
  std::optional<Query> source;
  Condition where;

  std::string sql() const {
    return fmt::format("DELETE FROM {} {} WHERE {}", named_tables[target],
                       source ? "USING " + source->from() : std::string(), where.sql());
  }

  // The rows as text, and how many of each.
  std::map<std::string, int> answer(const Data& data) const {
    const std::vector<Tuple> sources = source ? source->joined(data) : std::vector<Tuple>(1);
    std::map<std::string, int> rows;
    for (const Row& row : data.tables[target]) {
      const bool goes = std::ranges::any_of(sources, [&](Tuple tuple) {
        tuple[target] = &row;
        return where.holds(tuple, data) == Truth(true);
      });
      if (goes) ++rows[fmt::format("{},{}", *row[0], row[1].value_or(-1))];
    }
    return rows;
  }
};

class Generator {
public:
  explicit Generator(std::uint32_t seed) : random_(seed) {}

  std::size_t below(std::size_t bound) { return random_() % bound; }
  int value() { return static_cast<int>(below(values)); }

  Table table(bool unique) {
    Table rows;
    for (int id = 0; id < values; ++id) {
      const std::size_t copies = unique ? below(2) : below(3);
      for (std::size_t i = 0; i < copies; ++i) rows.push_back({id, below(4) == 0 ? Value() : Value(value())});
    }
    return rows;
  }

  Column column(const std::vector<std::size_t>& tables) {
    return {tables[below(tables.size())], below(3) == 0 ? 1u : 0u};
  }

  Condition condition(const std::vector<std::size_t>& tables, int depth, bool subquery) {
    using Kind = Condition::Kind;
    Condition made{Kind::equal, column(tables), column(tables), value(), value(), {}};
    const std::size_t choice = below(depth > 0 ? 14 : 8);
    if (choice < 3) return made;
    if (choice == 3) made.kind = Kind::in;
    if (choice == 4) made.kind = Kind::between;
    if (choice == 5 || choice == 6) made.kind = Kind::columns;
    if (choice == 7) made.kind = made.low % 2 == 0 ? Kind::is_null : Kind::equals_null;
    if (choice >= 8) made.kind = choice < 11 ? Kind::both : choice == 11 ? Kind::either : Kind::negated;
    if (choice == 13 && subquery && !std::ranges::count(tables, 2u)) {
      made.kind = Kind::exists;
      auto inner = tables;
      inner.push_back(2);
      Condition link{Kind::columns, {2, 0}, {tables[below(tables.size())], 0}, 0, 0, {}};
      made.parts = {below(3) == 0 ? condition(inner, depth - 1, false)
                                  : Condition{Kind::both, {}, {}, 0, 0, {link, condition(inner, depth - 1, false)}}};
      return made;
    }
    if (choice >= 8) {
      made.parts.push_back(condition(tables, depth - 1, subquery));
      if (made.kind != Kind::negated) made.parts.push_back(condition(tables, depth - 1, subquery));
    }
    return made;
  }

  Query query() {
    std::vector<std::size_t> order = {0, 1, 3};
    std::ranges::shuffle(order, random_);
    Query made{order[0], {}, {}};
    std::vector<std::size_t> used = {order[0]};
    const std::size_t count = below(3);
    for (std::size_t i = 1; i <= count; ++i) {
      used.push_back(order[i]);
      Condition on{Condition::Kind::columns, {order[i], 0}, {used[below(i)], 0}, 0, 0, {}};
      if (below(3) == 0) on = {Condition::Kind::both, {}, {}, 0, 0, {on, condition(used, 1, false)}};
      if (below(8) == 0) on = condition(used, 1, false);
      made.steps.push_back({static_cast<Join>(below(4)), order[i], on});
    }
    made.where = condition(used, 3, true);
    return made;
  }

  Deletion deletion() {
    std::vector<std::size_t> order = {0, 1, 3};
    std::ranges::shuffle(order, random_);
    Deletion made{order[0], {}, {}};
    std::vector<std::size_t> used = {order[0]};
    if (const std::size_t count = below(3); count > 0) {
      made.source = Query{order[1], {}, {}};
      used.push_back(order[1]);
      if (count == 2) {
        used.push_back(order[2]);
        made.source->steps.push_back({static_cast<Join>(below(4)),
                                      order[2],
                                      {Condition::Kind::columns, {order[2], 0}, {order[1], 0}, 0, 0, {}}});
      }
    }
    made.where = condition(used, 3, true);
    if (made.source && below(4) != 0) {
      const Condition link{Condition::Kind::columns, {order[0], 0}, {order[1], 0}, 0, 0, {}};
      made.where = {Condition::Kind::both, {}, {}, 0, 0, {link, made.where}};
    }
    return made;
  }

private:
  std::mt19937 random_;
};

constexpr const char* yaml = R"(
shop:
  shards:
    s0: {primary: 127.0.0.1:5000}
    s1: {primary: 127.0.0.1:5001}
    s2: {primary: 127.0.0.1:5002}
  backend: {dbname: shop}
  rules:
    by_user: {type: RULE}
  tables:
    users: {rule: by_user, key: id, key_type: bigint, columns: [id, a]}
    orders: {rule: by_user, key: user_id, key_type: integer, columns: [user_id, a]}
    items: {rule: by_user, key: user_id, key_type: bigint, columns: [user_id, a]}
    colours: {reference: true}
)";

// The part of the data that one shard has.
Data on_shard(const Data& all, const Rule& rule, ShardId shard) {
  Data part;
  part.null_equals = all.null_equals;
  for (std::size_t t = 0; t < 4; ++t) {
    for (const Row& row : all.tables[t]) {
      const KeyValue key{KeyType::int8, *row[0], {}};
      if (t == 3 || rule.locate({&key, 1})->shard == shard) part.tables[t].push_back(row);
    }
  }
  return part;
}

// The part of the data that a Gather puts together: of each table what its fragment brings, less its conditions.
Data gathered(const Data& all, const Rule& rule, const GatherPlan& plan) {
  constexpr std::array tables{"users", "orders", "items"};
  Data part = on_shard(all, rule, plan.merge);
  for (std::size_t t = 0; t < tables.size(); ++t) part.tables[t].clear();
  for (const GatherFragment& fragment : plan.fragments) {
    for (std::size_t t = 0; t < tables.size(); ++t) {
      // Not those that stand in a condition.
      const std::string from = fragment.query.substr(0, fragment.query.find(" WHERE ")) + ' ';
      if (!from.contains(fmt::format(" FROM {} ", tables[t]))) continue;
      for (const ShardId shard : fragment.shards) {
        const Data share = on_shard(all, rule, shard);
        part.tables[t].insert(part.tables[t].end(), share.tables[t].begin(), share.tables[t].end());
      }
    }
  }
  return part;
}

void check(const std::string& rule_text) {
  std::string config = yaml;
  config.replace(config.find("{type: RULE}"), 12, rule_text);
  golden::File file{{}, {}, golden::database_from(config), {}, {}};
  file.catalog = Catalog::from_config(file.database);
  const auto topology = Topology::build(file.database, file.catalog, 1);
  ASSERT_TRUE(topology) << topology.error().message;
  const Rule& rule = (*topology)->rule((*topology)->find_table("public", "users")->rule);
  BindScratch scratch;
  parser::Fingerprint fingerprint;
  std::map<Operator, int> seen;
  int refused = 0;
  for (std::uint32_t seed = 0; seed < 6000; ++seed) {
    Generator generator(seed);
    Data data{{generator.table(true), generator.table(false), generator.table(false), generator.table(true)}};
    const Query query = generator.query();
    const std::string sql = query.sql();
    const auto statements = parser::postgres::parse(sql);
    ASSERT_TRUE(statements) << sql;
    parser::fingerprint(sql, {}, fingerprint);
    const auto made = plan(statements->front(), sql, fingerprint.slots, {}, **topology, file.catalog, {});
    Plan bound;
    if (!bind(made, **topology, {sql, fingerprint.slots, {}}, scratch, bound)) {
      ++refused;
      continue;
    }
    ++seen[bound.op];
    std::vector<ShardId> places = bound.shards;
    if (bound.op != Operator::scatter) places = {bound.op == Operator::any ? ShardId(0) : bound.shard};
    std::optional<GatherPlan> gathering;
    if (bound.op == Operator::gather) {
      auto planned =
          gather(statements->front(), {sql, fingerprint.slots, {}}, **topology, file.catalog, {}, false, seed);
      ASSERT_TRUE(planned) << "seed " << seed << ": " << sql << '\n' << planned.error().message;
      gathering = std::move(*planned);
      places.clear();
    }
    for (const bool null_equals : {false, true}) {
      data.null_equals = null_equals;
      std::map<std::string, int> together;
      if (gathering) together = query.answer(gathered(data, rule, *gathering));
      for (const ShardId shard : places) {
        for (const auto& [row, count] : query.answer(on_shard(data, rule, shard))) together[row] += count;
      }
      ASSERT_EQ(together, query.answer(data)) << "seed " << seed << ": " << sql << '\n' << describe(made, **topology);
    }
  }
  // The test would prove nothing if nearly all were refused.
  EXPECT_GT(seen[Operator::route], 500);
  EXPECT_GT(seen[Operator::scatter], 500);
  EXPECT_GT(seen[Operator::any], 100);
  EXPECT_GT(seen[Operator::gather], 500);
  EXPECT_EQ(refused, 0);
}

// What the shards delete, put together, is what one database would; and each its copy of a reference table the same.
void check_deletions(const std::string& rule_text) {
  std::string config = yaml;
  config.replace(config.find("{type: RULE}"), 12, rule_text);
  golden::File file{{}, {}, golden::database_from(config), {}, {}};
  file.catalog = Catalog::from_config(file.database);
  const auto topology = Topology::build(file.database, file.catalog, 1);
  ASSERT_TRUE(topology) << topology.error().message;
  const Rule& rule = (*topology)->rule((*topology)->find_table("public", "users")->rule);
  BindScratch scratch;
  parser::Fingerprint fingerprint;
  std::map<Operator, int> seen;
  for (std::uint32_t seed = 0; seed < 6000; ++seed) {
    Generator generator(seed);
    Data data{{generator.table(true), generator.table(false), generator.table(false), generator.table(true)}};
    const Deletion deletion = generator.deletion();
    const std::string sql = deletion.sql();
    const auto statements = parser::postgres::parse(sql);
    ASSERT_TRUE(statements) << sql;
    parser::fingerprint(sql, {}, fingerprint);
    const auto made = plan(statements->front(), sql, fingerprint.slots, {}, **topology, file.catalog, {});
    Plan bound;
    if (!bind(made, **topology, {sql, fingerprint.slots, {}}, scratch, bound)) continue;
    ++seen[bound.op];
    const bool copies = bound.op == Operator::replicate;
    ASSERT_EQ(copies, deletion.target == 3) << sql;
    const std::vector<ShardId> places = bound.op == Operator::route ? std::vector{bound.shard} : bound.shards;
    for (const bool null_equals : {false, true}) {
      data.null_equals = null_equals;
      const auto wanted = deletion.answer(data);
      std::map<std::string, int> together;
      for (const ShardId shard : places) {
        const auto part = deletion.answer(on_shard(data, rule, shard));
        if (copies) ASSERT_EQ(part, wanted) << "seed " << seed << ": " << sql;
        for (const auto& [row, count] : part) together[row] += count;
      }
      if (!copies) ASSERT_EQ(together, wanted) << "seed " << seed << ": " << sql << '\n' << describe(made, **topology);
    }
  }
  EXPECT_GT(seen[Operator::route], 400);
  EXPECT_GT(seen[Operator::scatter], 400);
  EXPECT_GT(seen[Operator::replicate], 200);
}

TEST(Property, ShardsTogetherDeleteAsOneDatabaseByHash) {
  check_deletions("{type: hash, buckets: 16, shards: [s0, s1, s2]}");
}

TEST(Property, ShardsTogetherDeleteAsOneDatabaseByRange) {
  check_deletions("{type: range, ranges: [{below: \"2\", shard: s0}, {below: \"4\", shard: s1}, {shard: s2}]}");
}

TEST(Property, ShardsTogetherAnswerAsOneDatabaseByHash) {
  check("{type: hash, buckets: 16, shards: [s0, s1, s2]}");
}

TEST(Property, ShardsTogetherAnswerAsOneDatabaseByRange) {
  check("{type: range, ranges: [{below: \"2\", shard: s0}, {below: \"4\", shard: s1}, {shard: s2}]}");
}

}  // namespace
}  // namespace tessera::router
