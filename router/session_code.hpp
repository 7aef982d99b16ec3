// Whether code that runs inside a server (functions, procedures, DO blocks, views) may leave something in the session
// that outlives its transaction: settings, advisory locks, temporary objects, LISTEN, PREPARE, cursors WITH HOLD.
// Judged by its source, word by word; in doubt it does, which costs the session a connection of its own and nothing
// else.
//
// Not seen: what runs without being named (triggers, rules, defaults, policies, operators, the functions of an
// aggregate), and what machine code does.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "router/catalog.hpp"

namespace tessera::router {

// A name in a source, in lower case. `called`: it stands where a function's would.
using Mention = std::function<void(std::string_view name, bool called)>;

// What `source`, in SQL or PL/pgSQL, says itself; all names in it are told to `mention`.
bool changes_session(std::string_view source, const Mention& mention);

// The same with what is known of the functions and views that it names.
bool runs_session_code(std::string_view source, const Catalog& catalog);

// Run the SQL in their arguments.
bool runs_argument(std::string_view function);

struct CodeSource {
  std::string name;  // of the function or view, without its schema
  bool view = false;
  bool readable = true;  // false: in another language
  std::string_view text;
};

// Fills in `catalog` which of them change the session, by themselves or through others.
void find_session_code(std::span<const CodeSource> sources, Catalog& catalog);

}  // namespace tessera::router
