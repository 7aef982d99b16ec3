// What a statement may do to the state of its server connection without saying so: a function can SET, LISTEN, lock or
// make a temporary table, and a sequence remembers for currval() who asked it last. Pure.
#pragma once

#include <span>
#include <string>

#include "parser/statement.hpp"
#include "router/catalog.hpp"

namespace tessera::proxy {

struct HiddenState {
  bool changes = false;             // unknown code runs: the connection is reset before another client gets it
  bool changes_session = false;     // what it leaves there outlives the transaction, as far as can be told
  bool asks_sequences = false;      // currval, lastval: what another client's statements left must not be found there
  bool advances_sequences = false;  // nextval, setval
  bool sets_sequences = false;      // setval
  bool loads_library = false;       // nothing undoes LOAD but the end of the connection
};

// `harmless`: functions that the configuration vouches for (read_only_functions).
HiddenState hidden_state(const parser::Statement& statement, const router::Catalog& catalog,
                         std::span<const std::string> harmless);

}  // namespace tessera::proxy
