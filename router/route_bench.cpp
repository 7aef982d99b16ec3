// What routing one statement costs when its plan is cached: the look-up in the plan cache and bind, under rules of
// every size. "One key" asks for the same key again and again, so that everything it touches is in the processor's
// caches; "random keys" asks for any key of the rule, so that a large rule is read from memory.
#include <benchmark/benchmark.h>
#include <bit>
#include <fmt/format.h>

#include "parser/postgres/parse.hpp"
#include "router/plan_cache.hpp"
#include "router/planner.hpp"

namespace tessera::router {
namespace {

// Each key is made from the shard of the one before it: like a statement, it cannot begin earlier.
class Keys {
public:
  // Numbers below `count`; 0: all that a bigint can be.
  explicit Keys(std::uint64_t count) : count_(count) {}
  std::uint64_t after(ShardId shard) {
    state_ = (state_ + shard.value()) * 6364136223846793005u + 1442695040888963407u;
    return count_ == 0 ? state_ : ((state_ >> 32) * count_) >> 32;
  }

private:
  std::uint64_t state_ = 1;
  std::uint64_t count_;
};

class Bench {
public:
  Bench(const config::Database& database, std::string_view sql) : sql_(sql) {
    const Catalog catalog = Catalog::from_config(database);
    topology_ = Topology::build(database, catalog, 1).value();
    parser::fingerprint(sql, {}, print_);
    auto text = std::make_shared<PlannedText>();
    text->statements.emplace_back().plan =
        router::plan(parser::postgres::parse(sql).value().front(), sql, print_.slots, {}, *topology_, catalog, {});
    // As full as it gets by default.
    std::uint64_t other = 0;
    while (cache_.size() + 1 < cache_.capacity()) {
      other = other * 6364136223846793005u + 1442695040888963407u;
      cache_.insert({other, other * 0x9E3779B97F4A7C15u, 0}, text);
    }
    cache_.insert({print_.high, print_.low, 0}, std::move(text));
  }

  // False: it does not lead to one shard.
  bool route_parameter(std::uint64_t key) {
    const std::uint64_t bytes = std::byteswap(key);
    const Values::Parameter parameter{{reinterpret_cast<const char*>(&bytes), sizeof bytes}, false, true, bigint_};
    return route({sql_, {}, {&parameter, 1}});
  }
  bool route_literal() {
    parser::fingerprint(sql_, {}, print_);
    return route({sql_, print_.slots, {}});
  }
  ShardId shard() const { return out_.shard; }

private:
  bool route(const Values& values) {
    const PlannedTextRef* found = cache_.find({print_.high, print_.low, 0});
    return found != nullptr && bind((*found)->statements.front().plan, *topology_, values, scratch_, out_) &&
           out_.op == Operator::route;
  }

  const TypeOid bigint_ = type_oid_of("bigint");
  std::string_view sql_;
  std::shared_ptr<const Topology> topology_;
  parser::Fingerprint print_;
  PlanCache cache_{static_cast<std::size_t>(config::Limits().plan_cache)};
  BindScratch scratch_;
  Plan out_;
};

void route_parameters(benchmark::State& state, Bench& bench, Keys keys) {
  for (auto _ : state) {
    if (!bench.route_parameter(keys.after(bench.shard())))
      return state.SkipWithError("a key does not lead to one shard");
  }
  state.SetItemsProcessed(state.iterations());
}

config::Database database(int shards) {
  config::Database made;
  for (int i = 0; i < shards; ++i) made.shards.push_back({.name = fmt::format("s{}", i)});
  made.tables.push_back({.name = "accounts", .rule = "by_id", .key = {"aid"}, .key_type = "bigint"});
  return made;
}
std::vector<std::string> names(const config::Database& database) {
  std::vector<std::string> names;
  for (const config::Shard& shard : database.shards) names.push_back(shard.name);
  return names;
}

config::Database hash(int shards, int buckets) {
  config::Database made = database(shards);
  made.rules.push_back({"by_id", config::HashRule{.buckets = buckets, .shards = names(made)}, {}});
  return made;
}

config::Database ring(int shards) {
  config::Database made = database(shards);
  made.rules.push_back({"by_id", config::ConsistentHashRule{.shards = names(made)}, {}});
  return made;
}

// Each of a thousand keys.
config::Database range(int ranges) {
  config::Database made = database(4);
  config::RangeRule rule;
  for (int i = 0; i < ranges; ++i) {
    rule.ranges.push_back({.below = std::to_string((i + 1) * 1'000), .shard = made.shards[std::size_t(i % 4)].name});
  }
  made.rules.push_back({"by_id", std::move(rule), {}});
  return made;
}

config::Database directory(int entries) {
  config::Database made = database(4);
  config::DirectoryRule rule;
  for (int i = 0; i < entries; ++i) rule.entries.emplace(std::to_string(i), made.shards[std::size_t(i % 4)].name);
  made.rules.push_back({"by_id", std::move(rule), {}});
  return made;
}

// Both benchmarks of a rule. It is made when the first of them runs: a million entries take a while.
template <typename MakeDatabase>
void add(const std::string& title, std::uint64_t keys, MakeDatabase make) {
  const auto bench = std::make_shared<std::unique_ptr<Bench>>();
  const auto run = [bench, make](benchmark::State& state, std::uint64_t count) {
    if (*bench == nullptr) *bench = std::make_unique<Bench>(make(), "SELECT abalance FROM accounts WHERE aid = $1");
    route_parameters(state, **bench, Keys(count));
  };
  benchmark::RegisterBenchmark(("routing, one key/" + title).c_str(), run, std::uint64_t{1});
  benchmark::RegisterBenchmark(("routing, random keys/" + title).c_str(), run, keys);
}

// All of a statement that finds its plan: fingerprint, plan cache, bind.
void route_literal(benchmark::State& state) {
  Bench bench(hash(4, 1'024), "SELECT abalance FROM accounts WHERE aid = 12345");
  for (auto _ : state) {
    if (!bench.route_literal()) return state.SkipWithError("the key does not lead to one shard");
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(route_literal)->Name("cached plan/fingerprint, look-up and bind: key lookup, literal, 4 shards");

std::string grouped(int number) {
  std::string text = std::to_string(number);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

const bool registered = [] {
  for (const int buckets : {1'024, 65'536}) {
    for (const int shards : {4, 64, 1'024}) {
      add(fmt::format("hash, {} shards, {} buckets", grouped(shards), grouped(buckets)), 0,
          [=] { return hash(shards, buckets); });
    }
  }
  for (const int shards : {4, 64, 1'024})
    add(fmt::format("ring, {} shards", grouped(shards)), 0, [=] { return ring(shards); });
  for (const int ranges : {4, 1'024}) {
    add(fmt::format("range, {} ranges", grouped(ranges)), static_cast<std::uint64_t>(ranges) * 1'000,
        [=] { return range(ranges); });
  }
  for (const int entries : {1'000, 1'000'000}) {
    add(fmt::format("directory, {} entries", grouped(entries)), static_cast<std::uint64_t>(entries),
        [=] { return directory(entries); });
  }
  return true;
}();

}  // namespace
}  // namespace tessera::router
