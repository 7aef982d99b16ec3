#include "admin/commands.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <optional>

#include "admin/ids.hpp"
#include "config/load.hpp"
#include "net/tls.hpp"
#include "proxy/runtime.hpp"
#include "router/catalog.hpp"
#include "router/topology.hpp"

namespace tessera::admin {

namespace {

void print(const std::string& text) {
  std::fputs((text + '\n').c_str(), stdout);
}

// The router's errors carry their place as "file:line:column".
std::optional<config::SourcePosition> place_of(const std::string& text) {
  config::SourcePosition place;
  const std::size_t second = text.rfind(':');
  const std::size_t first = second == std::string::npos || second == 0 ? second : text.rfind(':', second - 1);
  if (first == std::string::npos) return {};
  const auto number = [&](std::size_t begin, std::size_t end, int& out) {
    const auto [at, error] = std::from_chars(text.data() + begin, text.data() + end, out);
    return error == std::errc() && at == text.data() + end;
  };
  if (!number(first + 1, second, place.line) || !number(second + 1, text.size(), place.column)) return {};
  place.file = text.substr(0, first);
  return place;
}

nlohmann::ordered_json to_json(const std::vector<config::Problem>& problems) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const config::Problem& problem : problems)
    list.push_back({{"file", problem.where.file},
                    {"line", problem.where.line},
                    {"column", problem.where.column},
                    {"message", problem.message},
                    {"hint", problem.hint}});
  return list;
}

}  // namespace

void complain(const std::vector<config::Problem>& problems) {
  for (const config::Problem& problem : problems) std::fputs((config::to_string(problem) + '\n').c_str(), stderr);
}

// Rules that are wrong whatever the tables look like show up when they are built.
std::vector<config::Problem> rule_problems(const config::Config& config) {
  std::vector<config::Problem> problems;
  for (const config::Database& database : config.databases) {
    for (Error& error : router::Topology::problems(database, router::Catalog::from_config(database))) {
      config::Problem& problem = problems.emplace_back();
      problem.where = place_of(error.detail).value_or(database.position);
      problem.message = std::move(error.message);
      problem.hint = std::move(error.hint);
    }
  }
  return problems;
}

// A key that does not fit its certificate, or files that OpenSSL does not understand.
std::vector<config::Problem> tls_problems(const config::Config& config) {
  std::vector<config::Problem> problems;
  const auto look = [&](std::string_view section, const auto& context) {
    if (context) return;
    config::Problem& problem = problems.emplace_back();
    problem.where.file = config.source;
    problem.message = fmt::format("{}: {}", section, context.error().message);
    problem.hint = context.error().hint;
  };
  const config::ClientTls& tls = config.listen.tls;
  if (tls.mode != config::ClientTlsMode::disable) look("listen.tls", proxy::client_context(tls));
  if (!config.admin.certificate.empty())
    look("admin",
         net::TlsContext::server(
             {.certificate = config.admin.certificate, .private_key = config.admin.private_key, .client_ca = {}}));
  for (const config::Database& database : config.databases) {
    if (database.backend.tls != config::BackendTls::disable)
      look(fmt::format("databases.{}.backend", database.name), proxy::backend_context(database.backend));
  }
  return problems;
}

int check(const CheckOptions& options) {
  const config::Loaded loaded = config::load(options.config, config::real_environment());
  std::vector<config::Problem> problems = loaded.problems;
  if (loaded.config) {
    problems = rule_problems(*loaded.config);
    std::ranges::move(tls_problems(*loaded.config), std::back_inserter(problems));
  }
  const int code = problems.empty() ? 0 : 1;
  if (options.json) {
    print(nlohmann::ordered_json{
        {"valid", problems.empty()}, {"problems", to_json(problems)}, {"warnings", to_json(loaded.warnings)}}
              .dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    return code;
  }
  complain(loaded.warnings);
  complain(problems);
  if (code != 0) return code;
  print(fmt::format("{}: valid, {} database{}", options.config, loaded.config->databases.size(),
                    loaded.config->databases.size() == 1 ? "" : "s"));
  return 0;
}

int take_id_apart(const IdOptions& options) {
  const Result<std::int64_t> id = ids::parse_id(options.id);
  const Result<std::int64_t> epoch =
      options.epoch.empty() ? Result<std::int64_t>(ids::epoch) : ids::parse_epoch(options.epoch);
  for (const Result<std::int64_t>* given : {&id, &epoch}) {
    if (*given) continue;
    const Error& error = given->error();
    std::fputs(fmt::format("tessera: {}\n  hint: {}\n", error.message, error.hint).c_str(), stderr);
    return 1;
  }
  const ids::Parts parts = ids::take_apart(*id, *epoch);
  const std::string time = ids::time_text(parts.time_ms);
  if (options.json)
    print(nlohmann::ordered_json{
        {"id", *id}, {"time", time}, {"time_ms", parts.time_ms}, {"shard", parts.shard}, {"sequence", parts.sequence}}
              .dump(2));
  else
    print(fmt::format("time      {}\nshard     {}\nsequence  {}", time, parts.shard, parts.sequence));
  return 0;
}

int print_schema() {
  std::fputs(config::json_schema().c_str(), stdout);
  return 0;
}

}  // namespace tessera::admin
