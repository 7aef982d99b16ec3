// The console's views that are not of PgBouncer's shape: SHOW TESSERA …, and those about the configuration and the
// program.
#pragma once

#include <string_view>

#include "config/config.hpp"
#include "proxy/facts.hpp"
#include "proxy/row_builder.hpp"

namespace tessera::proxy {

class Server;

std::string_view pool_mode_name(config::PoolMode mode);

RowBuilder show_tessera_pools(const Facts& facts, const Server& server);
RowBuilder show_tessera_sessions(const Facts& facts, const Server& server);
RowBuilder show_tessera_shards(const Facts& facts, const Server& server);
RowBuilder show_tessera_statements(const Facts& facts, const Server& server);
RowBuilder show_tessera_topology(const Facts& facts, const Server& server);
RowBuilder show_config(const Facts& facts, const Server& server);
RowBuilder show_help(const Facts& facts, const Server& server);
RowBuilder show_version(const Facts& facts, const Server& server);

}  // namespace tessera::proxy
