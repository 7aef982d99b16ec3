// Functions of PostgreSQL that the planner knows by name: for offline planning, where no catalog says what a function
// is, and those whose results belong to one server and so must always go to the same one.
#pragma once

#include <span>
#include <string_view>

namespace tessera::router {

struct BuiltinFunction {
  std::string_view name;
  char volatility;
  bool aggregate;
  bool set;  // returns a set
};

// The usual ones, by no means all; an unknown function is treated as a user's.
std::span<const BuiltinFunction> builtin_functions();

// Sequences, advisory locks, large objects, notifications: state of one server that all clients must share.
bool is_server_state(std::string_view function);

// Another value on each server, the same for all rows on one: the time, who the server is, what it holds.
bool is_per_server(std::string_view function);

// Volatile, but evaluated for each row anew and alike on every server: each row has its own value wherever it is.
bool is_per_row(std::string_view function);

// The bytes that a relation or database takes: of a sharded one, a server knows its share.
bool is_size(std::string_view function);

// Aggregates whose result follows the order of their rows.
bool is_by_order(std::string_view function);

}  // namespace tessera::router
