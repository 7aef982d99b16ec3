#include "config/keys.hpp"

namespace tessera::config {
namespace {

using key::choice;
using key::int_max;
using key::integer;
using key::not_yet;
using key::of;
using key::required;
using key::section;
using key::without_effect;

constexpr Key tls_keys[] = {
    required(
        choice("mode", client_tls_modes, {},
               "disable: no TLS. allow, prefer: TLS for clients that ask. require: TLS only. verify-ca, verify-full: "
               "and a client certificate, which for verify-full carries the user's name.")),
    of(Kind::pem, "certificate", "PEM file with the server's certificate chain."),
    of(Kind::pem, "private_key", "PEM file with its private key."),
    of(Kind::pem, "client_ca", "PEM file with the authorities that sign client certificates."),
    choice("min_version", tls_versions, "1.2", "Lowest TLS version spoken with clients."),
};
constexpr SectionSpec tls_section{"listen.tls", tls_keys};

constexpr Key listen_keys[] = {
    of(Kind::address, "postgres", "Where PostgreSQL clients connect."),
    not_yet(of(Kind::address, "mysql", "Where MySQL clients connect; not in this version."),
            "leave it out: this version serves PostgreSQL clients only"),
    section(Kind::section, "tls", tls_section, "TLS between clients and Tessera."),
    of(Kind::texts, "proxy_protocol_from",
       "Networks whose PROXY protocol header is believed; none: the header is refused."),
    integer("backlog", 1, 65535, "4096", "Connections that the kernel may queue before they are accepted."),
    of(Kind::duration, "login_timeout", "Longest time from the connection to the end of authentication.", "15s"),
    integer("max_clients", 0, int_max, "0", "Most clients in total; 0: as many as file descriptors allow."),
    integer("max_clients_per_address", 0, int_max, "0", "Most clients from one address; 0: unlimited."),
};
constexpr SectionSpec listen_section{"listen", listen_keys};

constexpr Key token_keys[] = {
    required(choice("role", admin_roles, {}, "What the bearer may do.")),
    required(of(Kind::secret, "token", "The bearer token.")),
};
constexpr SectionSpec token_section{"admin.tokens", token_keys};

constexpr Key admin_keys[] = {
    of(Kind::address, "listen", "Where the HTTP admin endpoint listens; absent: there is none."),
    section(Kind::sections, "tokens", token_section, "Bearer tokens and their roles."),
    of(Kind::pem, "certificate", "PEM file; with it the endpoint speaks HTTPS."),
    of(Kind::pem, "private_key", "PEM file with the certificate's private key."),
    of(Kind::texts, "allowed_hosts", "Host names that a request may carry, beside the listen address and localhost."),
    of(Kind::texts, "console_admins",
       "Users who may use the console (the database `pgbouncer`) with all its commands."),
    of(Kind::texts, "console_viewers", "Users who may use the console with SHOW only."),
};
constexpr SectionSpec admin_section{"admin", admin_keys};

constexpr Key store_keys[] = {
    of(Kind::path, "sqlite", "SQLite file that keeps the topology; for one proxy."),
    of(Kind::texts, "etcd", "etcd endpoints that keep the topology; for a fleet of proxies."),
};
constexpr SectionSpec store_section{"store", store_keys};

constexpr Key log_keys[] = {
    choice("level", log_levels, "info", "Least important lines that are written."),
    choice("format", log_formats, "logfmt", "How a line is written."),
    of(Kind::path, "file", "File that lines go to, reopened on SIGHUP; absent: standard error."),
    of(Kind::duration, "slow_statement", "Statements slower than this are logged; absent: none."),
    of(Kind::boolean, "statement_text", "Slow statements with literals and comments; else without.", "false"),
};
constexpr SectionSpec log_section{"log", log_keys};

constexpr Key root_keys[] = {
    required(section(Kind::section, "listen", listen_section, "Where clients connect.")),
    section(Kind::section, "admin", admin_section, "The HTTP admin endpoint."),
    Key{.name = "workers",
        .kind = Kind::workers,
        .about = "Threads that serve clients; auto, or 0: one per core.",
        .standard = "auto",
        .min = 0,
        .max = 1024},
    of(Kind::boolean, "io_uring",
       "Is what many connections have to send sent by one system call, where the kernel lets us; false: each by its "
       "own.",
       "true"),
    without_effect(section(Kind::section, "store", store_section,
                           "Where the sharding map is kept: exactly one of the keys; no effect in this version.")),
    section(Kind::section, "log", log_section, "The log."),
    of(Kind::duration, "drain_timeout", "After SIGTERM, the longest wait for transactions to end.", "1m"),
    of(Kind::path, "pid_file", "File that the process id is written to; absent: none."),
    required(
        section(Kind::named_sections, "databases", database_section, "The databases, by the name that clients use.")),
};

}  // namespace

constexpr SectionSpec root_section{"the configuration", root_keys};

const Key* SectionSpec::find(std::string_view name) const {
  for (const Key& one : keys) {
    if (one.name == name) return &one;
  }
  return nullptr;
}

}  // namespace tessera::config
