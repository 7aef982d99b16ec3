#include "wire/postgres/server_login.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "wire/postgres/frontend.hpp"
#include "wire/postgres/md5.hpp"

namespace tessera::postgres {
namespace {

using namespace std::literals;
using Step = ServerLoginStep;

ServerLogin::Options options(ServerCredential credential = PlainPassword{Secret("pw")},
                             ServerTls tls = ServerTls::off) {
  ServerLogin::Options made;
  made.startup.user = "alice";
  made.startup.database = "shop";
  made.credential = std::move(credential);
  made.tls = tls;
  return made;
}

std::string auth_ok() {
  std::string out;
  append_authentication_ok(out);
  return out;
}
std::string ready() {
  std::string out;
  append_ready_for_query(out, TransactionStatus::idle);
  return out;
}
std::string settling() {
  std::string out;
  EXPECT_TRUE(append_parameter_status(out, "server_version", "15.4"));
  EXPECT_TRUE(append_parameter_status(out, "TimeZone", "UTC"));
  append_error(out, {sqlstate::internal_error, "a warning", {}, {}, 0}, Severity::warning);
  EXPECT_TRUE(append_parameter_status(out, "TimeZone", "CET"));
  EXPECT_TRUE(append_backend_key_data(out, 77, "keyK"));
  return out;
}

// A server that plays PostgreSQL: takes what Tessera sent, returns what it answers. Answers arrive in pieces of `piece`
// bytes, 0 for all at once.
class Server {
public:
  enum class Method { trust, cleartext, md5, scram, scram_plus };
  explicit Server(Method method, std::size_t piece = 0) : method_(method), piece_(piece) {
    std::optional<std::string> binding;
    if (method == Method::scram_plus) binding = "hash";
    scram_.emplace(secret(), binding);
  }
  static const ScramSecret& secret() {
    static const ScramSecret made = ScramSecret::from_password("pw", 2);
    return made;
  }

  Step run(ServerLogin& login, std::optional<std::string> binding = {}) {
    std::string sent;
    Step step = login.start(sent);
    std::string input;
    while (step == Step::need_bytes || step == Step::start_tls || step == Step::need_keys) {
      if (step == Step::start_tls) {
        sent.clear();
        step = login.on_tls(binding, sent);
      } else if (step == Step::need_keys) {
        step = login.on_keys(derive_scram_keys(login.key_request()), sent);
      } else {
        to_come_ += answer(std::exchange(sent, {}));
        if (to_come_.empty()) return step;  // stuck
        const std::size_t count = piece_ == 0 ? to_come_.size() : piece_;
        input += to_come_.substr(0, count);
        to_come_.erase(0, count);
        std::size_t consumed = 0;
        step = login.on_bytes(input, consumed, sent);
        input.erase(0, consumed);
      }
    }
    return step;
  }

  char tls_answer = 'S';
  std::string after_auth = settling() + ready();

private:
  std::string answer(std::string_view message) {
    if (message.empty()) return "";
    if (message[0] == '\0' && message.size() == 8) return std::string(1, tls_answer);
    if (message[0] == '\0') return first_request();
    FrameHeader header;
    EXPECT_EQ(peek_frame(message, max_message_length, header), FrameStatus::complete);
    EXPECT_EQ(header.type, 'p');
    const std::string_view body = frame_body(message, header);
    if (method_ == Method::cleartext) return result(body == "pw\0"sv);
    if (method_ == Method::md5) return result(body == *md5_response(*md5_verifier("pw", "alice"), "salt") + '\0');
    return sasl(body);
  }
  std::string first_request() {
    std::string out;
    if (method_ == Method::trust) return result(true);
    if (method_ == Method::cleartext) append_authentication_cleartext(out);
    if (method_ == Method::md5) EXPECT_TRUE(append_authentication_md5(out, "salt"));
    if (method_ == Method::scram || method_ == Method::scram_plus) {
      const std::vector<std::string_view> names = {scram_sha_256_plus, scram_sha_256};
      EXPECT_TRUE(append_authentication_sasl(out, std::span(names).subspan(method_ == Method::scram ? 1 : 0)));
    }
    return out;
  }
  std::string sasl(std::string_view body) {
    std::string out;
    if (!std::exchange(first_seen_, true)) {
      SaslInitialView initial;
      EXPECT_TRUE(parse_sasl_initial(body, initial));
      const auto challenge = scram_->on_client_first(initial.mechanism, *initial.data);
      if (!challenge) return result(false);
      EXPECT_TRUE(append_authentication_sasl_continue(out, *challenge));
      return out;
    }
    const auto final = scram_->on_client_final(body);
    if (!final) return result(false);
    EXPECT_TRUE(append_authentication_sasl_final(out, *final));
    return out + result(true);
  }
  std::string result(bool right) const {
    if (right) return auth_ok() + after_auth;
    std::string out;
    append_error(out, {sqlstate::invalid_password, "no", {}, {}, 0}, Severity::fatal);
    return out;
  }

  Method method_;
  std::size_t piece_;
  std::optional<ScramServer> scram_;
  std::string to_come_;
  bool first_seen_ = false;
};

using Method = Server::Method;

TEST(ServerLogin, EveryMethodByteByByteAndAtOnce) {
  for (const std::size_t piece : {0u, 1u, 2u, 7u}) {
    for (const Method method : {Method::trust, Method::cleartext, Method::md5, Method::scram, Method::scram_plus}) {
      ServerLogin login(options(PlainPassword{Secret("pw")}, ServerTls::require));
      EXPECT_EQ(Server(method, piece).run(login, "hash"), Step::ready)
          << static_cast<int>(method) << ": " << login.error().message;
      EXPECT_TRUE(login.greeting().tls);
      EXPECT_EQ(login.greeting().pid, 77u);
      EXPECT_EQ(login.greeting().key, "keyK");
      EXPECT_EQ(login.greeting().password_proved, method != Method::trust);
      EXPECT_THAT(login.greeting().parameters, ::testing::ElementsAre(::testing::Pair("server_version", "15.4"),
                                                                      ::testing::Pair("TimeZone", "CET")));
      ServerLogin wrong(options(PlainPassword{Secret("pW")}, ServerTls::require));
      EXPECT_EQ(Server(method, piece).run(wrong, "hash"), method == Method::trust ? Step::ready : Step::failed);
    }
  }
}

TEST(ServerLogin, OtherCredentials) {
  ServerLogin keys(options(derive_scram_keys("pw", Server::secret().salt, Server::secret().iterations)));
  EXPECT_EQ(Server(Method::scram).run(keys), Step::ready) << keys.error().message;
  ServerLogin verifier(options(Md5Verifier{Secret(*md5_verifier("pw", "alice"))}));
  EXPECT_EQ(Server(Method::md5).run(verifier), Step::ready) << verifier.error().message;
  ServerLogin none(options(std::monostate{}));
  EXPECT_EQ(Server(Method::trust).run(none), Step::ready);
  for (const Method method : {Method::md5, Method::scram}) {
    ServerLogin refused(options(std::monostate{}));
    EXPECT_EQ(Server(method).run(refused), Step::failed);
    EXPECT_EQ(refused.error().code, sqlstate::invalid_authorization);
  }
  ServerLogin not_for_scram(options(Md5Verifier{Secret(*md5_verifier("pw", "alice"))}));
  EXPECT_EQ(Server(Method::scram).run(not_for_scram), Step::failed);
  EXPECT_THAT(not_for_scram.error().hint, ::testing::HasSubstr("md5"));
}

TEST(ServerLogin, ClearTextIsSentOnlyUnderTlsOrLocally) {
  ServerLogin open(options());
  EXPECT_EQ(Server(Method::cleartext).run(open), Step::failed);
  EXPECT_EQ(open.error().code, sqlstate::connection_rejected);
  ServerLogin fallen_back(options(PlainPassword{Secret("pw")}, ServerTls::prefer));
  Server without_tls(Method::cleartext);
  without_tls.tls_answer = 'N';
  EXPECT_EQ(without_tls.run(fallen_back), Step::failed);
  auto local = options();
  local.local = true;
  ServerLogin socket(local);
  EXPECT_EQ(Server(Method::cleartext).run(socket), Step::ready);
}

TEST(ServerLogin, TlsAnswers) {
  const auto after = [](ServerTls tls, std::string_view answer) {
    ServerLogin login(options(PlainPassword{Secret("pw")}, tls));
    std::string out;
    EXPECT_EQ(login.start(out), Step::need_bytes);
    EXPECT_EQ(out, "\0\0\0\10\4\322\26\57"sv);
    out.clear();
    std::size_t consumed = 0;
    const Step step = login.on_bytes(answer, consumed, out);
    EXPECT_EQ(login.error().message.find("evil"), std::string::npos);
    if (step != Step::need_bytes) EXPECT_EQ(out, "");
    return step;
  };
  EXPECT_EQ(after(ServerTls::require, "S"), Step::start_tls);
  EXPECT_EQ(after(ServerTls::prefer, "S"), Step::start_tls);
  EXPECT_EQ(after(ServerTls::require, "N"), Step::failed);
  EXPECT_EQ(after(ServerTls::prefer, "N"), Step::need_bytes);
  for (const ServerTls tls : {ServerTls::prefer, ServerTls::require}) {
    EXPECT_EQ(after(tls, "S" + auth_ok()), Step::failed);  // CVE-2021-23222
    EXPECT_EQ(after(tls, "SS"), Step::failed);
    EXPECT_EQ(after(tls, "N" + auth_ok()), Step::failed);
    EXPECT_EQ(after(tls, "E\0\0\0\20Mevil text\0\0"sv), Step::failed);  // CVE-2024-10977
    for (int byte = 0; byte < 256; ++byte) {
      const std::string answer(1, static_cast<char>(byte));
      if (answer != "S" && answer != "N") EXPECT_EQ(after(tls, answer), Step::failed) << byte;
    }
  }
}

// The machine in each state in which it reads messages: 0 the first request is awaited, 1 a password was sent,
// 2 server-first, 3 server-final, 4 AuthenticationOk after it, 5 settling.
ServerLogin in_state(int state) {
  ServerLogin login(options(derive_scram_keys("pw", Server::secret().salt, Server::secret().iterations)));
  if (state == 1) login = ServerLogin(options());
  std::string out;
  std::size_t consumed = 0;
  login.start(out);
  std::string request;
  ScramServer scram(Server::secret(), {});
  if (state == 1) EXPECT_TRUE(append_authentication_md5(request, "salt"));
  if (state == 5) request = auth_ok();
  if (state >= 2 && state <= 4) {
    const std::vector<std::string_view> names = {scram_sha_256};
    EXPECT_TRUE(append_authentication_sasl(request, names));
  }
  if (state > 0) {
    out.clear();
    EXPECT_EQ(login.on_bytes(request, consumed, out), Step::need_bytes);
  }
  if (state == 3 || state == 4) {
    SaslInitialView initial;
    EXPECT_TRUE(parse_sasl_initial(std::string_view(out).substr(5), initial));
    request.clear();
    EXPECT_TRUE(append_authentication_sasl_continue(request, *scram.on_client_first(initial.mechanism, *initial.data)));
    out.clear();
    EXPECT_EQ(login.on_bytes(request, consumed, out), Step::need_bytes);
  }
  if (state == 4) {
    request.clear();
    EXPECT_TRUE(append_authentication_sasl_final(request, *scram.on_client_final(std::string_view(out).substr(5))));
    EXPECT_EQ(login.on_bytes(request, consumed, out), Step::need_bytes);
  }
  return login;
}

Step feed(ServerLogin& login, std::string_view bytes) {
  std::string out;
  std::size_t consumed = 0;
  const Step step = login.on_bytes(bytes, consumed, out);
  if (step == Step::failed) {
    EXPECT_FALSE(login.error().message.empty());
    EXPECT_EQ(out, "");
    EXPECT_EQ(login.on_bytes(ready(), consumed, out), Step::failed);  // and stays failed
  }
  return step;
}

TEST(ServerLogin, EveryMessageTypeInEveryState) {
  for (int state = 0; state <= 5; ++state) {
    for (int type = 0; type < 256; ++type) {
      // Notices and NegotiateProtocolVersion may come at any time, and Authentication messages are the next test's.
      if (type == 'N' || type == 'v' || type == 'R') continue;
      if (state == 5 && (type == 'S' || type == 'K' || type == 'Z')) continue;
      ServerLogin login = in_state(state);
      EXPECT_EQ(feed(login, std::string(1, static_cast<char>(type)) + "\0\0\0\5\0"s), Step::failed)
          << state << " " << type;
    }
  }
}

TEST(ServerLogin, EveryAuthenticationRequestInEveryState) {
  for (int state = 0; state <= 5; ++state) {
    for (char request = 0; request < 20; ++request) {
      const bool may_pass = (state == 0 && (request == 0 || request == 3 || request == 5 || request == 10)) ||
                            ((state == 1 || state == 4) && request == 0);
      if (may_pass) continue;
      for (const std::string_view data : {""sv, "salt"sv, "r=x,s=c2FsdA==,i=1"sv, "SCRAM-SHA-256\0\0"sv, "v=AAAA"sv}) {
        ServerLogin login = in_state(state);
        std::string message = "R\0\0\0"s;
        message += static_cast<char>(8 + data.size());
        message.append(3, '\0').append(1, request).append(data);
        EXPECT_EQ(feed(login, message + ready()), Step::failed) << state << " " << static_cast<int>(request);
      }
    }
  }
}

TEST(ServerLogin, ScramCannotBeCutShort) {
  for (const int state : {2, 3}) {
    ServerLogin login = in_state(state);
    EXPECT_EQ(feed(login, auth_ok() + ready()), Step::failed) << state;
    EXPECT_EQ(login.error().code, sqlstate::protocol_violation);
  }
  ServerLogin verified = in_state(4);
  EXPECT_EQ(feed(verified, auth_ok() + ready()), Step::ready);
  ServerLogin password = in_state(1);
  EXPECT_EQ(feed(password, auth_ok() + ready()), Step::ready);
  ServerLogin without_ok = in_state(4);
  EXPECT_EQ(feed(without_ok, ready()), Step::failed);
}

TEST(ServerLogin, ErrorsOfTheServerArePassedOn) {
  std::string message;
  append_error(message, {sqlstate::too_many_connections, "sorry, too many clients already", "d", "h", 0},
               Severity::fatal);
  for (int state = 0; state <= 5; ++state) {
    ServerLogin login = in_state(state);
    EXPECT_EQ(feed(login, message), Step::failed);
    EXPECT_EQ(login.error(), (Error{sqlstate::too_many_connections, "sorry, too many clients already", "d", "h", 0}));
  }
  ServerLogin empty = in_state(0);
  std::string out;
  std::size_t consumed = 0;
  EXPECT_EQ(empty.on_bytes("E\0\0\0\7M\0\0"sv, consumed, out), Step::failed);
  EXPECT_EQ(empty.on_bytes(auth_ok(), consumed, out), Step::failed);
}

TEST(ServerLogin, HostileLengths) {
  for (const std::string_view header :
       {"R\0\0\0\0"sv, "R\0\0\0\1"sv, "R\0\0\0\3"sv, "R\0\1\0\0"sv, "R\x7f\xff\xff\xff"sv, "R\x80\0\0\0"sv,
        "R\x80\0\0\1"sv, "R\xff\xff\xff\xff"sv}) {
    ServerLogin login = in_state(0);
    EXPECT_EQ(feed(login, header), Step::failed);
  }
}

TEST(ServerLogin, EndlessGreetingsEnd) {
  ServerLogin many = in_state(5);
  Step step = Step::need_bytes;
  for (int i = 0; i < 1'001 && step == Step::need_bytes; ++i) {
    std::string message;
    ASSERT_TRUE(append_parameter_status(message, "p" + std::to_string(i), "v"));
    step = feed(many, message);
  }
  EXPECT_EQ(step, Step::failed);
  ServerLogin large = in_state(5);
  step = Step::need_bytes;
  int rounds = 0;
  for (; rounds < 100 && step == Step::need_bytes; ++rounds) {
    std::string message;
    ASSERT_TRUE(append_parameter_status(message, "same", std::string(10'000, 'v')));
    step = feed(large, message);
  }
  EXPECT_EQ(step, Step::failed);
  EXPECT_LT(rounds, 40);
}

TEST(ServerLogin, ANewConnectionMustBeIdle) {
  std::string message;
  append_ready_for_query(message, TransactionStatus::in_transaction);
  ServerLogin login = in_state(5);
  EXPECT_EQ(feed(login, message), Step::failed);
}

TEST(ServerLogin, BytesBehindReadyBelongToTheSession) {
  ServerLogin login = in_state(5);
  std::string out;
  std::size_t consumed = 0;
  EXPECT_EQ(login.on_bytes(ready() + "more", consumed, out), Step::ready);
  EXPECT_EQ(consumed, 6u);
}

TEST(ServerLogin, StepsOutOfPlaceFail) {
  std::string out;
  std::size_t consumed = 0;
  ServerLogin not_started(options());
  EXPECT_EQ(not_started.on_bytes(auth_ok(), consumed, out), Step::failed);
  ServerLogin no_tls(options());
  no_tls.start(out);
  EXPECT_EQ(no_tls.on_tls({}, out), Step::failed);
  ServerLogin no_keys(options());
  no_keys.start(out);
  EXPECT_EQ(no_keys.on_keys({}, out), Step::failed);
  ServerLogin twice(options());
  twice.start(out);
  EXPECT_EQ(twice.start(out), Step::failed);
  ServerLogin in_handshake(options(std::monostate{}, ServerTls::require));
  in_handshake.start(out);
  EXPECT_EQ(in_handshake.on_bytes("S", consumed, out), Step::start_tls);
  EXPECT_EQ(in_handshake.on_bytes(auth_ok(), consumed, out), Step::failed);
}

TEST(ServerLogin, AStartupPacketThatDoesNotFitIsRefused) {
  auto large = options();
  large.startup.parameters = {{"search_path", std::string(10'000, 'x')}};
  ServerLogin login(large);
  std::string out;
  EXPECT_EQ(login.start(out), Step::failed);
  EXPECT_EQ(out, "");
}

}  // namespace
}  // namespace tessera::postgres
