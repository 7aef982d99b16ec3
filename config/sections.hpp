// One function for each part of the configuration: from a section of the tree to its struct, reporting what does not
// hold. Internal to this folder.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "config/names.hpp"
#include "config/reader.hpp"

namespace tessera::config {

void read_listen(Section section, Listen& listen);
void read_admin(Section section, Admin& admin);
void read_store(Section section, Store& store);
void read_log(Section section, Log& log);

Database read_database(Section section);
void read_rule(Section section, const Names& names, Rule& rule, std::vector<RuleEdge>& edges);
RangeRule read_range_rule(Section& section, const Names& names);
DirectoryRule read_directory_rule(Section& section, const Names& names);
void read_tables(Section& database, const Names& names, Database& out);
void read_users(Section& database, Database& out);

// Whoever may use the console must be able to log in there, in one way. `admin` is that section's node.
void check_console_users(const Context& context, const Node& admin, const Config& config);

// Every text under `key` must be a network.
void check_networks(Section& section, std::string_view key);

}  // namespace tessera::config
