// Ids that Tessera gives. An INSERT that leaves a serial or identity column of a table on several shards to its
// sequence gets the column and a value for each row into its text; then it is an INSERT like any other. In the same way
// lastval() and currval() become what the session was given last. What is given stands in the plan, for all texts of
// one shape: places are counted in tokens. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "parser/fingerprint.hpp"

namespace tessera::router {

// From this character of the text on (from 0), a place is that far from where it was in the text before.
struct Moved {
  std::size_t from = 0;
  std::ptrdiff_t by = 0;
  friend bool operator==(const Moved&, const Moved&) = default;
};
// Where a position (from 1; 0: none) was.
std::size_t position_before(const std::vector<Moved>& moves, std::size_t position);

struct GivenIds {
  enum class Source : std::uint8_t {
    next,     // of the sequence
    current,  // currval(): what this session was given of it
    last,     // lastval(): …of any
    made      // by Tessera: 41 bits of milliseconds, 13 of a shard's number, 10 to tell them apart
  };
  struct Column {
    std::string name;         // or, if a call was asked, its text
    std::string sequence;     // as SQL; empty: of any
    std::uint32_t count = 0;  // of values: one for each row that has none
    Source source = Source::next;
    std::vector<std::uint32_t> slots = {};  // made: the numbers that it may carry
    bool is_asked() const { return source == Source::current || source == Source::last; }
    friend bool operator==(const Column&, const Column&) = default;
  };
  // Behind so many tokens of the text this stands in place of `dropped` others: `text`, a value, `behind`.
  struct Edit {
    static constexpr std::uint32_t no_value = ~0u;
    std::uint32_t tokens = 0;
    std::uint32_t dropped = 0;
    std::string text;
    std::uint32_t column = no_value;  // whose value
    std::uint32_t number = 0;         // which of them
    std::string behind = {};
    friend bool operator==(const Edit&, const Edit&) = default;
  };
  std::vector<Column> columns;
  std::vector<Edit> edits;  // in the text's order
  void add(Edit edit);
  std::uint32_t count() const;
  friend bool operator==(const GivenIds&, const GivenIds&) = default;
};

struct TableRouting;
struct Column;
// Whether Tessera makes its values.
bool is_made(const Column& column, const TableRouting* routing);

// The text with values in it, by column: literals, or parameters. An empty value leaves the text as it is there.
std::string with_ids(std::string_view sql, parser::LexerMode mode, const GivenIds& ids,
                     const std::vector<std::vector<std::string>>& values, std::vector<Moved>& moves);
// The largest n of its $n.
std::uint32_t largest_parameter(std::string_view sql, parser::LexerMode mode);
// Parameters for all of them, from `first` (from 1) on.
std::vector<std::vector<std::string>> id_parameters(const GivenIds& ids, std::uint32_t first);

}  // namespace tessera::router
