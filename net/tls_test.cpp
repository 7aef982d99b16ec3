// TLS with both ends in one process: handshakes in one go and byte by byte, data under back-pressure, who is trusted.
#include "net/tls.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/crypto.hpp"
#include "net/stream.hpp"
#include "net/test_certificate.hpp"

namespace tessera::net {
namespace {

using testing::HasSubstr;
using testing_tls::Certificate;

std::shared_ptr<TlsContext> server_context(const Certificate& certificate, std::string client_ca = {},
                                           bool require = false, std::string min_version = "1.2") {
  auto made = TlsContext::server(
      {certificate.certificate(), certificate.private_key(), std::move(client_ca), require, std::move(min_version)});
  if (!made) ADD_FAILURE() << made.error().message;
  return made.value();
}
std::shared_ptr<TlsContext> client_context(std::string ca = {}, const Certificate* own = nullptr) {
  TlsContext::ClientOptions options;
  options.verify_chain = !ca.empty();
  options.ca = std::move(ca);
  if (own != nullptr) {
    options.certificate = own->certificate();
    options.private_key = own->private_key();
  }
  auto made = TlsContext::client(options);
  if (!made) ADD_FAILURE() << made.error().message;
  return made.value();
}

std::string pattern(std::size_t size) {
  std::string bytes(size, '\0');
  unsigned state = 5;
  for (char& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

// ---- sessions without sockets ---------------------------------------------------------------------------------------

struct Ends {
  std::unique_ptr<TlsSession> client, server;
  std::string client_error, server_error;
  bool done() const { return client->handshake_done() && server->handshake_done(); }
};

// Hands what `from` wrote to `to`, `step` bytes at a time, and drives its handshake.
bool carry(TlsSession& from, TlsSession& to, std::size_t step, std::string& error) {
  std::string bytes = std::exchange(from.output(), {});
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    std::string piece = bytes.substr(at, step);
    to.feed(piece);
    const TlsSession::Status status = to.handshake();
    if (status == TlsSession::Status::failed) {
      error = to.error();
      return false;
    }
    if (to.handshake_done()) {  // what comes behind it: tickets
      char scratch[64];
      std::size_t n = 0;
      to.read(scratch, n);
    }
    to.feed({});
  }
  return true;
}

void shake(Ends& ends, std::size_t step) {
  EXPECT_EQ(ends.client->handshake(), TlsSession::Status::want_read);
  for (int i = 0; i < 20 && !ends.done(); ++i) {
    if (!carry(*ends.client, *ends.server, step, ends.server_error)) return;
    if (!carry(*ends.server, *ends.client, step, ends.client_error)) return;
  }
}

TEST(TlsSession, HandshakeInOneGoAndByteByByte) {
  const Certificate certificate("tessera");
  for (const std::size_t step : {std::size_t{100'000}, std::size_t{1}, std::size_t{7}}) {
    Ends ends{TlsSession::connect(*client_context(), "localhost", false),
              TlsSession::accept(*server_context(certificate)),
              {},
              {}};
    shake(ends, step);
    EXPECT_TRUE(ends.done()) << ends.client_error << ends.server_error;
    EXPECT_THAT(ends.client->description(), testing::StartsWith("TLSv1.3 TLS_"));
  }
}

TEST(TlsSession, BothEndsAgreeOnTheChannelBinding) {
  const Certificate certificate("tessera");
  Ends ends{TlsSession::connect(*client_context(), "localhost", false),
            TlsSession::accept(*server_context(certificate)),
            {},
            {}};
  EXPECT_EQ(ends.client->channel_binding(), "") << "nothing is known before the handshake";
  shake(ends, 100'000);
  const std::string binding = ends.server->channel_binding();
  EXPECT_EQ(binding.size(), 32u);
  EXPECT_EQ(ends.client->channel_binding(), binding);
  EXPECT_EQ(tls_server_end_point(certificate.der()), binding);
}

// ---- resuming -------------------------------------------------------------------------------------------------------

using SessionRef = std::unique_ptr<SSL_SESSION, decltype(&::SSL_SESSION_free)>;

// A handshake between the two, the client offering `ticket`; gives what it could resume the next time.
SessionRef meet(const TlsContext& client, const TlsContext& server, SSL_SESSION* ticket, bool& resumed,
                std::string* error = nullptr) {
  Ends ends{TlsSession::connect(client, "localhost", false), TlsSession::accept(server), {}, {}};
  if (ticket != nullptr) ::SSL_set_session(ends.client->get(), ticket);
  shake(ends, 100'000);
  if (error != nullptr) *error = ends.server_error;
  resumed = ends.server->resumed();
  ends.client->shutdown();  // or OpenSSL takes the session for a bad one
  return {::SSL_get1_session(ends.client->get()), &::SSL_SESSION_free};
}

TEST(TlsResumption, ByTicketsInBothVersions) {
  const Certificate certificate("tessera");
  const auto server = server_context(certificate);
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const auto client = client_context();
    ::SSL_CTX_set_max_proto_version(client->get(), version);
    bool resumed = true;
    const SessionRef ticket = meet(*client, *server, nullptr, resumed);
    EXPECT_FALSE(resumed);
    meet(*client, *server, ticket.get(), resumed);
    EXPECT_TRUE(resumed) << version;
  }
  EXPECT_EQ(::SSL_CTX_sess_number(server->get()), 0) << "nothing is kept for clients";
}

TEST(TlsResumption, EndsWithItsContext) {
  const Certificate certificate("tessera");
  const auto client = client_context();
  bool resumed = true;
  const SessionRef ticket = meet(*client, *server_context(certificate), nullptr, resumed);
  meet(*client, *server_context(certificate), ticket.get(), resumed);
  EXPECT_FALSE(resumed) << "the same files, read again";
}

// Even with the same keys a ticket made without a client's certificate does not open a door that asks for one.
TEST(TlsResumption, IsBoundToTheListenersConfiguration) {
  const Certificate certificate("tessera"), authority("CA");
  const auto open = server_context(certificate);
  const auto guarded = server_context(certificate, authority.certificate(), true);
  std::vector<unsigned char> keys(static_cast<std::size_t>(::SSL_CTX_get_tlsext_ticket_keys(open->get(), nullptr, 0)));
  ::SSL_CTX_get_tlsext_ticket_keys(open->get(), keys.data(), static_cast<long>(keys.size()));
  ::SSL_CTX_set_tlsext_ticket_keys(guarded->get(), keys.data(), static_cast<long>(keys.size()));
  const auto client = client_context();
  bool resumed = true;
  const SessionRef ticket = meet(*client, *open, nullptr, resumed);
  std::string error;
  meet(*client, *guarded, ticket.get(), resumed, &error);
  EXPECT_FALSE(resumed);
  EXPECT_NE(error, "");
}

TEST(TlsResumption, EndsWithTheClientsCertificate) {
  const Certificate certificate("tessera"), authority("CA"), brief("alice", "", &authority, 2);
  const auto server = server_context(certificate, authority.certificate(), true);
  const auto client = client_context({}, &brief);
  bool resumed = true;
  const SessionRef ticket = meet(*client, *server, nullptr, resumed);
  const SessionRef again = meet(*client, *server, ticket.get(), resumed);
  EXPECT_TRUE(resumed);
  EXPECT_LE(::SSL_SESSION_get_ticket_lifetime_hint(again.get()), 300u);
  ::sleep(3);
  std::string error;
  meet(*client, *server, again.get(), resumed, &error);
  EXPECT_FALSE(resumed);
  EXPECT_THAT(error, HasSubstr("expired"));
}

TEST(TlsSession, OldVersionsAreRefused) {
  const Certificate certificate("tessera");
  const auto client = client_context();
  ::SSL_CTX_set_max_proto_version(client->get(), TLS1_2_VERSION);
  Ends accepted{
      TlsSession::connect(*client, "localhost", false), TlsSession::accept(*server_context(certificate)), {}, {}};
  shake(accepted, 100'000);
  EXPECT_TRUE(accepted.done());
  Ends refused{TlsSession::connect(*client, "localhost", false),
               TlsSession::accept(*server_context(certificate, {}, false, "1.3")),
               {},
               {}};
  shake(refused, 100'000);
  EXPECT_FALSE(refused.done());
  EXPECT_FALSE(refused.server_error.empty());
}

struct Trust {
  const char* host;
  bool verify_host;
  bool known_ca;
  bool accepted;
};
class Verification : public testing::TestWithParam<Trust> {};
TEST_P(Verification, TheServersCertificate) {
  const Trust trust = GetParam();
  const Certificate root("root", ""), other("other root", ""),
      certificate("tessera", "DNS:localhost,DNS:*.example.org,IP:127.0.0.1", &root);
  const auto client = client_context(trust.known_ca ? root.certificate() : other.certificate());
  Ends ends{TlsSession::connect(*client, trust.host, trust.verify_host),
            TlsSession::accept(*server_context(certificate)),
            {},
            {}};
  shake(ends, 100'000);
  EXPECT_EQ(ends.client->handshake_done(), trust.accepted) << ends.client_error;
  EXPECT_EQ(ends.client_error.empty(), trust.accepted);
}
INSTANTIATE_TEST_SUITE_P(All, Verification,
                         testing::Values(Trust{"localhost", true, true, true}, Trust{"localhost", true, false, false},
                                         Trust{"elsewhere", false, true, true}, Trust{"elsewhere", true, true, false},
                                         Trust{"127.0.0.1", true, true, true}, Trust{"127.0.0.2", true, true, false},
                                         Trust{"db.example.org", true, true, true},
                                         Trust{"a.b.example.org", true, true, false},
                                         Trust{"elsewhere", false, false, false}));

TEST(TlsSession, WithoutVerificationAnyCertificateDoes) {
  const Certificate certificate("whoever", "DNS:whatever");
  Ends ends{TlsSession::connect(*client_context(), "localhost", false),
            TlsSession::accept(*server_context(certificate)),
            {},
            {}};
  shake(ends, 100'000);
  EXPECT_TRUE(ends.done());
}

TEST(TlsSession, ClientCertificates) {
  const Certificate certificate("tessera"), root("root", ""), alice("alice", "", &root), stranger("mallory", "");
  const auto connect_as = [&](const Certificate* own, bool require) {
    Ends ends{TlsSession::connect(*client_context({}, own), "localhost", false),
              TlsSession::accept(*server_context(certificate, root.certificate(), require)),
              {},
              {}};
    shake(ends, 100'000);
    return ends;
  };
  Ends with = connect_as(&alice, true);
  EXPECT_TRUE(with.server->handshake_done());
  EXPECT_EQ(with.server->peer_common_name(), "alice");
  EXPECT_EQ(with.client->peer_common_name(), "") << "a server that was not verified has no name";
  Ends without = connect_as(nullptr, false);
  EXPECT_TRUE(without.server->handshake_done());
  EXPECT_EQ(without.server->peer_common_name(), "");
  EXPECT_FALSE(connect_as(nullptr, true).server->handshake_done());
  EXPECT_FALSE(connect_as(&stranger, false).server->handshake_done());
}

TEST(TlsSession, ANameWithAZeroByteIsNoName) {
  const Certificate certificate("tessera"), root("root", ""), trick(std::string("admin\0.example.org", 18), "", &root);
  Ends ends{TlsSession::connect(*client_context({}, &trick), "localhost", false),
            TlsSession::accept(*server_context(certificate, root.certificate(), true)),
            {},
            {}};
  shake(ends, 100'000);
  ASSERT_TRUE(ends.server->handshake_done()) << ends.server_error;
  EXPECT_EQ(ends.server->peer_common_name(), "");
}

TEST(TlsSession, GarbageFails) {
  const Certificate certificate("tessera");
  const auto server = TlsSession::accept(*server_context(certificate));
  server->feed("GET / HTTP/1.0\r\n\r\n");
  EXPECT_EQ(server->handshake(), TlsSession::Status::failed);
  EXPECT_FALSE(server->error().empty());
}

TEST(TlsContext, FilesThatAreMissingOrDoNotFit) {
  const Certificate one("one"), two("two");
  const auto missing = TlsContext::server({"/nowhere/cert.pem", one.private_key(), {}, false, "1.2"});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, sqlstate::config_file_error);
  EXPECT_THAT(missing.error().message, HasSubstr("certificate \"/nowhere/cert.pem\""));
  EXPECT_FALSE(TlsContext::server({one.certificate(), "/nowhere/key.pem", {}, false, "1.2"}));
  const auto mixed = TlsContext::server({one.certificate(), two.private_key(), {}, false, "1.2"});
  ASSERT_FALSE(mixed);
  EXPECT_THAT(mixed.error().message, HasSubstr("private key"));
  EXPECT_FALSE(TlsContext::server({one.certificate(), one.private_key(), "/nowhere/ca.pem", false, "1.2"}));
  TlsContext::ClientOptions client;
  client.verify_chain = true;
  client.ca = "/nowhere/ca.pem";
  EXPECT_FALSE(TlsContext::client(client));
}

// ---- streams --------------------------------------------------------------------------------------------------------

class TlsStream : public testing::Test {
protected:
  TlsStream() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
    client_ = Stream(loop_, Descriptor(ends[0]));
    server_ = Stream(loop_, Descriptor(ends[1]));
  }
  void start() {
    client_.start_tls(TlsSession::connect(*client_context(), "localhost", false));
    server_.start_tls(TlsSession::accept(*server_context(certificate_)));
  }
  void shake() {
    for (int i = 0; i < 20 && !(client_.tls()->handshake_done() && server_.tls()->handshake_done()); ++i) {
      ASSERT_EQ(client_.handshake(), Stream::Status::ok) << client_.error();
      ASSERT_EQ(server_.handshake(), Stream::Status::ok) << server_.error();
    }
    ASSERT_TRUE(client_.tls()->handshake_done() && server_.tls()->handshake_done());
  }
  static Stream::Status read_into(Stream& stream, std::string& got) {
    return stream.read([&](std::string_view bytes) {
      got.append(bytes);
      return true;
    });
  }
  const Certificate certificate_{"tessera"};
  EventLoop loop_;
  Stream client_{loop_, Descriptor()};
  Stream server_{loop_, Descriptor()};
};

TEST_F(TlsStream, DataBothWays) {
  start();
  shake();
  std::string got;
  for (const auto& [from, to] : {std::pair(&client_, &server_), std::pair(&server_, &client_)}) {
    from->append("hello");
    EXPECT_EQ(from->flush(), Stream::Status::ok);
    got.clear();
    EXPECT_EQ(read_into(*to, got), Stream::Status::ok);
    EXPECT_EQ(got, "hello");
  }
}

TEST_F(TlsStream, ManyBytesToASlowReader) {
  start();
  shake();
  const std::string bytes = pattern(8 << 20);
  EXPECT_EQ(server_.append_large(bytes), Stream::Status::ok);
  EXPECT_EQ(server_.flush(), Stream::Status::ok);
  EXPECT_GT(server_.pending(), Stream::high_water) << "what the kernel does not take counts as pending";
  std::string got;
  for (int i = 0; i < 100'000 && got.size() < bytes.size(); ++i) {
    ASSERT_EQ(read_into(client_, got), Stream::Status::ok) << client_.error();
    ASSERT_EQ(server_.flush(), Stream::Status::ok);
  }
  EXPECT_TRUE(got == bytes);
  EXPECT_TRUE(server_.drained());
  EXPECT_LE(server_.tls()->output().capacity(), 1024u);
}

TEST_F(TlsStream, AQueueThatNeverEmptiesDoesNotGrow) {
  start();
  shake();
  std::string got;
  std::size_t sent = 0;
  const std::string piece = pattern(64 << 10);
  std::size_t largest = 0;
  for (int i = 0; i < 400; ++i) {
    while (server_.pending() < 2 * Stream::high_water) {
      server_.append(piece);
      sent += piece.size();
    }
    ASSERT_EQ(server_.flush(), Stream::Status::ok);
    ASSERT_EQ(client_.read([&](std::string_view bytes) {
      got.append(bytes);
      return false;  // one piece in each round: always slower than the other side
    }),
              Stream::Status::ok);
    largest = std::max(largest, server_.tls()->output().capacity());
  }
  EXPECT_GT(sent, std::size_t{10} << 20);
  EXPECT_LT(largest, std::size_t{4} << 20);
}

TEST_F(TlsStream, AReaderMayPauseWithoutLosingAnything) {
  start();
  shake();
  const std::string bytes = pattern(2 << 20);
  server_.append(bytes);
  std::string got;
  for (int i = 0; i < 10'000 && got.size() < bytes.size(); ++i) {
    ASSERT_EQ(server_.flush(), Stream::Status::ok);
    ASSERT_EQ(client_.read([&](std::string_view piece) {
      got.append(piece);
      return false;
    }),
              Stream::Status::ok)
        << client_.error();
  }
  EXPECT_TRUE(got == bytes);
}

// The last message of the handshake and the first of the conversation arrive together.
TEST_F(TlsStream, DataThatComesWithTheEndOfTheHandshake) {
  start();
  ASSERT_EQ(client_.handshake(), Stream::Status::ok);
  ASSERT_EQ(server_.handshake(), Stream::Status::ok);
  ASSERT_EQ(client_.handshake(), Stream::Status::ok);
  ASSERT_TRUE(client_.tls()->handshake_done());
  client_.append("early bird");
  ASSERT_EQ(client_.flush(), Stream::Status::ok);
  ASSERT_EQ(server_.handshake(), Stream::Status::ok);
  ASSERT_TRUE(server_.tls()->handshake_done());
  std::string got;
  EXPECT_EQ(read_into(server_, got), Stream::Status::ok);
  EXPECT_EQ(got, "early bird");
}

TEST_F(TlsStream, TheOthersGoodbyeIsTheEnd) {
  start();
  shake();
  server_.append("bye");
  ASSERT_EQ(server_.flush(), Stream::Status::ok);
  server_.tls()->shutdown();
  ASSERT_EQ(server_.flush(), Stream::Status::ok);
  std::string got;
  EXPECT_EQ(read_into(client_, got), Stream::Status::closed);
  EXPECT_EQ(got, "bye");
}

TEST_F(TlsStream, AnEndWithoutGoodbyeIsTheEndToo) {
  start();
  shake();
  server_.close();
  std::string got;
  EXPECT_EQ(read_into(client_, got), Stream::Status::closed);
}

TEST_F(TlsStream, TamperedBytesFail) {
  start();
  shake();
  // What the server sends now is changed on its way.
  ASSERT_EQ(server_.tls()->write("the amount is 100"), TlsSession::Status::ok);
  std::string cipher = std::exchange(server_.tls()->output(), {});
  cipher[cipher.size() / 2] = static_cast<char>(cipher[cipher.size() / 2] ^ 1);
  ASSERT_EQ(::send(server_.descriptor(), cipher.data(), cipher.size(), 0), static_cast<ssize_t>(cipher.size()));
  std::string got;
  EXPECT_EQ(read_into(client_, got), Stream::Status::failed);
  EXPECT_EQ(got, "");
  EXPECT_THAT(client_.error(), testing::StartsWith("TLS: "));
}

// Two pairs of sockets with a carrier between them who moves one byte at a time.
TEST_F(TlsStream, OneByteAtATime) {
  int near[2], far[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, near), 0);
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, far), 0);
  client_ = Stream(loop_, Descriptor(near[0]));
  server_ = Stream(loop_, Descriptor(far[1]));
  const Descriptor left(near[1]), right(far[0]);
  start();
  const std::string question = pattern(3000), answer = pattern(5000);
  std::string heard, returned;
  bool asked = false, answered = false;
  for (int i = 0; i < 200'000 && returned.size() < answer.size(); ++i) {
    char byte = 0;
    if (::recv(left.get(), &byte, 1, 0) == 1) ASSERT_EQ(::send(right.get(), &byte, 1, 0), 1);
    if (::recv(right.get(), &byte, 1, 0) == 1) ASSERT_EQ(::send(left.get(), &byte, 1, 0), 1);
    for (Stream* stream : {&client_, &server_}) {
      if (!stream->tls()->handshake_done())
        ASSERT_EQ(stream->handshake(), Stream::Status::ok) << stream->error();
      else
        ASSERT_EQ(read_into(*stream, stream == &client_ ? returned : heard), Stream::Status::ok) << stream->error();
    }
    if (client_.tls()->handshake_done() && !std::exchange(asked, true)) client_.append(question);
    if (heard.size() == question.size() && !std::exchange(answered, true)) server_.append(answer);
    ASSERT_EQ(client_.tls()->handshake_done() ? client_.flush() : Stream::Status::ok, Stream::Status::ok);
    ASSERT_EQ(server_.tls()->handshake_done() ? server_.flush() : Stream::Status::ok, Stream::Status::ok);
  }
  EXPECT_TRUE(heard == question);
  EXPECT_TRUE(returned == answer);
}

}  // namespace
}  // namespace tessera::net
