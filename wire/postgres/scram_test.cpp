#include "wire/postgres/scram.hpp"

#include <functional>
#include <gtest/gtest.h>

#include "wire/postgres/md5.hpp"
#include "wire/postgres/saslprep.hpp"

namespace tessera::postgres {
namespace {

using namespace std::literals;

// RFC 7677, section 3.
constexpr std::string_view rfc_client_nonce = "rOprNGfwEbeRWgbNEkqO";
constexpr std::string_view rfc_server_nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
constexpr std::string_view rfc_client_first = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
constexpr std::string_view rfc_server_first =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
constexpr std::string_view rfc_client_final =
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
constexpr std::string_view rfc_server_final = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

ScramSecret rfc_secret() {
  const std::string salt = *base64_decode("W22ZaJ0SNY7soEsUEjb6gQ==");
  return ScramSecret::from_keys(derive_scram_keys("pencil", salt, 4'096), salt, 4'096);
}

// Made by PostgreSQL 15: create role … password 'pencil'.
constexpr std::string_view postgres_secret =
    "SCRAM-SHA-256$4096:NwOrp9vhqZLCUBJZECOjSg==$s1NW7Nvu1urD0dDZ1+JVngNht/kNYBJnmc80OGajaNk=:"
    "7vI1k/H3kEIEAHsca/bbRH2MehU8c0utT1lYdw/GH68=";

TEST(ScramServer, Rfc7677) {
  ScramServer server(rfc_secret(), {}, std::string(rfc_server_nonce));
  EXPECT_EQ(server.on_client_first(scram_sha_256, rfc_client_first), rfc_server_first);
  EXPECT_EQ(server.on_client_final(rfc_client_final), rfc_server_final);
  const std::string salt = *base64_decode("W22ZaJ0SNY7soEsUEjb6gQ==");
  EXPECT_EQ(server.keys(), derive_scram_keys("pencil", salt, 4'096));
}

// The RFC's client sends a user name, ours none, so its messages can be checked only with the same first message.
TEST(ScramClient, AgainstOurServerWithTheRfcsNonces) {
  ScramClient client(ScramClient::Binding::none, "", std::string(rfc_client_nonce));
  ScramServer server(rfc_secret(), {}, std::string(rfc_server_nonce));
  EXPECT_EQ(client.first(), "n,,n=,r=rOprNGfwEbeRWgbNEkqO");
  ASSERT_EQ(server.on_client_first(scram_sha_256, "n,,n=,r=rOprNGfwEbeRWgbNEkqO"), rfc_server_first);
  ASSERT_TRUE(client.on_server_first(rfc_server_first).has_value());
  const auto final = client.final_message(derive_scram_keys("pencil", client.key_salt(), client.key_iterations()));
  ASSERT_TRUE(final.has_value());
  const auto answer = server.on_client_final(*final);
  ASSERT_TRUE(answer.has_value());
  EXPECT_FALSE(client.verified());
  EXPECT_TRUE(client.on_server_final(*answer).has_value());
  EXPECT_TRUE(client.verified());
}

TEST(ScramSecret, MadeByPostgres) {
  const auto secret = ScramSecret::parse(postgres_secret);
  ASSERT_TRUE(secret.has_value());
  EXPECT_EQ(secret->text(), postgres_secret);
  EXPECT_EQ(*secret, ScramSecret::from_keys(derive_scram_keys("pencil", secret->salt, 4'096), secret->salt, 4'096));
  EXPECT_NE(*secret, ScramSecret::from_keys(derive_scram_keys("Pencil", secret->salt, 4'096), secret->salt, 4'096));
}

TEST(ScramSecret, MadeByPostgresFromAPasswordThatSaslprepChanges) {
  const auto secret = ScramSecret::parse(
      "SCRAM-SHA-256$4096:DIIlcrE0PRpgoPoUiXCMUg==$h2aSxA8tj5wySReuR99l/XG6MLR9kUu4akGozSzroNM=:"
      "4QLyojBOFtg7FBReVXXYq7YqZx3oRzM/EP2g5gH7MdI=");
  ASSERT_TRUE(secret.has_value());
  const std::string soft_hyphen_and_roman_nine = "I\u00adX \u2168";
  for (const std::string& spelling : {soft_hyphen_and_roman_nine, "IX IX"s}) {
    EXPECT_EQ(*secret, ScramSecret::from_keys(derive_scram_keys(spelling, secret->salt, 4'096), secret->salt, 4'096));
  }
}

TEST(ScramSecret, BadTextsAreRefused) {
  const std::string good(postgres_secret);
  const auto changed = [&](std::string_view from, std::string_view to) {
    std::string text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  for (const std::string& text :
       {""s, "md5"s, "SCRAM-SHA-256$"s, changed("SCRAM", "scram"), changed("4096", "0"), changed("4096", "-1"),
        changed("4096", ""), changed("4096", "4096 "), changed("4096", "10000001"),
        changed("4096", "99999999999999999999"), changed("NwOrp9vhqZLCUBJZECOjSg==", ""), changed("NwOr", "N*Or"),
        changed("Sg==", "Sg="), changed("Nk=:", "Nk=$"), changed("s1NW", ""), changed("H68=", "H68"),
        changed("H68=", "H68=x"), good + "="}) {
    EXPECT_FALSE(ScramSecret::parse(text).has_value()) << text;
  }
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(ScramSecret::parse(good.substr(0, size)).has_value()) << size;
  }
}

TEST(ScramSecret, MocksAreStableAndDifferByNameAndKey) {
  const ScramSecret mock = mock_scram_secret("nobody", "key");
  EXPECT_EQ(mock, mock_scram_secret("nobody", "key"));
  EXPECT_NE(mock.salt, mock_scram_secret("nobody2", "key").salt);
  EXPECT_NE(mock.salt, mock_scram_secret("nobody", "key2").salt);
  EXPECT_EQ(mock.salt.size(), 16u);
  EXPECT_EQ(mock.iterations, scram_default_iterations);
}

struct Exchange {
  std::string first, challenge, final, answer;
};

// One login between the two machines; any message may be tampered with on its way.
Result<void> login(ScramServer server, ScramClient client, std::string_view password,
                   const std::function<void(Exchange&)>& tamper = {}) {
  Exchange sent;
  const auto step = [&](std::string& slot, Result<std::string> message) -> Result<void> {
    if (!message) return std::unexpected(message.error());
    slot = *message;
    if (tamper) tamper(sent);
    return {};
  };
  if (auto done = step(sent.first, client.first()); !done) return done;
  if (auto done = step(sent.challenge, server.on_client_first(client.mechanism(), sent.first)); !done) return done;
  if (auto done = client.on_server_first(sent.challenge); !done) return done;
  const ScramKeys keys = derive_scram_keys(password, client.key_salt(), client.key_iterations());
  if (auto done = step(sent.final, client.final_message(keys)); !done) return done;
  if (auto done = step(sent.answer, server.on_client_final(sent.final)); !done) return done;
  return client.on_server_final(sent.answer);
}

const ScramSecret& cheap_secret() {
  static const ScramSecret secret = ScramSecret::from_password("secret", 2);
  return secret;
}

using Binding = ScramClient::Binding;

TEST(Scram, EveryCombinationOfChannelBinding) {
  const auto code = [](std::optional<std::string> server_data, Binding binding, std::string client_data) {
    const auto done = login({cheap_secret(), std::move(server_data)}, {binding, std::move(client_data)}, "secret");
    return done ? "ok"s : std::string(done.error().code.view());
  };
  EXPECT_EQ(code({}, Binding::none, ""), "ok");
  EXPECT_EQ(code({}, Binding::not_offered, ""), "ok");
  EXPECT_EQ(code({}, Binding::used, "hash"), "08P01");  // not offered, chosen all the same
  EXPECT_EQ(code("hash", Binding::none, ""), "ok");
  EXPECT_EQ(code("hash", Binding::not_offered, ""), "28000");  // someone removed -PLUS from our list
  EXPECT_EQ(code("hash", Binding::used, "hash"), "ok");
  EXPECT_EQ(code("hash", Binding::used, "hush"), "28000");  // two different TLS connections
}

TEST(Scram, WrongPasswordsFail) {
  EXPECT_TRUE(login({cheap_secret(), {}}, {Binding::none, ""}, "secret").has_value());
  for (const auto password : {"", "Secret", "secret "}) {
    const auto done = login({cheap_secret(), {}}, {Binding::none, ""}, password);
    ASSERT_FALSE(done.has_value());
    EXPECT_EQ(done.error().code, sqlstate::invalid_password);
  }
  EXPECT_FALSE(login({mock_scram_secret("u", "k"), {}}, {Binding::none, ""}, "secret").has_value());
}

// Each character of each message, replaced and removed: nothing may pass but what is outside the authenticated text.
TEST(Scram, NoTamperedMessageIsAccepted) {
  std::string Exchange::* const messages[] = {&Exchange::first, &Exchange::challenge, &Exchange::final,
                                              &Exchange::answer};
  int tried = 0;
  for (const auto message : messages) {
    bool more = true;
    for (std::size_t at = 0; more; ++at) {
      for (const bool remove : {false, true}) {
        bool changed = false;
        const auto done = login({cheap_secret(), "hash"}, {Binding::used, "hash"}, "secret", [&](Exchange& sent) {
          std::string& text = sent.*message;
          if (changed || text.empty() || at >= text.size()) return;
          if (remove) {
            text.erase(at, 1);
          } else {
            text[at] = text[at] == '1' ? '2' : '1';
          }
          changed = true;
        });
        more = changed;
        tried += changed;
        EXPECT_EQ(done.has_value(), !changed) << "byte " << at << (remove ? " removed" : " replaced");
      }
    }
  }
  EXPECT_GT(tried, 400);
}

Result<std::string> first_answer(std::string_view message, std::string_view mechanism = scram_sha_256,
                                 std::optional<std::string> binding = {}) {
  ScramServer server(rfc_secret(), std::move(binding), "server");
  return server.on_client_first(mechanism, message);
}

TEST(ScramServer, ClientFirstAttributeByAttribute) {
  EXPECT_TRUE(first_answer("n,,n=,r=abc").has_value());
  EXPECT_TRUE(first_answer("y,,n=user=2Cname=3D,r=abc,x=future").has_value());
  EXPECT_TRUE(first_answer("p=tls-server-end-point,,n=,r=a", scram_sha_256_plus, "hash").has_value());
  const auto code = [](const Result<std::string>& answer) { return answer ? "ok"sv : answer.error().code.view(); };
  for (const auto* message : {"",
                              "n",
                              "n,",
                              "n,,",
                              "n,n=,r=a",
                              "z,,n=,r=a",
                              "nn,,n=,r=a",
                              "n,,r=a",
                              "n,,n=",
                              "n,,n=,r=",
                              "n,,n=,r",
                              "n,,n=,r=a,",
                              "n,,n=,r=a b",
                              "n,,n=,r=\x7f",
                              "n,,n=,r=\xc3\xa4",
                              "n,,n=a=b,r=a",
                              "n,,n==2,r=a",
                              "n,,n=,r=a,5=x",
                              "n,,n=,r=a,x",
                              "n,,r=a,n=",
                              "n,, n=,r=a",
                              "p=tls-server-end-point,,n=,r=a"}) {
    EXPECT_EQ(code(first_answer(message)), "08P01") << message;
  }
  EXPECT_EQ(code(first_answer("n,a=admin,n=,r=a")), "0A000");
  EXPECT_EQ(code(first_answer("n,,m=x,n=,r=a")), "0A000");
  EXPECT_EQ(code(first_answer("n,,n=,r=a", "PLAIN")), "08P01");
  EXPECT_EQ(code(first_answer("n,,n=,r=a", "")), "08P01");
  EXPECT_EQ(code(first_answer("p=tls-server-end-point,,n=,r=a", scram_sha_256_plus)), "08P01");
  EXPECT_EQ(code(first_answer("p=tls-unique,,n=,r=a", scram_sha_256_plus, "hash")), "08P01");
  EXPECT_EQ(code(first_answer("n,,n=,r=a", scram_sha_256_plus, "hash")), "08P01");
  EXPECT_EQ(code(first_answer("y,,n=,r=a", scram_sha_256_plus, "hash")), "08P01");
  EXPECT_EQ(code(first_answer("p=tls-server-end-point,,n=,r=a", scram_sha_256, "hash")), "08P01");
  EXPECT_TRUE(first_answer("n,,n=,r=" + std::string(scram_max_nonce - 6, 'n')).has_value());
  EXPECT_EQ(code(first_answer("n,,n=,r=" + std::string(scram_max_nonce - 5, 'n'))), "08P01");
  EXPECT_EQ(code(first_answer("n,,n=" + std::string(scram_max_message, 'n') + ",r=a")), "08P01");
}

TEST(ScramServer, ClientFinalAttributeByAttribute) {
  const auto answer = [](std::string_view message) {
    ScramServer server(rfc_secret(), {}, std::string(rfc_server_nonce));
    EXPECT_TRUE(server.on_client_first(scram_sha_256, rfc_client_first).has_value());
    const auto done = server.on_client_final(message);
    EXPECT_EQ(done.has_value(), server.keys().has_value());
    return done ? "ok"s : std::string(done.error().code.view());
  };
  const std::string good(rfc_client_final);
  const auto changed = [&](std::string_view from, std::string_view to) {
    std::string text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  EXPECT_EQ(answer(good), "ok");
  for (const std::string& message :
       {""s, changed("c=biws", "c=eSws"), changed("c=biws", "c="), changed("c=biws", "c=biws="), changed("c=biws,", ""),
        changed("r=rOpr", "r=rOpx"), changed("$k0", "$k"), changed("$k0", "$k00"), changed("p=", "q="),
        changed(",p=", ",m=x,p="), changed("dHzb", "dHz"), changed("dHzb", "dHz*"), changed("dVQ=", "dVQ=,"),
        changed("dVQ=", "dVQ=,x=y"), changed("dVQ=", ""), good + std::string(scram_max_message, 'x')}) {
    EXPECT_EQ(answer(message), "08P01") << message;
  }
  EXPECT_EQ(answer(changed("dHzb", "dHzc")), "28P01");
  EXPECT_EQ(answer(changed(",p=", ",x=extension,p=")), "28P01");  // allowed, but not what was signed
  for (std::size_t size = 0; size < good.size(); ++size) EXPECT_NE(answer(good.substr(0, size)), "ok") << size;
}

TEST(ScramServer, MessagesOutOfOrderFail) {
  ScramServer early(rfc_secret(), {}, std::string(rfc_server_nonce));
  EXPECT_FALSE(early.on_client_final(rfc_client_final).has_value());
  ScramServer twice(rfc_secret(), {}, std::string(rfc_server_nonce));
  EXPECT_TRUE(twice.on_client_first(scram_sha_256, rfc_client_first).has_value());
  EXPECT_FALSE(twice.on_client_first(scram_sha_256, rfc_client_first).has_value());
  ScramServer failed(rfc_secret(), {}, std::string(rfc_server_nonce));
  EXPECT_FALSE(failed.on_client_first(scram_sha_256, "nonsense").has_value());
  EXPECT_FALSE(failed.on_client_first(scram_sha_256, rfc_client_first).has_value());
  ScramServer again(rfc_secret(), {}, std::string(rfc_server_nonce));
  EXPECT_TRUE(again.on_client_first(scram_sha_256, rfc_client_first).has_value());
  EXPECT_TRUE(again.on_client_final(rfc_client_final).has_value());
  EXPECT_FALSE(again.on_client_final(rfc_client_final).has_value());
}

TEST(ScramClient, ServerFirstAttributeByAttribute) {
  const auto accepted = [](std::string_view message) {
    ScramClient client(Binding::none, "", "mine");
    client.first();
    return client.on_server_first(message).has_value();
  };
  EXPECT_TRUE(accepted("r=mineyours,s=c2FsdA==,i=4096"));
  EXPECT_TRUE(accepted("r=mineyours,s=c2FsdA==,i=10000000,x=future"));
  for (const auto* message : {"",
                              "e=other-error",
                              "r=mineyours",
                              "r=mineyours,s=c2FsdA==",
                              "s=c2FsdA==,r=mineyours,i=1",
                              "r=mine,s=c2FsdA==,i=1",
                              "r=yours,s=c2FsdA==,i=1",
                              "r=minx,s=c2FsdA==,i=1",
                              "r=mine yours,s=c2FsdA==,i=1",
                              "r=mineyours,s=,i=1",
                              "r=mineyours,s=c2FsdA,i=1",
                              "r=mineyours,s=c2FsdA==,i=0",
                              "r=mineyours,s=c2FsdA==,i=-1",
                              "r=mineyours,s=c2FsdA==,i=",
                              "r=mineyours,s=c2FsdA==,i=1x",
                              "r=mineyours,s=c2FsdA==,i=10000001",
                              "r=mineyours,s=c2FsdA==,i=4294967297",
                              "r=mineyours,s=c2FsdA==,i=1,",
                              "r=mineyours,s=c2FsdA==,i=1,m=x",
                              "m=x,r=mineyours,s=c2FsdA==,i=1"}) {
    EXPECT_FALSE(accepted(message)) << message;
  }
  EXPECT_FALSE(accepted("r=mine" + std::string(scram_max_nonce, 'n') + ",s=c2FsdA==,i=1"));
  EXPECT_FALSE(accepted("r=mineyours,s=c2FsdA==,i=1,x=" + std::string(scram_max_message, 'n')));
}

TEST(ScramClient, TheServersSignatureIsVerified) {
  const auto accepted = [](std::string_view answer) {
    ScramClient client(Binding::none, "", std::string(rfc_client_nonce));
    client.first();
    EXPECT_FALSE(client.on_server_final(answer).has_value());  // too early; and the machine stays where it is
    EXPECT_TRUE(client.on_server_first(rfc_server_first).has_value());
    EXPECT_TRUE(client.final_message(derive_scram_keys("pencil", client.key_salt(), 4'096)).has_value());
    const bool done = client.on_server_final(answer).has_value();
    EXPECT_EQ(client.verified(), done);
    return done;
  };
  for (const auto* answer :
       {"", "v=", "v=AAAA", "e=invalid-proof", "x=y", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=,"}) {
    EXPECT_FALSE(accepted(answer)) << answer;
  }
  EXPECT_FALSE(accepted(rfc_server_final));  // right for another first message (the RFC's has a user name)
}

TEST(ScramClient, StepsOutOfOrderFail) {
  ScramClient client(Binding::none, "", "mine");
  EXPECT_FALSE(client.on_server_first("r=mineyours,s=c2FsdA==,i=1").has_value());
  EXPECT_FALSE(client.final_message({}).has_value());
  client.first();
  EXPECT_FALSE(client.final_message({}).has_value());
}

TEST(Scram, NoncesDiffer) {
  EXPECT_NE(scram_nonce(), scram_nonce());
  EXPECT_EQ(scram_nonce().size(), 24u);
}

TEST(Saslprep, AsPostgresDoes) {
  EXPECT_EQ(saslprep("pencil"), "pencil");
  EXPECT_EQ(saslprep("\x07 bell"), "\x07 bell");  // ASCII is taken as it is, prohibited characters too
  EXPECT_EQ(saslprep("I\u00adX"), "IX");          // RFC 4013: mapped to nothing
  EXPECT_EQ(saslprep("\u00aa"), "a");             // NFKC
  EXPECT_EQ(saslprep("\u2168"), "IX");
  EXPECT_EQ(saslprep("a\u00a0b"), "a b");  // non-ASCII space
  EXPECT_EQ(saslprep("\u00e9"), saslprep("e\u0301"));
  EXPECT_EQ(saslprep("\u0341"), "\u0341");        // prohibited before normalisation, not after
  EXPECT_EQ(saslprep("\ufb2b"), "\u05e9\u05c2");  // right-to-left before normalisation; not at its end after
  for (const std::string& raw : {"\u0007\u00e9"s, "\u0627\u0031"s, "\u0221"s, "\u00ad"s, "\xff\xfe"s, "\xc3"s,
                                 "\xc0\xaf"s, "\xed\xa0\x80"s, "\u00e9\0x"s}) {
    EXPECT_EQ(saslprep(raw), raw);  // prohibited, bidirectional rule, unassigned, empty, invalid UTF-8
  }
}

TEST(Md5, VerifierMadeByPostgres) {
  EXPECT_EQ(md5_verifier("pencil", "u_md5"), "md56520b9e6d1360465923cccaa4a18e5f0");
  EXPECT_TRUE(is_md5_verifier("md56520b9e6d1360465923cccaa4a18e5f0"));
  EXPECT_FALSE(is_md5_verifier("md56520b9e6d1360465923cccaa4a18e5f"));
  EXPECT_FALSE(is_md5_verifier("md56520B9e6d1360465923cccaa4a18e5f0"));
  EXPECT_FALSE(is_md5_verifier(postgres_secret));
  // md5("6520…" + "salt"), computed with md5sum.
  EXPECT_EQ(md5_response("md56520b9e6d1360465923cccaa4a18e5f0", "salt"), "md5089f1d1cffb4b3fe1f582133acfe4584");
  EXPECT_FALSE(md5_response("pencil", "salt").has_value());
}

}  // namespace
}  // namespace tessera::postgres
