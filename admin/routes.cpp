#include "admin/routes.hpp"

#include <charconv>
#include <fmt/format.h>
#include <limits>
#include <nlohmann/json.hpp>

#include "admin/console_page.hpp"
#include "admin/facts_json.hpp"
#include "admin/metrics_text.hpp"
#include "admin/openapi.hpp"
#include "config/load.hpp"
#include "proxy/events.hpp"
#include "proxy/gather.hpp"
#include "proxy/log.hpp"

namespace tessera::admin {

namespace {

using nlohmann::ordered_json;
using proxy::Facts;

HttpResponse json_response(const ordered_json& body, unsigned status = 200) {
  return {status, body.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n"};
}

// Collects from all workers; `answer` makes the response, on a worker's thread: it must only compute.
void with_facts(Exchange exchange, const proxy::Wanted& wanted,
                std::function<HttpResponse(const Facts&, const proxy::Server&)> answer) {
  proxy::Server* server = &exchange.server;
  const auto question = [wanted](proxy::Worker& worker) { return proxy::collect(worker, wanted); };
  proxy::gather<Facts>(*server, question,
                       [server, reply = std::move(exchange.reply), answer = std::move(answer)](
                           std::vector<Facts> parts) { reply(answer(proxy::merge(std::move(parts)), *server)); });
}

template <ordered_json (*View)(const Facts&, const proxy::Server&)>
void facts_view(Exchange exchange) {
  with_facts(std::move(exchange), {},
             [](const Facts& facts, const proxy::Server& server) { return json_response(View(facts, server)); });
}

template <ordered_json (*View)(const proxy::Server&)>
void static_view(Exchange exchange) {
  exchange.reply(json_response(View(exchange.server)));
}

// ---- process --------------------------------------------------------------------------------------------------------

void healthz(Exchange exchange) {
  exchange.reply(json_response({{"status", "ok"}}));
}

void readyz(Exchange exchange) {
  // At once, so that load balancers hear of it while the workers are still busy with ending sessions.
  if (exchange.server.draining())
    return exchange.reply(json_response({{"ready", false}, {"reasons", {"draining"}}}, 503));
  with_facts(std::move(exchange), {}, [](const Facts& facts, const proxy::Server& server) {
    const ordered_json told = readiness(facts, server);
    return json_response(told, told["ready"] ? 200 : 503);
  });
}

void metrics(Exchange exchange) {
  with_facts(std::move(exchange), {}, [](const Facts& facts, const proxy::Server& server) {
    return HttpResponse{200, metrics_text(facts, proxy::process_facts(server), server),
                        "text/plain; version=0.0.4; charset=utf-8"};
  });
}

// ---- facts ----------------------------------------------------------------------------------------------------------

constexpr std::size_t default_limit = 1'000;
constexpr std::size_t max_limit = 100'000;

// A number in the query string: `standard` if it is not there, none if it is not from `least` to `most`.
std::optional<std::uint64_t> number_in(const HttpRequest& request, std::string_view name, std::uint64_t least,
                                       std::uint64_t most, std::uint64_t standard) {
  const auto text = request.parameter(name);
  if (!text) return standard;
  std::uint64_t value = 0;
  const char* end = text->data() + text->size();
  const auto [at, error] = std::from_chars(text->data(), end, value);
  if (error != std::errc() || at != end || value < least || value > most) return {};
  return value;
}

HttpResponse bad_limit() {
  return error_response(400, fmt::format("limit must be a number from 1 to {}", max_limit));
}

void sessions(Exchange exchange) {
  const auto limit = number_in(exchange.request, "limit", 1, max_limit, default_limit);
  if (!limit) return exchange.reply(bad_limit());
  proxy::Wanted wanted;
  wanted.sessions = true;
  wanted.max_sessions = *limit;
  wanted.database = exchange.request.parameter("database").value_or("");
  with_facts(std::move(exchange), wanted, [limit = wanted.max_sessions](const Facts& facts, const proxy::Server&) {
    return json_response(sessions_json(facts, limit));
  });
}

void statements(Exchange exchange) {
  const auto limit = number_in(exchange.request, "limit", 1, max_limit, default_limit);
  if (!limit) return exchange.reply(bad_limit());
  proxy::Wanted wanted;
  wanted.statements = true;
  wanted.database = exchange.request.parameter("database").value_or("");
  with_facts(std::move(exchange), wanted, [limit = *limit](const Facts& facts, const proxy::Server&) {
    return json_response(statements_json(facts, limit));
  });
}

void events(Exchange exchange) {
  const auto after = number_in(exchange.request, "after", 0, std::numeric_limits<std::uint64_t>::max(), 0);
  if (!after) return exchange.reply(error_response(400, "after must be the id of an event"));
  exchange.reply(json_response(events_json(proxy::events().after(*after))));
}

void pools(Exchange exchange) {
  proxy::Wanted wanted;
  wanted.connections = true;
  with_facts(std::move(exchange), wanted,
             [](const Facts& facts, const proxy::Server&) { return json_response(pools_json(facts)); });
}

// ---- configuration --------------------------------------------------------------------------------------------------

void config_view(Exchange exchange) {
  exchange.reply({200, config::describe(*exchange.server.config_in_force()) + "\n"});
}

void reload(Exchange exchange) {
  proxy::Server* server = &exchange.server;
  Reply reply = exchange.reply;
  const bool taken = server->chores().post([server, reply] {
    const proxy::Server::ReloadOutcome outcome = server->reload();
    for (const std::string& problem : outcome.problems)
      proxy::log::error("configuration not reloaded, the old one stays", {{"problem", problem}});
    reply(json_response(
        {{"reloaded", outcome.problems.empty()}, {"problems", outcome.problems}, {"warnings", outcome.notes}},
        outcome.problems.empty() ? 200 : 422));
  });
  if (!taken) reply(error_response(503, "too much administrative work waits already"));
}

// ---- files ----------------------------------------------------------------------------------------------------------

// Nothing but our own script may run in the page, and nobody may frame it.
HttpResponse file(std::string_view content, std::string_view type) {
  HttpResponse response{200, std::string(content), std::string(type)};
  response.headers.emplace_back("Content-Security-Policy",
                                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri "
                                "'none'; form-action 'none'; frame-ancestors 'none'");
  return response;
}

void page(Exchange exchange) {
  exchange.reply(file(console_html(), "text/html; charset=utf-8"));
}
void script(Exchange exchange) {
  exchange.reply(file(console_js(), "text/javascript; charset=utf-8"));
}
void style(Exchange exchange) {
  exchange.reply(file(console_css(), "text/css; charset=utf-8"));
}
void openapi(Exchange exchange) {
  exchange.reply(json_response(openapi_document(routes())));
}

// ---- the table ------------------------------------------------------------------------------------------------------

constexpr std::chrono::milliseconds reload_limit{60'000};

constexpr Route table[] = {
    {"GET", "/", Access::everyone, page, "The console page"},
    {"GET", "/console.js", Access::everyone, script, "The console page's script"},
    {"GET", "/console.css", Access::everyone, style, "The console page's style"},
    {"GET", "/healthz", Access::viewer_or_loopback, healthz, "Is the process alive"},
    {"GET", "/readyz", Access::viewer_or_loopback, readyz,
     "May it get traffic: 503 while draining, or while the rules of a database do not fit its tables"},
    {"GET", "/metrics", Access::viewer_or_loopback, metrics, "Counters and gauges for Prometheus"},
    {"GET", "/v1/databases", Access::viewer, facts_view<databases_json>, "Databases with their counters"},
    {"GET", "/v1/shards", Access::viewer, facts_view<shards_json>, "Shards with their health"},
    {"GET", "/v1/tables", Access::viewer, static_view<tables_json>, "Tables and how they are spread"},
    {"GET", "/v1/rules", Access::viewer, static_view<rules_json>, "Sharding rules"},
    {"GET", "/v1/topology", Access::viewer, static_view<topology_json>,
     "Shards, rules and tables of each database as routing uses them"},
    {"GET", "/v1/pools", Access::viewer, pools, "Connection pools with their server connections"},
    {"GET", "/v1/sessions", Access::viewer, sessions,
     "Client sessions; ?database= chooses one, ?limit= bounds the answer"},
    {"GET", "/v1/statements", Access::viewer, statements,
     "Statements by their text without literals, those that took most time first; ?database= and ?limit="},
    {"GET", "/v1/events", Access::viewer, events, "The last events, oldest first; ?after= an id"},
    {"GET", "/v1/config", Access::viewer, config_view, "The configuration in force, defaults included, secrets as ***"},
    {"POST", "/v1/config/reload", Access::operator_, reload,
     "Reads the configuration again: 200, or 422 with every problem and nothing changed", reload_limit},
    {"GET", "/v1/openapi.json", Access::viewer, openapi, "This document"},
};

constexpr std::chrono::milliseconds at_once{2'000};

}  // namespace

std::span<const Route> routes() {
  return table;
}

std::chrono::milliseconds dispatch(proxy::Server& server, HttpRequest request, Reply reply) {
  const auto refuse = [&](HttpResponse response) {
    reply(std::move(response));
    return at_once;
  };
  const auto runtime = server.runtime();
  const config::Admin& settings = runtime->config->admin;
  if (auto refusal = check_request(request, settings)) return refuse(std::move(*refusal));
  const std::string_view method = request.method == "HEAD" ? std::string_view("GET") : std::string_view(request.method);
  const Route* found = nullptr;
  std::string allowed;
  for (const Route& route : table) {
    if (route.path != request.path()) continue;
    if (route.method == method) found = &route;
    allowed += fmt::format("{}{}", allowed.empty() ? "" : ", ", route.method == "GET" ? "GET, HEAD" : route.method);
  }
  if (found == nullptr && allowed.empty())
    return refuse(error_response(404, "there is nothing here: /v1/openapi.json lists what there is"));
  if (found == nullptr) {
    HttpResponse response = error_response(405, "the method is not allowed here");
    response.headers.emplace_back("Allow", allowed);
    return refuse(std::move(response));
  }
  if (auto refusal = check_access(request, found->access, settings)) return refuse(std::move(*refusal));
  if (auto refusal = check_body(request)) return refuse(std::move(*refusal));
  found->handle({server, std::move(request), std::move(reply)});
  return found->time_limit;
}

}  // namespace tessera::admin
