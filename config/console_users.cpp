// Users of the console (admin.console_admins, admin.console_viewers). They log in there as in a database that knows
// them.
#include <fmt/core.h>

#include "config/sections.hpp"

namespace tessera::config {
namespace {

bool same_proof(const User& a, const User& b) {
  return a.password == b.password && a.verifier == b.verifier && a.trust == b.trust && a.from == b.from;
}

// Several databases may know the name, but with one credential: else which of them counts would depend on the order of
// the databases.
void check_console_user(const Context& context, const Node& name, const Config& config) {
  const Database* where = nullptr;
  const User* first = nullptr;
  bool mistaken = false;
  for (const Database& database : config.databases) {
    for (const User& user : database.users) {
      if (user.name != name.text) continue;
      mistaken = mistaken || user.mistaken;
      if (user.mistaken) continue;  // the credential is not the one that is meant
      if (first == nullptr) {
        first = &user;
        where = &database;
      } else if (!same_proof(*first, user)) {
        context.problem(context.problems.mark(user.position),
                        fmt::format("user \"{}\" may use the console and has other credentials here than in "
                                    "database \"{}\"",
                                    name.shown(), where->name),
                        "the same password or verifier and the same \"from\" everywhere, or a name of its own");
      }
    }
  }
  if (mistaken) return;
  if (first == nullptr || (first->password.empty() && first->verifier.empty()))
    context.warning(name.mark, fmt::format("\"{}\" cannot log in to the console", name.shown()),
                    "list the user in a database, with a password or a verifier");
}

}  // namespace

void check_console_users(const Context& context, const Node& admin, const Config& config) {
  for (const std::string_view key : {"console_admins", "console_viewers"}) {
    const Node* names = admin.find(key);
    if (names == nullptr) continue;
    if (names->kind == Node::Kind::scalar) check_console_user(context, *names, config);
    for (const Node& name : names->items)
      if (name.kind == Node::Kind::scalar && names->kind == Node::Kind::sequence)
        check_console_user(context, name, config);
  }
}

}  // namespace tessera::config
