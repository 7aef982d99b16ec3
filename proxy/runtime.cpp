#include "proxy/runtime.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <thread>

namespace tessera::proxy {

namespace {

std::string addresses_of(const pool::Endpoint& endpoint) {
  std::string all;
  for (const net::SocketAddress& address : endpoint.addresses) all += address.text() + ' ';
  return all;
}

}  // namespace

std::vector<std::string> address_texts(const pool::Endpoint& endpoint) {
  std::vector<std::string> texts;
  for (const net::SocketAddress& address : endpoint.addresses) texts.push_back(address.text());
  return texts;
}

bool same_place(const pool::Endpoint& a, const pool::Endpoint& b) {
  return a.name == b.name && a.host == b.host && a.database == b.database && a.tls == b.tls &&
         a.verify_host == b.verify_host && a.connect_timeout == b.connect_timeout && addresses_of(a) == addresses_of(b);
}

Result<std::shared_ptr<net::TlsContext>> backend_context(const config::Backend& backend) {
  net::TlsContext::ClientOptions options;
  options.verify_chain = backend.tls == config::BackendTls::verify_ca || backend.tls == config::BackendTls::verify_full;
  options.ca = backend.ca;
  options.certificate = backend.client_certificate;
  options.private_key = backend.client_key;
  return net::TlsContext::client(options);
}

Result<std::shared_ptr<net::TlsContext>> client_context(const config::ClientTls& tls) {
  const bool verify = tls.mode == config::ClientTlsMode::verify_ca || tls.mode == config::ClientTlsMode::verify_full;
  return net::TlsContext::server({tls.certificate, tls.private_key, tls.client_ca, verify, tls.min_version});
}

namespace {

// Which name had the rows of each server and database.
std::map<std::string, std::string> names_of_places(const DatabaseRuntime& runtime) {
  std::map<std::string, std::string> names;
  for (const pool::EndpointRef& endpoint : runtime.primaries)
    names.emplace(addresses_of(*endpoint) + endpoint->database, endpoint->name);
  return names;
}

postgres::ServerTls server_tls(config::BackendTls mode) {
  switch (mode) {
    case config::BackendTls::disable:
      return postgres::ServerTls::off;
    case config::BackendTls::prefer:
      return postgres::ServerTls::prefer;
    case config::BackendTls::require:
    case config::BackendTls::verify_ca:
    case config::BackendTls::verify_full:
      return postgres::ServerTls::require;
  }
  return postgres::ServerTls::require;
}

// Certificates may have been replaced under the same names.
bool same_tls(const pool::Endpoint& a, const pool::Endpoint& b) {
  if (!a.tls_context || !b.tls_context) return a.tls_context == b.tls_context;
  return a.tls_context->digest() == b.tls_context->digest();
}

// By whatever names they are configured: two shards in one place would show every row twice.
Result<void> check_places(const DatabaseRuntime& database) {
  std::map<std::string, std::string> names;
  for (std::size_t i = 0; i < database.primaries.size(); ++i) {
    const pool::Endpoint& endpoint = *database.primaries[i];
    const auto [known, is_new] = names.emplace(addresses_of(endpoint) + endpoint.database, endpoint.name);
    if (is_new) continue;
    const config::SourcePosition& position = database.settings->shards[i].position;
    return std::unexpected(Error{sqlstate::config_file_error,
                                 fmt::format("shard \"{}\" is the same database as shard \"{}\": both are \"{}\" on {}",
                                             endpoint.name, known->second, endpoint.database, addresses_of(endpoint)),
                                 fmt::format("{}:{}:{}", position.file, position.line, position.column),
                                 {},
                                 0});
  }
  return {};
}

Result<std::shared_ptr<const DatabaseRuntime>> build_database(const std::shared_ptr<const config::Config>& config,
                                                              const config::Database& database,
                                                              const DatabaseRuntime* previous) {
  auto made = std::make_shared<DatabaseRuntime>();
  made->config = config;
  made->settings = &database;
  std::shared_ptr<net::TlsContext> tls;
  if (database.backend.tls != config::BackendTls::disable) {
    Result<std::shared_ptr<net::TlsContext>> context = backend_context(database.backend);
    if (!context) return std::unexpected(context.error());
    tls = *context;
  }
  for (std::size_t i = 0; i < database.shards.size(); ++i) {
    const config::Shard& shard = database.shards[i];
    auto endpoint = std::make_shared<pool::Endpoint>();
    endpoint->name = shard.name;
    endpoint->shard = ShardId(static_cast<std::uint32_t>(i));
    endpoint->host = shard.primary.host;
    endpoint->port = shard.primary.port;
    Result<std::vector<net::SocketAddress>> addresses = net::resolve(shard.primary.host, shard.primary.port);
    const pool::Endpoint* before =
        previous != nullptr && i < previous->primaries.size() ? previous->primaries[i].get() : nullptr;
    const bool known = before != nullptr && before->host == endpoint->host && before->port == shard.primary.port;
    // Those that are known already stay when they come in another order, or when the name service is away for a moment.
    if (known && (!addresses || net::same_addresses(*addresses, before->addresses)))
      endpoint->addresses = before->addresses;
    else if (addresses)
      endpoint->addresses = std::move(*addresses);
    else
      return std::unexpected(
          Error{sqlstate::config_file_error,
                fmt::format("shard \"{}\": {}", shard.name, addresses.error().message),
                fmt::format("{}:{}:{}", shard.position.file, shard.position.line, shard.position.column),
                {},
                0});
    endpoint->database = !shard.dbname.empty()              ? shard.dbname
                         : !database.backend.dbname.empty() ? database.backend.dbname
                                                            : database.name;
    endpoint->tls = server_tls(database.backend.tls);
    endpoint->tls_context = tls;
    endpoint->verify_host = database.backend.tls == config::BackendTls::verify_full;
    endpoint->connect_timeout = database.backend.connect_timeout;
    const bool unchanged = before != nullptr && same_place(*before, *endpoint) && same_tls(*before, *endpoint);
    made->primaries.push_back(unchanged ? previous->primaries[i] : pool::EndpointRef(std::move(endpoint)));
  }
  if (Result<void> checked = check_places(*made); !checked) return std::unexpected(checked.error());
  return made;
}

}  // namespace

bool same_shards(const DatabaseRuntime& before, const DatabaseRuntime& after) {
  const std::size_t count = before.primaries.size();
  if (count > after.primaries.size()) return false;
  const std::map<std::string, std::string> names = names_of_places(before);
  for (std::size_t i = 0; i < after.primaries.size(); ++i) {
    const pool::Endpoint& now = *after.primaries[i];
    if (i < count && before.primaries[i]->name != now.name) return false;
    if (i < count && same_place(*before.primaries[i], now)) continue;
    const auto known = names.find(addresses_of(now) + now.database);
    if (known != names.end() && known->second != now.name) return false;
  }
  return true;
}

unsigned worker_count(const config::Config& config) {
  if (config.workers > 0) return static_cast<unsigned>(config.workers);
  return std::max(1u, std::thread::hardware_concurrency());
}

Result<std::shared_ptr<const Runtime>> build_runtime(std::shared_ptr<const config::Config> config,
                                                     const Runtime* previous) {
  auto runtime = std::make_shared<Runtime>();
  runtime->config = config;
  runtime->places = places(*config, net::raise_file_limit(), worker_count(*config));
  const config::ClientTls& tls = config->listen.tls;
  if (tls.mode != config::ClientTlsMode::disable) {
    Result<std::shared_ptr<net::TlsContext>> context = client_context(tls);
    if (!context) return std::unexpected(context.error());
    runtime->client_tls = *context;
  }
  for (const config::Database& database : config->databases) {
    if (database.mysql)
      return fail(sqlstate::config_file_error,
                  fmt::format("database \"{}\": engine mysql is not served by this version", database.name));
    const DatabaseRuntime* before = nullptr;
    if (previous != nullptr)
      if (const auto found = previous->databases.find(database.name); found != previous->databases.end())
        before = found->second.get();
    Result<std::shared_ptr<const DatabaseRuntime>> made = build_database(config, database, before);
    if (!made) return std::unexpected(made.error());
    runtime->databases.emplace(database.name, std::move(*made));
  }
  return runtime;
}

}  // namespace tessera::proxy
