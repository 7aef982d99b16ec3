#include <algorithm>
#include <fmt/core.h>
#include <unordered_map>

#include "config/scalars.hpp"
#include "config/sections.hpp"

namespace tessera::config {
namespace {

// The problem never shows the value: a password typed under the wrong key is still a password.
void read_verifier(Section& section, std::string_view key, bool (*is_valid)(std::string_view), std::string_view form,
                   Secret& out) {
  Secret verifier;
  section.read(key, verifier);
  if (verifier.empty()) return;
  if (!is_valid(verifier.reveal())) {
    section.problem(key, fmt::format("the value of \"{}\" is not such a verifier", key),
                    fmt::format("{}, as in pg_authid", form));
    return;
  }
  out = std::move(verifier);
}

void check_one_proof(Section& section, bool trust) {
  std::string given;
  int count = 0;
  for (const std::string_view key : {"password", "scram", "md5", "trust"}) {
    if (!section.has(key) || (key == "trust" && !trust)) continue;
    if (count++ > 0) given += " and ";
    given += key;
  }
  if (count < 2) return;
  section.context().problem(section.mark(), fmt::format("a user proves who they are in one way, not by {}", given),
                            "at most one of password, scram, md5, trust");
}

// With a shared server role nobody works under a role of his own.
void check_backend_role(Section& section, const Backend& backend) {
  if (backend.auth != BackendAuth::password) return;
  for (const std::string_view key : {"backend_user", "backend_password"}) {
    if (!section.has(key)) continue;
    section.problem(key, fmt::format("\"{}\" has no effect where all clients share backend.user", key),
                    "leave it out, or say auth: passthrough in backend");
  }
  if (section.has("pool_size"))
    section.warning("pool_size", "\"pool_size\" has no effect where all clients share backend.user",
                    "they share its pool: pool.size");
}

// A secret that cannot be read was reported before anybody looked at the users.
bool has_broken_values(const Node& user) {
  return std::ranges::any_of(user.items, &Node::broken);
}

User read_user(Section section, const Backend& backend) {
  User user;
  const std::size_t problems = section.context().problems.count();
  user.position = section.context().position(section.mark());
  section.read("name", user.name);
  section.read("password", user.password);
  read_verifier(section, "scram", is_scram_verifier, "SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>",
                user.verifier);
  read_verifier(section, "md5", is_md5_verifier, "md5 and 32 hexadecimal digits", user.verifier);
  section.read("trust", user.trust);
  section.read("from", user.from);
  section.each_text("from", [&](const Node& item) {
    if (is_network(item.text) || item.text == local_clients) return;
    section.context().problem(item.mark, fmt::format("\"{}\" is not a network", item.shown()),
                              "an address with a prefix length: 10.0.0.0/8, fd00::/8, a single address, or local for "
                              "Unix sockets");
  });
  section.read("max_clients", user.max_clients);
  section.read("pool_size", user.pool_size);
  section.read("pool_mode", user.pool_mode);
  section.read("backend_user", user.backend_user);
  section.read("backend_password", user.backend_password);
  section.finish();
  check_one_proof(section, user.trust);
  check_backend_role(section, backend);
  user.mistaken = section.context().problems.count() > problems || has_broken_values(section.node());
  return user;
}

}  // namespace

void read_users(Section& database, Database& out) {
  std::unordered_map<std::string, Mark> seen;
  database.each_section("users", [&](Section section) {
    const Node* name = section.node().find("name");
    User user = read_user(std::move(section), out.backend);
    if (!user.name.empty()) {
      const auto [first, fresh] = seen.emplace(user.name, name->mark);
      if (!fresh) {
        database.context().problem(name->mark, fmt::format("user \"{}\" is listed twice", name->shown()),
                                   database.context().problems.already_at(first->second));
      }
    }
    out.users.push_back(std::move(user));
  });
}

}  // namespace tessera::config
