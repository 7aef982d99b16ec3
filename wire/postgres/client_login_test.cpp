#include "wire/postgres/client_login.hpp"

#include <gtest/gtest.h>

#include "wire/postgres/backend.hpp"
#include "wire/postgres/frontend.hpp"
#include "wire/postgres/md5.hpp"

namespace tessera::postgres {
namespace {

using namespace std::literals;

const ScramSecret& secret() {
  static const ScramSecret made = ScramSecret::from_password("pw", 2);
  return made;
}

ClientLogin::Options options(AuthMethod method, Credential credential, bool tls = false) {
  ClientLogin::Options made;
  made.user = "alice";
  made.method = method;
  made.credential = std::move(credential);
  made.tls = tls;
  made.mock_key = "mock";
  return made;
}

// A client that knows a password and answers whatever it is asked, the way drivers do.
class Client {
public:
  explicit Client(std::string password, ScramClient::Binding binding = ScramClient::Binding::none)
      : password_(std::move(password)), scram_(binding, "hash") {}

  LoginStep log_in(ClientLogin& login) {
    std::string out;
    LoginStep step = login.start(out);
    while (step == LoginStep::need_message || step == LoginStep::need_keys) {
      if (step == LoginStep::need_keys) {
        keys_derived_ += 1;
        step = login.on_keys(derive_scram_keys(login.key_request()), out);
        continue;
      }
      const std::string body = answer(out);
      out.clear();
      step = login.on_message('p', body, out);
    }
    if (step == LoginStep::ok) expect_ending(out);
    return step;
  }
  int keys_derived() const { return keys_derived_; }
  const std::string& offered() const { return offered_; }

private:
  std::string answer(const std::string& out) {
    FrameHeader header;
    EXPECT_EQ(peek_frame(out, max_message_length, header), FrameStatus::complete);
    EXPECT_EQ(header.total_size(), out.size());
    AuthenticationView auth;
    EXPECT_TRUE(parse_authentication(frame_body(out, header), auth));
    switch (auth.request) {
      case AuthRequest::cleartext:
        return password_ + '\0';
      case AuthRequest::md5:
        return *md5_response(*md5_verifier(password_, "alice"), auth.data) + '\0';
      case AuthRequest::sasl: {
        for (const auto name : auth.mechanisms) offered_.append(name).append(" ");
        std::string message;
        EXPECT_TRUE(append_sasl_initial(message, {scram_.mechanism(), scram_.first()}));
        return message.substr(frame_header_size);
      }
      case AuthRequest::sasl_continue:
        EXPECT_TRUE(scram_.on_server_first(auth.data).has_value());
        return *scram_.final_message(derive_scram_keys(password_, scram_.key_salt(), scram_.key_iterations()));
      default:
        ADD_FAILURE() << "unexpected request";
        return "";
    }
  }
  // AuthenticationOk, and before it, for SCRAM, the server's signature.
  void expect_ending(std::string_view out) {
    FrameHeader header;
    AuthenticationView auth;
    if (!offered_.empty()) {
      ASSERT_EQ(peek_frame(out, max_message_length, header), FrameStatus::complete);
      ASSERT_TRUE(parse_authentication(frame_body(out, header), auth));
      EXPECT_EQ(auth.request, AuthRequest::sasl_final);
      EXPECT_TRUE(scram_.on_server_final(auth.data).has_value());
      out.remove_prefix(header.total_size());
    }
    EXPECT_EQ(out, "R\0\0\0\10\0\0\0\0"sv);
  }

  std::string password_;
  ScramClient scram_;
  std::string offered_;
  int keys_derived_ = 0;
};

void expect_wrong_password(ClientLogin& login, Client client) {
  EXPECT_EQ(client.log_in(login), LoginStep::failed);
  EXPECT_EQ(login.error().code, sqlstate::invalid_password);
  EXPECT_EQ(login.error().message, "password authentication failed for user \"alice\"");
  EXPECT_TRUE(std::holds_alternative<std::monostate>(login.learned()));
}

TEST(ClientLogin, EveryMethodWithEveryCredential) {
  const Md5Verifier verifier{Secret(*md5_verifier("pw", "alice"))};
  const PlainPassword plain{Secret("pw")};
  using Case = std::tuple<AuthMethod, Credential, bool>;  // does the right password succeed?
  for (const auto& [method, credential, succeeds] :
       {Case{AuthMethod::scram_sha_256, secret(), true}, Case{AuthMethod::scram_sha_256, plain, true},
        Case{AuthMethod::scram_sha_256, verifier, false}, Case{AuthMethod::scram_sha_256, UnknownUser{}, false},
        Case{AuthMethod::md5, secret(), true}, Case{AuthMethod::md5, plain, true},
        Case{AuthMethod::md5, verifier, true}, Case{AuthMethod::md5, UnknownUser{}, false},
        Case{AuthMethod::cleartext, secret(), true}, Case{AuthMethod::cleartext, plain, true},
        Case{AuthMethod::cleartext, verifier, true}, Case{AuthMethod::cleartext, UnknownUser{}, false}}) {
    ClientLogin right(options(method, credential, true));
    EXPECT_EQ(Client("pw").log_in(right), succeeds ? LoginStep::ok : LoginStep::failed)
        << static_cast<int>(method) << " " << credential.index() << ": " << right.error().message;
    ClientLogin wrong(options(method, credential, true));
    expect_wrong_password(wrong, Client("pW"));
  }
}

TEST(ClientLogin, LearnsWhatCanServeAtTheServers) {
  ClientLogin scram(options(AuthMethod::scram_sha_256, secret()));
  ASSERT_EQ(Client("pw").log_in(scram), LoginStep::ok);
  ASSERT_TRUE(std::holds_alternative<ScramKeys>(scram.learned()));
  EXPECT_EQ(std::get<ScramKeys>(scram.learned()), derive_scram_keys("pw", secret().salt, secret().iterations));
  ClientLogin cleartext(options(AuthMethod::cleartext, secret(), true));
  ASSERT_EQ(Client("pw").log_in(cleartext), LoginStep::ok);
  ASSERT_TRUE(std::holds_alternative<PlainPassword>(cleartext.learned()));
  EXPECT_EQ(std::get<PlainPassword>(cleartext.learned()).password.reveal(), "pw");
}

// A server is asked whatever the credential says, unless that confirms the password.
TEST(ClientLogin, TheServerDecides) {
  const auto asked = [](const Credential& credential) {
    ClientLogin::Options made = options(AuthMethod::cleartext, credential, true);
    made.server_decides = true;
    ClientLogin login(made);
    std::string out;
    EXPECT_EQ(login.start(out), LoginStep::need_message);
    EXPECT_EQ(login.on_message('p', "pw\0"sv, out), LoginStep::need_keys);
    return login;
  };
  const auto keys_of = [](const ClientLogin& login) { return derive_scram_keys(login.key_request()); };
  const Error refused{sqlstate::invalid_authorization, "role is not permitted to log in", {}, {}, 0};
  const Error unreachable{sqlstate::cannot_connect_now, "nobody there", {}, {}, 0};
  std::string out;

  ClientLogin right = asked(UnknownUser{});
  EXPECT_EQ(right.on_keys(keys_of(right), out), LoginStep::need_verdict);
  EXPECT_EQ(right.password(), "pw");
  EXPECT_EQ(out, "");
  const ScramSecret proof = right.proof();
  EXPECT_EQ(right.on_verdict({}, out), LoginStep::ok);
  EXPECT_EQ(out, "R\0\0\0\10\0\0\0\0"sv);
  EXPECT_EQ(std::get<PlainPassword>(right.learned()).password.reveal(), "pw");

  ClientLogin wrong = asked(UnknownUser{});
  EXPECT_EQ(wrong.on_keys(keys_of(wrong), out), LoginStep::need_verdict);
  EXPECT_EQ(wrong.on_verdict(std::unexpected(refused), out), LoginStep::failed);
  EXPECT_EQ(wrong.error().code, sqlstate::invalid_password);

  ClientLogin unknown = asked(UnknownUser{});
  EXPECT_EQ(unknown.on_keys(keys_of(unknown), out), LoginStep::need_verdict);
  EXPECT_EQ(unknown.on_verdict(std::unexpected(unreachable), out), LoginStep::failed);
  EXPECT_EQ(unknown.error(), unreachable);

  ClientLogin again = asked(proof);
  EXPECT_EQ(again.on_keys(keys_of(again), out), LoginStep::ok) << "what was proved once needs no server";
  ClientLogin other = asked(ScramSecret::from_password("another"));
  EXPECT_EQ(other.on_keys(keys_of(other), out), LoginStep::need_verdict);
  EXPECT_EQ(other.on_message('p', "pw\0"sv, out), LoginStep::failed) << "nothing is due from the client now";
  EXPECT_EQ(asked(UnknownUser{}).on_verdict({}, out), LoginStep::failed) << "a verdict that nobody asked for";
}

TEST(ClientLogin, Trust) {
  ClientLogin known(options(AuthMethod::trust, PlainPassword{}));
  std::string out;
  EXPECT_EQ(known.start(out), LoginStep::ok);
  EXPECT_EQ(out, "R\0\0\0\10\0\0\0\0"sv);
  ClientLogin unknown(options(AuthMethod::trust, UnknownUser{}));
  out.clear();
  EXPECT_EQ(unknown.start(out), LoginStep::failed);
  EXPECT_EQ(unknown.error().code, sqlstate::invalid_authorization);
  EXPECT_EQ(out, "");
}

TEST(ClientLogin, ClearTextNeedsTls) {
  ClientLogin login(options(AuthMethod::cleartext, PlainPassword{Secret("pw")}, false));
  std::string out;
  EXPECT_EQ(login.start(out), LoginStep::failed);
  EXPECT_EQ(login.error().code, sqlstate::invalid_authorization);
  EXPECT_EQ(out, "");
}

TEST(ClientLogin, PlusIsOfferedOnlyWithBindingData) {
  auto with = options(AuthMethod::scram_sha_256, secret(), true);
  with.channel_binding = "hash";
  ClientLogin bound(with);
  Client client("pw", ScramClient::Binding::used);
  EXPECT_EQ(client.log_in(bound), LoginStep::ok);
  EXPECT_EQ(client.offered(), "SCRAM-SHA-256-PLUS SCRAM-SHA-256 ");
  with.channel_binding = "another";
  ClientLogin intercepted(with);
  EXPECT_EQ(Client("pw", ScramClient::Binding::used).log_in(intercepted), LoginStep::failed);
  EXPECT_EQ(intercepted.error().code, sqlstate::invalid_authorization);
  ClientLogin unbound(options(AuthMethod::scram_sha_256, secret(), true));
  Client plain("pw");
  EXPECT_EQ(plain.log_in(unbound), LoginStep::ok);
  EXPECT_EQ(plain.offered(), "SCRAM-SHA-256 ");
}

// What an observer can see of an unknown user is what he sees of a known one: the same messages, the same challenge
// each time, the same number of derivations.
TEST(ClientLogin, UnknownUsersLookLikeKnownOnes) {
  const auto observed = [](AuthMethod method, const Credential& credential) {
    ClientLogin login(options(method, credential, true));
    Client client("wrong");
    client.log_in(login);
    return client.offered() + std::to_string(client.keys_derived()) + login.error().message;
  };
  EXPECT_EQ(observed(AuthMethod::scram_sha_256, UnknownUser{}), observed(AuthMethod::scram_sha_256, secret()));
  EXPECT_EQ(observed(AuthMethod::cleartext, UnknownUser{}), observed(AuthMethod::cleartext, secret()));
  EXPECT_EQ(observed(AuthMethod::cleartext, UnknownUser{}),
            observed(AuthMethod::cleartext, PlainPassword{Secret("pw")}));
  EXPECT_EQ(observed(AuthMethod::md5, UnknownUser{}), observed(AuthMethod::md5, PlainPassword{Secret("pw")}));
  const auto challenge = [](const Credential& credential) {
    ClientLogin login(options(AuthMethod::scram_sha_256, credential));
    std::string out;
    login.start(out);
    out.clear();
    login.on_message('p', "SCRAM-SHA-256\0\0\0\0\11n,,n=,r=x"sv, out);
    EXPECT_NE(out.find(",s="), std::string::npos);
    return out.substr(out.find(",s="));
  };
  EXPECT_EQ(challenge(UnknownUser{}), challenge(UnknownUser{}));
  EXPECT_EQ(challenge(UnknownUser{}).size(), challenge(ScramSecret::from_password("pw")).size());
}

TEST(ClientLogin, AnInitialResponseMayComeLate) {
  ClientLogin login(options(AuthMethod::scram_sha_256, secret()));
  std::string out;
  login.start(out);
  out.clear();
  EXPECT_EQ(login.on_message('p', "SCRAM-SHA-256\0\xff\xff\xff\xff"sv, out), LoginStep::need_message);
  EXPECT_EQ(out, "R\0\0\0\10\0\0\0\13"sv);
  ScramClient scram(ScramClient::Binding::none, "");
  out.clear();
  ASSERT_EQ(login.on_message('p', scram.first(), out), LoginStep::need_message);
  ASSERT_TRUE(scram.on_server_first(std::string_view(out).substr(9)).has_value());
  const auto final = scram.final_message(derive_scram_keys("pw", scram.key_salt(), scram.key_iterations()));
  EXPECT_EQ(login.on_message('p', *final, out), LoginStep::ok);
}

// The machine brought into each of its states: 0 not started, 1 a clear-text password is awaited, 2 its keys, 3
// SASLInitialResponse, 4 client-first, 5 client-final, 6 failed, 7 done, 8 the keys for a client-final.
ClientLogin in_state(int state) {
  const bool cleartext = state == 1 || state == 2;
  ClientLogin login(
      options(cleartext ? AuthMethod::cleartext : AuthMethod::scram_sha_256, PlainPassword{Secret("pw")}, true));
  std::string out;
  if (state == 0) return login;
  EXPECT_EQ(login.start(out), LoginStep::need_message);
  const auto feed = [&](std::string_view body) { return login.on_message('p', body, out); };
  constexpr std::string_view client_first = "SCRAM-SHA-256\0\0\0\0\11n,,n=,r=x"sv;
  switch (state) {
    case 2:
      EXPECT_EQ(feed("pw\0"sv), LoginStep::need_keys);
      break;
    case 4:
      EXPECT_EQ(feed("SCRAM-SHA-256\0\xff\xff\xff\xff"sv), LoginStep::need_message);
      break;
    case 5:
      EXPECT_EQ(feed(client_first), LoginStep::need_message);
      break;
    case 6:
      EXPECT_EQ(feed("garbage"), LoginStep::failed);
      break;
    case 7:
      login = ClientLogin(options(AuthMethod::trust, secret()));
      EXPECT_EQ(login.start(out), LoginStep::ok);
      break;
    case 8:
      EXPECT_EQ(feed(client_first), LoginStep::need_message);
      EXPECT_EQ(feed("c=biws"), LoginStep::need_keys);
      break;
    default:
      break;
  }
  return login;
}

TEST(ClientLogin, EveryMessageTypeInEveryState) {
  for (int state = 0; state <= 8; ++state) {
    for (int type = 0; type < 256; ++type) {
      const bool awaited = state == 1 || (state >= 3 && state <= 5);
      if (type == 'p' && awaited) continue;
      ClientLogin login = in_state(state);
      std::string out;
      const LoginStep step = login.on_message(static_cast<char>(type), "pw\0"sv, out);
      EXPECT_EQ(step, LoginStep::failed) << "state " << state << " type " << type;
      EXPECT_EQ(login.error().code, sqlstate::protocol_violation);
      EXPECT_EQ(out, "");
      EXPECT_TRUE(std::holds_alternative<std::monostate>(login.learned()));
      EXPECT_EQ(login.user(), "alice");
      EXPECT_EQ(login.on_message('p', "pw\0"sv, out), LoginStep::failed);  // and stays failed
    }
  }
}

TEST(ClientLogin, KeysAndStartOutOfPlaceFail) {
  for (const int state : {0, 1, 3, 4, 5, 6, 7}) {
    ClientLogin login = in_state(state);
    std::string out;
    EXPECT_EQ(login.on_keys({}, out), LoginStep::failed) << state;
    EXPECT_EQ(out, "");
  }
  for (int state = 1; state <= 8; ++state) {
    ClientLogin login = in_state(state);
    std::string out;
    EXPECT_EQ(login.start(out), LoginStep::failed) << state;
    EXPECT_EQ(out, "");
  }
}

TEST(ClientLogin, MalformedPasswordsFail) {
  for (const std::string_view body : {""sv, "pw"sv, "pw\0x"sv, "\0"sv, "p\0w\0"sv}) {
    ClientLogin login(options(AuthMethod::cleartext, PlainPassword{Secret("pw")}, true));
    std::string out;
    login.start(out);
    EXPECT_EQ(login.on_message('p', body, out), LoginStep::failed);
  }
  ClientLogin login(options(AuthMethod::cleartext, PlainPassword{Secret("pw")}, true));
  std::string out;
  login.start(out);
  EXPECT_EQ(login.on_message('p', std::string(max_login_message_length, 'x') + "x\0"s, out), LoginStep::failed);
}

TEST(ClientLogin, AnEmptyPasswordNeverLogsIn) {
  ClientLogin login(options(AuthMethod::cleartext, PlainPassword{Secret("")}, true));
  std::string out;
  login.start(out);
  EXPECT_EQ(login.on_message('p', "\0"sv, out), LoginStep::failed);
  EXPECT_EQ(login.error().code, sqlstate::invalid_password);
}

TEST(ClientLogin, MechanismsThatWereNotOfferedFail) {
  for (const std::string_view body :
       {"SCRAM-SHA-256-PLUS\0\xff\xff\xff\xff"sv, "PLAIN\0\xff\xff\xff\xff"sv, "\0\xff\xff\xff\xff"sv,
        "SCRAM-SHA-256\0\xff\xff\xff\xfe"sv, "SCRAM-SHA-256\0\0\0\0\2n"sv, "SCRAM-SHA-256"sv}) {
    ClientLogin login(options(AuthMethod::scram_sha_256, secret()));
    std::string out;
    login.start(out);
    EXPECT_EQ(login.on_message('p', body, out), LoginStep::failed);
    EXPECT_EQ(login.error().code, sqlstate::protocol_violation);
  }
}

}  // namespace
}  // namespace tessera::postgres
