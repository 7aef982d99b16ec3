// What a configuration becomes when it runs: addresses resolved, TLS contexts loaded. Immutable; a reload builds a new
// one beside the old, and only when everything in it works does it take over. Statements and sessions hold what they
// began with.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "config/config.hpp"
#include "pool/endpoint.hpp"
#include "proxy/places.hpp"
#include "router/catalog.hpp"
#include "router/topology.hpp"

namespace tessera::proxy {

// Reading the catalog before any client has asked for it, or while the rules do not fit it: one worker at a time.
struct CatalogLook {
  std::atomic<TimePoint> next_at = TimePoint{};  // never, while a worker reads
  std::atomic<bool> told = false;  // something has come of the first one, if only that the shard cannot be reached
};

struct DatabaseRuntime {
  std::shared_ptr<const config::Config> config;  // keeps `settings` alive
  const config::Database* settings = nullptr;
  std::vector<pool::EndpointRef> primaries;  // by ShardId
  mutable CatalogLook catalog_look;
  mutable std::atomic<std::uint64_t> sequences_set = 0;  // how often a session has set one
  bool single() const { return primaries.size() == 1; }
};

struct Runtime {
  std::shared_ptr<const config::Config> config;
  std::map<std::string, std::shared_ptr<const DatabaseRuntime>, std::less<>> databases;
  std::shared_ptr<net::TlsContext> client_tls;  // nullptr: TLS is off
  Places places;                                // for clients, under the limit of open files
};

// The addresses in use, for people: more than one if the host's name has several.
std::vector<std::string> address_texts(const pool::Endpoint& endpoint);

unsigned worker_count(const config::Config& config);

// Resolves names and reads certificates: BLOCKS, control thread only. Endpoints that have not changed are taken over
// from `previous`, so that their connections stay.
Result<std::shared_ptr<const Runtime>> build_runtime(std::shared_ptr<const config::Config> config,
                                                     const Runtime* previous);

// Can connections, pools and open transactions of `before` go on under `after`? A shard is known by its place: the same
// names in the same order, more of them perhaps. A server that had the rows of one shard and gets the name of another
// says no: a transaction or pipeline that is still planned by the old rules would look for them under the old name.
bool same_shards(const DatabaseRuntime& before, const DatabaseRuntime& after);
// The same server and database, reached in the same way, whatever the files of its TLS hold now.
bool same_place(const pool::Endpoint& a, const pool::Endpoint& b);

// For connections to the shards, and from clients. `check` looks at the files in the same way.
Result<std::shared_ptr<net::TlsContext>> backend_context(const config::Backend& backend);
Result<std::shared_ptr<net::TlsContext>> client_context(const config::ClientTls& tls);

// Topology and catalog of one database as of one moment. `version` tells plan caches apart.
struct Routing {
  std::shared_ptr<const router::Topology> topology;
  std::shared_ptr<const router::Catalog> catalog;
  std::uint64_t version = 0;
  std::uint64_t reading = 0;  // that the catalog comes from: they grow with each that begins
  // When a worker has last begun to compare the catalog with the servers'.
  mutable std::atomic<TimePoint> looked_at = Clock::now();
};
using RoutingRef = std::shared_ptr<const Routing>;
using RoutingMap = std::map<std::string, RoutingRef, std::less<>>;  // by database

}  // namespace tessera::proxy
