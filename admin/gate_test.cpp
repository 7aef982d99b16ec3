#include "admin/gate.hpp"

#include <gtest/gtest.h>

namespace tessera::admin {
namespace {

config::Admin settings_with_tokens() {
  config::Admin settings;
  settings.listen = config::Address{"127.0.0.1", 7432};
  settings.tokens.push_back({config::AdminRole::viewer, Secret("view")});
  settings.tokens.push_back({config::AdminRole::operator_, Secret("operate")});
  settings.tokens.push_back({config::AdminRole::admin, Secret("rule")});
  return settings;
}

HttpRequest request(std::vector<std::pair<std::string, std::string>> headers) {
  HttpRequest made;
  made.method = "GET";
  made.target = "/v1/pools";
  made.headers = std::move(headers);
  made.from_loopback = true;
  return made;
}

unsigned status(const std::optional<HttpResponse>& refusal) {
  return refusal ? refusal->status : 200;
}

TEST(Gate, HostMustBeOurs) {
  config::Admin settings = settings_with_tokens();
  settings.allowed_hosts = {"db.example.com", "other.example.com:8443"};
  const std::pair<const char*, unsigned> cases[] = {{"127.0.0.1:7432", 200},
                                                    {"127.0.0.1", 200},
                                                    {"localhost:7432", 200},
                                                    {"LocalHost", 200},
                                                    {"[::1]:7432", 200},
                                                    {"db.example.com", 200},
                                                    {"DB.example.com:80", 200},
                                                    {"other.example.com:8443", 200},
                                                    {"other.example.com", 421},
                                                    {"other.example.com:1", 421},
                                                    {"127.0.0.1:7433", 421},
                                                    {"evil.example.com", 421},
                                                    {"localhost.evil.com", 421},
                                                    {"127.0.0.1.evil.com:7432", 421},
                                                    {"", 400},
                                                    {":7432", 400},
                                                    {"localhost:", 400},
                                                    {"localhost:74x", 400},
                                                    {"[::1", 400},
                                                    {"user@localhost", 400},
                                                    {"localhost, evil", 400}};
  for (const auto& [host, expected] : cases)
    EXPECT_EQ(status(check_request(request({{"host", host}}), settings)), expected) << host;
  EXPECT_EQ(status(check_request(request({}), settings)), 400u);
  EXPECT_EQ(status(check_request(request({{"host", "localhost"}, {"host", "localhost"}}), settings)), 400u);
}

TEST(Gate, AnAddressThatIsNotLoopbackDoesNotAnswerToLoopbackNumbers) {
  config::Admin settings = settings_with_tokens();
  settings.listen = config::Address{"10.0.0.5", 7432};
  EXPECT_EQ(status(check_request(request({{"host", "10.0.0.5:7432"}}), settings)), 200u);
  EXPECT_EQ(status(check_request(request({{"host", "127.0.0.1:7432"}}), settings)), 421u);
}

TEST(Gate, PagesOfOtherSitesAreRefused) {
  const config::Admin settings = settings_with_tokens();
  const auto with_origin = [&](const std::string& origin) {
    return status(check_request(request({{"host", "localhost:7432"}, {"origin", origin}}), settings));
  };
  EXPECT_EQ(with_origin("http://localhost:7432"), 200u);
  EXPECT_EQ(with_origin("https://localhost:7432"), 200u);
  EXPECT_EQ(with_origin("http://localhost"), 403u);
  EXPECT_EQ(with_origin("http://127.0.0.1:7432"), 403u);
  EXPECT_EQ(with_origin("http://evil.example.com"), 403u);
  EXPECT_EQ(with_origin("http://localhost:7432.evil.com"), 403u);
  EXPECT_EQ(with_origin("null"), 403u);
  EXPECT_EQ(with_origin(""), 403u);
}

TEST(Gate, FramingIsUnambiguous) {
  const config::Admin settings = settings_with_tokens();
  const auto with = [&](std::vector<std::pair<std::string, std::string>> headers) {
    headers.emplace_back("host", "localhost");
    return status(check_request(request(std::move(headers)), settings));
  };
  EXPECT_EQ(with({{"content-length", "5"}}), 200u);
  EXPECT_EQ(with({{"transfer-encoding", "Chunked"}}), 200u);
  EXPECT_EQ(with({{"content-length", "5"}, {"content-length", "5"}}), 400u);
  EXPECT_EQ(with({{"content-length", "5, 5"}}), 400u);
  EXPECT_EQ(with({{"content-length", "+5"}}), 400u);
  EXPECT_EQ(with({{"content-length", ""}}), 400u);
  EXPECT_EQ(with({{"content-length", "5"}, {"transfer-encoding", "chunked"}}), 400u);
  EXPECT_EQ(with({{"transfer-encoding", "chunked"}, {"transfer-encoding", "chunked"}}), 400u);
  EXPECT_EQ(with({{"transfer-encoding", "gzip, chunked"}}), 400u);
  EXPECT_EQ(with({{"authorization", "Bearer a"}, {"authorization", "Bearer b"}}), 400u);
}

TEST(Gate, EachRoleReachesItsOwnAndWhatIsBelow) {
  const config::Admin settings = settings_with_tokens();
  const auto with_token = [&](const char* token, Access access) {
    return status(check_access(request({{"authorization", std::string("Bearer ") + token}}), access, settings));
  };
  const struct {
    const char* token;
    unsigned everyone, viewer, operator_, admin;
  } cases[] = {{"view", 200, 200, 403, 403},  {"operate", 200, 200, 200, 403}, {"rule", 200, 200, 200, 200},
               {"wrong", 200, 401, 401, 401}, {"", 200, 401, 401, 401},        {"view ", 200, 401, 401, 401},
               {"View", 200, 401, 401, 401}};
  for (const auto& one : cases) {
    EXPECT_EQ(with_token(one.token, Access::everyone), one.everyone) << one.token;
    EXPECT_EQ(with_token(one.token, Access::viewer_or_loopback), one.viewer) << one.token;
    EXPECT_EQ(with_token(one.token, Access::viewer), one.viewer) << one.token;
    EXPECT_EQ(with_token(one.token, Access::operator_), one.operator_) << one.token;
    EXPECT_EQ(with_token(one.token, Access::admin), one.admin) << one.token;
  }
  EXPECT_EQ(status(check_access(request({{"authorization", "Basic dmlldw=="}}), Access::viewer, settings)), 401u);
  EXPECT_EQ(status(check_access(request({{"authorization", "bearer view"}}), Access::viewer, settings)), 200u);
}

TEST(Gate, WithoutATokenOnlyHealthIsOpenAndOnlyToThisMachine) {
  const config::Admin settings = settings_with_tokens();
  HttpRequest local = request({}), remote = request({});
  remote.from_loopback = false;
  EXPECT_EQ(status(check_access(local, Access::viewer_or_loopback, settings)), 200u);
  EXPECT_EQ(status(check_access(local, Access::viewer, settings)), 401u);
  EXPECT_EQ(status(check_access(remote, Access::viewer_or_loopback, settings)), 401u);
  EXPECT_EQ(status(check_access(remote, Access::everyone, settings)), 200u);
}

TEST(Gate, WithoutAnyConfiguredTokenThisMachineMayDoAll) {
  config::Admin settings = settings_with_tokens();
  settings.tokens.clear();
  HttpRequest local = request({}), remote = request({});
  remote.from_loopback = false;
  EXPECT_EQ(status(check_access(local, Access::admin, settings)), 200u);
  EXPECT_EQ(status(check_access(remote, Access::viewer, settings)), 401u);
  EXPECT_EQ(status(check_access(request({{"authorization", "Bearer x"}}), Access::viewer, settings)), 401u);
}

TEST(Gate, BodiesAreJsonAndOnlyWithPost) {
  const auto with = [](const char* method, const char* type, const char* body) {
    HttpRequest made = request({{"content-type", type}});
    made.method = method;
    made.body = body;
    return status(check_body(made));
  };
  EXPECT_EQ(with("POST", "application/json", "{\"a\": [1]}"), 200u);
  EXPECT_EQ(with("POST", "Application/JSON; charset=utf-8", "{}"), 200u);
  EXPECT_EQ(with("POST", "text/plain", "{}"), 415u);
  EXPECT_EQ(with("POST", "application/x-www-form-urlencoded", "a=b"), 415u);
  EXPECT_EQ(with("POST", "application/json", "{"), 400u);
  EXPECT_EQ(with("GET", "application/json", "{}"), 400u);
  EXPECT_EQ(with("POST", "application/json", std::string(200'000, '[').c_str()), 400u);
  EXPECT_EQ(with("POST", "text/plain", ""), 200u);
}

TEST(HttpRequest, ParametersAreDecoded) {
  HttpRequest made;
  made.target = "/v1/sessions?database=a%20b%2F&limit=5&bad=%zz&empty=&cut=%4";
  EXPECT_EQ(made.path(), "/v1/sessions");
  EXPECT_EQ(made.parameter("database"), "a b/");
  EXPECT_EQ(made.parameter("limit"), "5");
  EXPECT_EQ(made.parameter("empty"), "");
  EXPECT_FALSE(made.parameter("bad"));
  EXPECT_FALSE(made.parameter("cut"));
  EXPECT_FALSE(made.parameter("absent"));
  made.target = "/v1/sessions";
  EXPECT_FALSE(made.parameter("limit"));
}

}  // namespace
}  // namespace tessera::admin
