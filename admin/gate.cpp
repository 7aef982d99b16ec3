#include "admin/gate.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/crypto.hpp"

namespace tessera::admin {

namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return out;
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// "host:port", "[::1]:port" or "host": without the port. Nothing: not of that form.
struct Authority {
  std::string host;
  std::string port;  // may be empty
};
std::optional<Authority> parse_authority(std::string_view text) {
  Authority out;
  std::string_view port;
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return {};
    out.host = lower(text.substr(1, end - 1));
    port = text.substr(end + 1);
  } else {
    const std::size_t colon = std::min(text.find(':'), text.size());
    out.host = lower(text.substr(0, colon));
    port = text.substr(colon);
  }
  if (out.host.empty() || out.host.find_first_of("/@\\ ,") != std::string::npos) return {};
  if (port.empty()) return out;
  if (port.front() != ':' || !is_number(port.substr(1))) return {};
  out.port = port.substr(1);
  return out;
}

bool is_loopback_name(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

bool is_allowed_host(const Authority& host, const config::Admin& settings) {
  for (const std::string& allowed : settings.allowed_hosts) {
    const std::optional<Authority> one = parse_authority(allowed);
    if (one && one->host == host.host && (one->port.empty() || one->port == host.port)) return true;
  }
  if (!settings.listen) return false;
  if (!host.port.empty() && host.port != std::to_string(settings.listen->port)) return false;
  const std::string own = lower(settings.listen->host);
  return host.host == "localhost" || host.host == own ||
         (is_loopback_name(own) && (host.host == "127.0.0.1" || host.host == "::1"));
}

unsigned rank(config::AdminRole role) {
  switch (role) {
    case config::AdminRole::viewer:
      return 1;
    case config::AdminRole::operator_:
      return 2;
    case config::AdminRole::admin:
      return 3;
  }
  return 0;
}

unsigned rank(Access access) {
  switch (access) {
    case Access::everyone:
      return 0;
    case Access::viewer_or_loopback:
    case Access::viewer:
      return 1;
    case Access::operator_:
      return 2;
    case Access::admin:
      return 3;
  }
  return 4;
}

// The rank of a token's role; 0: not a token of ours. All are compared, by their digests, whichever one fits.
unsigned rank_of_token(std::string_view token, const config::Admin& settings) {
  const Sha256Digest digest = sha256(token);
  unsigned found = 0;
  for (const config::AdminToken& known : settings.tokens) {
    const Sha256Digest wanted = sha256(known.token.reveal());
    const unsigned matches = constant_time_equal(as_view(digest), as_view(wanted)) ? 1 : 0;
    found = std::max(found, matches * rank(known.role));
  }
  return found;
}

HttpResponse unauthorized(std::string_view message) {
  HttpResponse response = error_response(401, message);
  response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"tessera\"");
  return response;
}

}  // namespace

std::string_view access_name(Access access) {
  switch (access) {
    case Access::everyone:
      return "everyone";
    case Access::viewer_or_loopback:
      return "viewer, or anyone on loopback";
    case Access::viewer:
      return "viewer";
    case Access::operator_:
      return "operator";
    case Access::admin:
      return "admin";
  }
  return "nobody";
}

std::optional<HttpResponse> check_request(const HttpRequest& request, const config::Admin& settings) {
  for (const std::string_view name :
       {"host", "content-length", "transfer-encoding", "authorization", "origin", "content-type"})
    if (request.count(name) > 1) return error_response(400, fmt::format("the header {} is there twice", name));
  const auto length = request.header("content-length");
  const auto encoding = request.header("transfer-encoding");
  if (length && encoding) return error_response(400, "Content-Length and Transfer-Encoding cannot both be given");
  if (length && !is_number(*length)) return error_response(400, "Content-Length is not a number");
  if (encoding && lower(*encoding) != "chunked") return error_response(400, "Transfer-Encoding must be chunked");

  const auto host_text = request.header("host");
  if (!host_text) return error_response(400, "the Host header is missing");
  const std::optional<Authority> host = parse_authority(*host_text);
  if (!host) return error_response(400, "the Host header is malformed");
  if (!is_allowed_host(*host, settings))
    return error_response(421, "this is not the host you asked for: admin.allowed_hosts lists further names");

  const auto origin = request.header("origin");
  if (!origin) return {};
  const std::string wanted = lower(*host_text);
  const std::string given = lower(*origin);
  if (given == "http://" + wanted || given == "https://" + wanted) return {};
  return error_response(403, "requests from pages of other sites are refused");
}

std::optional<HttpResponse> check_access(const HttpRequest& request, Access access, const config::Admin& settings) {
  const unsigned needed = rank(access);
  if (needed == 0) return {};
  if (const auto authorization = request.header("authorization")) {
    constexpr std::string_view scheme = "bearer ";
    if (lower(authorization->substr(0, scheme.size())) != scheme) return unauthorized("a bearer token is needed");
    const unsigned given = rank_of_token(authorization->substr(scheme.size()), settings);
    if (given == 0) return unauthorized("unknown token");
    if (given < needed) return error_response(403, fmt::format("this needs the role {}", access_name(access)));
    return {};
  }
  if (request.from_loopback && (settings.tokens.empty() || access == Access::viewer_or_loopback)) return {};
  return unauthorized("a bearer token is needed");
}

std::optional<HttpResponse> check_body(const HttpRequest& request) {
  if (request.body.empty()) return {};
  if (request.method != "POST") return error_response(400, "a body is not expected here");
  const std::string type = lower(request.header("content-type").value_or(""));
  const std::string_view media = std::string_view(type).substr(0, type.find_first_of("; "));
  if (media != "application/json") return error_response(415, "the body must be application/json");
  // Depth is bounded by the size of the body; the parser does not recurse.
  if (!nlohmann::json::accept(request.body)) return error_response(400, "the body is not valid JSON");
  return {};
}

}  // namespace tessera::admin
