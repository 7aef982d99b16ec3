// The sections that concern the process, not a database: listen, admin, store, log.
#include <fmt/core.h>

#include "config/scalars.hpp"
#include "config/sections.hpp"

namespace tessera::config {
namespace {

void read_tls(Section section, ClientTls& tls) {
  TlsVersion version = TlsVersion::v1_2;
  section.read("mode", tls.mode);
  section.read("certificate", tls.certificate);
  section.read("private_key", tls.private_key);
  section.read("client_ca", tls.client_ca);
  section.read("min_version", version);
  tls.min_version = name_of(tls_versions, version);
  section.finish();
  if (tls.mode == ClientTlsMode::disable) return;
  const auto mode = name_of(client_tls_modes, tls.mode);
  for (const std::string_view key : {"certificate", "private_key"}) {
    if (section.has(key)) continue;
    section.problem("mode", fmt::format("TLS mode \"{}\" needs \"{}\"", section.find("mode")->shown(), key),
                    "give the PEM files, or mode: disable");
  }
  const bool verifies = tls.mode == ClientTlsMode::verify_ca || tls.mode == ClientTlsMode::verify_full;
  if (verifies && !section.has("client_ca")) {
    section.problem("mode", fmt::format("TLS mode \"{}\" needs \"client_ca\"", mode),
                    "the PEM file with the authorities that sign client certificates");
  }
}

}  // namespace

void check_networks(Section& section, std::string_view key) {
  section.each_text(key, [&](const Node& item) {
    if (is_network(item.text)) return;
    section.context().problem(item.mark, fmt::format("\"{}\" is not a network", item.shown()),
                              "an address with a prefix length: 10.0.0.0/8, fd00::/8, or a single address");
  });
}

void read_listen(Section section, Listen& listen) {
  section.read("postgres", listen.postgres);
  section.read("mysql", listen.mysql);
  section.section("tls", [&](Section tls) { read_tls(std::move(tls), listen.tls); });
  section.read("proxy_protocol_from", listen.proxy_protocol_from);
  check_networks(section, "proxy_protocol_from");
  section.read("backlog", listen.backlog);
  section.read("login_timeout", listen.login_timeout);
  section.read("max_clients", listen.max_clients);
  section.read("max_clients_per_address", listen.max_clients_per_address);
  section.finish();
  if (section.node().find("postgres") == nullptr && section.node().find("mysql") == nullptr) {
    section.context().problem(section.mark(), "nothing to listen on", "give listen.postgres: host:port");
  }
}

void read_admin(Section section, Admin& admin) {
  section.read("listen", admin.listen);
  section.each_section("tokens", [&](Section token) {
    AdminToken one{};
    token.read("role", one.role);
    token.read("token", one.token);
    token.finish();
    admin.tokens.push_back(std::move(one));
  });
  section.read("certificate", admin.certificate);
  section.read("private_key", admin.private_key);
  section.read("allowed_hosts", admin.allowed_hosts);
  section.read("console_admins", admin.console_admins);
  section.read("console_viewers", admin.console_viewers);
  section.finish();

  const bool certificate = section.has("certificate");
  if (certificate != section.has("private_key")) {
    section.problem(certificate ? "certificate" : "private_key", "a certificate and its private key come together");
  }
  if (!admin.listen || is_loopback(*admin.listen)) return;
  const std::string where = section.find("listen")->shown();
  if (!certificate) {
    section.problem(
        "listen",
        fmt::format("the admin endpoint on \"{}\" can be reached from elsewhere and has no certificate", where),
        "listen on 127.0.0.1, or give certificate and private_key");
  }
  if (!section.has("tokens") || section.find("tokens")->items.empty()) {
    section.problem("listen",
                    fmt::format("the admin endpoint on \"{}\" can be reached from elsewhere and has no tokens", where),
                    "listen on 127.0.0.1, or give tokens");
  }
}

void read_store(Section section, Store& store) {
  StoreSqlite sqlite;
  StoreEtcd etcd;
  section.read("sqlite", sqlite.path);
  section.read("etcd", etcd.endpoints);
  section.finish();
  section.each_text("etcd", [&](const Node& item) {
    if (is_endpoint(item.text)) return;
    section.context().problem(item.mark, fmt::format("\"{}\" is not an etcd endpoint", item.shown()),
                              "http://host:port or https://host:port");
  });
  const bool both = section.has("sqlite") && section.has("etcd");
  const bool neither = section.node().find("sqlite") == nullptr && section.node().find("etcd") == nullptr;
  if (both || neither) {
    section.context().problem(section.mark(),
                              fmt::format("the store must be {} sqlite and etcd", both ? "only one of" : "one of"),
                              "{sqlite: /path/to/topology.db} or {etcd: [http://host:port]}");
  }
  if (section.has("etcd")) {
    store = std::move(etcd);
  } else if (section.has("sqlite")) {
    store = std::move(sqlite);
  }
}

void read_log(Section section, Log& log) {
  section.read("level", log.level);
  section.read("format", log.format);
  section.read("file", log.file);
  section.read("slow_statement", log.slow_statement);
  section.read("statement_text", log.statement_text);
  section.finish();
}

}  // namespace tessera::config
