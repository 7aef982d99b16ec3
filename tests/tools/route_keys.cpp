// Where the sharding rules put keys, for comparison with a server's opinion.
//
//   route_keys config.yaml keys <table>…          reads keys from standard input, in COPY's text format: a row has for
//   each
//                                                 key column its text, and its binary form in hexadecimal digits.
//                                                 Writes the texts as they came and, for each table, a number in which
//                                                 bit i says that shard i has the key; 0: none has
//   route_keys config.yaml predicates <table>…    writes for each table each shard's SQL predicate on a line
//
// The first database of the configuration is used, the tables' key_type says the types, which are the same for all. A
// key goes by its binary form; its text must mean the same, if it can be read.
#include <charconv>
#include <fmt/core.h>
#include <iostream>
#include <string>
#include <vector>

#include "config/load.hpp"
#include "router/key_class.hpp"
#include "router/quote.hpp"
#include "router/topology.hpp"

namespace {

using namespace tessera;

[[noreturn]] void die(const std::string& message) {
  std::cerr << "route_keys: " << message << '\n';
  std::exit(1);
}

struct Table {
  const router::TableRouting* routing;
  const router::Rule* rule;
};

// The columns of a line of COPY's text format, still escaped.
void split(std::string_view line, std::vector<std::string_view>& columns) {
  columns.clear();
  for (std::size_t begin = 0; begin <= line.size();) {
    const std::size_t end = std::min(line.find('\t', begin), line.size());
    columns.push_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
}

void unescape(std::string_view escaped, std::string& text) {
  text.clear();
  for (std::size_t i = 0; i < escaped.size(); ++i) {
    if (escaped[i] != '\\' || i + 1 == escaped.size()) {
      text += escaped[i];
    } else {
      constexpr std::string_view letters = "bfnrtv";
      const std::size_t known = letters.find(escaped[++i]);
      text += known == std::string_view::npos ? escaped[i] : "\b\f\n\r\t\v"[known];
    }
  }
}

void decode(std::string_view digits, std::string& bytes) {
  bytes.clear();
  if (digits.size() % 2 != 0) die(fmt::format("\"{}\" is no binary form", digits));
  for (; !digits.empty(); digits.remove_prefix(2)) {
    unsigned char byte = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + 2, byte, 16);
    if (error != std::errc{} || end != digits.data() + 2) die(fmt::format("\"{}\" is no binary form", digits));
    bytes += static_cast<char>(byte);
  }
}

// The columns of a key; their memory is used again for the next one.
class KeyReader {
public:
  explicit KeyReader(const std::vector<router::KeyType>& types) : types_(types), scratch_(types.size()) {}

  // False: one of the columns is NULL.
  bool read(const std::vector<std::string_view>& columns, std::vector<router::KeyValue>& key) {
    key.clear();
    for (std::size_t i = 0; i < types_.size(); ++i) {
      if (columns[2 * i + 1] == "\\N") return false;
      key.push_back(read_column(columns[2 * i], columns[2 * i + 1], types_[i], scratch_[i]));
    }
    return true;
  }

private:
  struct Scratch {
    std::string bytes;
    std::string backing;
    std::string text;
    std::string text_backing;
  };

  static router::KeyValue read_column(std::string_view escaped, std::string_view digits, router::KeyType type,
                                      Scratch& scratch) {
    router::KeyValue value;
    decode(digits, scratch.bytes);
    if (!router::read_binary(scratch.bytes, type, scratch.backing, value)) {
      die(fmt::format("the binary form {} of {} cannot be read as {}", digits, escaped, name_of(type)));
    }
    unescape(escaped, scratch.text);
    const auto same = router::from_text(scratch.text, type, scratch.text_backing);
    if (same && (same->integer != value.integer || same->bytes != value.bytes)) {
      die(fmt::format("\"{}\" and the binary form {} are different values of {}", escaped, digits, name_of(type)));
    }
    return value;
  }

  const std::vector<router::KeyType>& types_;
  std::vector<Scratch> scratch_;
};

void route(const std::vector<Table>& tables) {
  const std::size_t width = tables.front().routing->key_types.size();
  KeyReader reader(tables.front().routing->key_types);
  std::vector<std::string_view> columns;
  std::vector<router::KeyValue> key;
  std::string out;
  for (std::string line; std::getline(std::cin, line);) {
    split(line, columns);
    if (columns.size() != 2 * width) die("a row with another number of columns: " + line);
    const bool whole = reader.read(columns, key);
    for (std::size_t i = 0; i < width; ++i) out.append(i == 0 ? "" : "\t").append(columns[2 * i]);
    for (const Table& table : tables) {
      const auto place = whole ? table.rule->locate(key) : std::unexpected(Error{});
      out.append(1, '\t').append(std::to_string(place ? 1u << place->shard.value() : 0u));
    }
    out += '\n';
    if (out.size() > 60000) {
      std::cout << out;
      out.clear();
    }
  }
  std::cout << out;
}

void print_predicates(const Table& table, std::size_t shards) {
  std::vector<router::KeyColumn> columns;
  for (std::size_t i = 0; i < table.routing->key_columns.size(); ++i) {
    columns.push_back({router::quote_identifier(table.routing->key_columns[i]), table.routing->key_types[i]});
  }
  for (std::uint32_t shard = 0; shard < shards; ++shard) {
    std::cout << table.rule->predicate(ShardId(shard), columns) << '\n';
  }
}

}  // namespace

int main(int argument_count, char** arguments) {
  if (argument_count < 4) die("usage: route_keys config.yaml keys|predicates table…");
  std::ios::sync_with_stdio(false);
  const auto loaded = config::load(arguments[1], config::real_environment());
  if (!loaded.config) die(loaded.problems.empty() ? "no configuration" : to_string(loaded.problems.front()));
  const config::Database& database = loaded.config->databases.front();
  const auto topology = router::Topology::build(database, router::Catalog::from_config(database), 1);
  if (!topology) die(topology.error().message);
  std::vector<Table> tables;
  for (int i = 3; i < argument_count; ++i) {
    const router::TableRouting* table = (*topology)->find_table("public", arguments[i]);
    if (table == nullptr || table->key_types.empty()) die("no such sharded table, or no key_type");
    tables.push_back({table, &(*topology)->rule(table->rule)});
    if (table->key_types != tables.front().routing->key_types) die("tables with keys of different types");
  }
  if (std::string_view(arguments[2]) == "keys") {
    route(tables);
    return 0;
  }
  for (const Table& table : tables) print_predicates(table, (*topology)->shard_count());
}
