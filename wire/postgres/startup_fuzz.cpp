// The first packet, and both login machines. The first byte of the input chooses who is fed and how; the machines get
// the rest in pieces, must never succeed without the password, and must stay failed once they have failed.
#include <algorithm>
#include <cstdlib>

#include "wire/postgres/client_login.hpp"
#include "wire/postgres/frontend.hpp"
#include "wire/postgres/server_login.hpp"
#include "wire/postgres/startup.hpp"

namespace {

using namespace tessera;
using namespace tessera::postgres;

void require(bool condition) {
  if (!condition) std::abort();
}

void feed_first_packet(std::string_view bytes) {
  std::size_t total = 0;
  if (peek_first_packet(bytes, total) != FrameStatus::complete) return;
  const auto packet = parse_first_packet(bytes.substr(0, total));
  if (!packet) return;
  const auto* startup = std::get_if<StartupMessage>(&*packet);
  if (startup == nullptr) return;
  std::string out;
  StartupMessage copy = *startup;
  if (!append_startup(out, copy)) return;  // the database's default may have made it longer than allowed
  const auto again = parse_first_packet(out);
  require(again.has_value() && std::get<StartupMessage>(*again) == copy);
}

// A secret that no proof fits: its keys come from no password.
ScramSecret secret() {
  return mock_scram_secret("alice", "fuzz");
}

void feed_client_login(std::uint8_t choice, std::string_view bytes) {
  ClientLogin::Options options;
  options.user = "alice";
  options.method = std::array{AuthMethod::cleartext, AuthMethod::md5, AuthMethod::scram_sha_256}[choice % 3];
  switch (choice / 3 % 3) {
    case 0:
      options.credential = secret();
      break;
    case 1:
      options.credential = PlainPassword{Secret("a password that a fuzzer does not find")};
      break;
    default:
      options.credential = UnknownUser{};
  }
  options.tls = true;
  options.server_decides = (choice & 32) != 0;
  if (choice & 64) options.channel_binding = "hash";
  options.mock_key = "fuzz";
  ClientLogin login(std::move(options));
  std::string out;
  LoginStep step = login.start(out);
  require(step == LoginStep::need_message);
  for (FrameHeader header; peek_frame(bytes, max_login_message_length, header) == FrameStatus::complete;) {
    const bool had_failed = step == LoginStep::failed;
    step = login.on_message(header.type, frame_body(bytes, header), out);
    if (step == LoginStep::need_keys) step = login.on_keys({}, out);
    if (step == LoginStep::need_verdict) step = login.on_verdict(fail(sqlstate::invalid_password, "no"), out);
    require(step != LoginStep::ok && !(had_failed && step != LoginStep::failed));
    bytes.remove_prefix(header.total_size());
  }
}

void feed_server_login(std::uint8_t choice, std::string_view bytes) {
  ServerLogin::Options options;
  options.startup.user = "alice";
  options.tls = std::array{ServerTls::off, ServerTls::prefer, ServerTls::require}[choice % 3];
  if (choice / 3 % 2 == 0) {
    options.credential = PlainPassword{Secret("pw")};
  } else {
    options.credential = ScramKeys{};
  }
  ServerLogin login(std::move(options));
  std::string out;
  ServerLoginStep step = login.start(out);
  const std::size_t piece = choice / 6 % 16 + 1;
  std::string buffered;
  while (step != ServerLoginStep::failed && step != ServerLoginStep::ready) {
    if (step == ServerLoginStep::start_tls) {
      step = login.on_tls("hash", out);
    } else if (step == ServerLoginStep::need_keys) {
      step = login.on_keys({}, out);
    } else {
      if (bytes.empty()) return;
      const std::size_t count = std::min(piece, bytes.size());
      buffered.append(bytes.substr(0, count));
      bytes.remove_prefix(count);
      std::size_t consumed = 0;
      step = login.on_bytes(buffered, consumed, out);
      require(consumed <= buffered.size());
      buffered.erase(0, consumed);
    }
  }
  if (step == ServerLoginStep::ready) return;
  std::size_t consumed = 0;
  require(login.on_bytes("x", consumed, out) == ServerLoginStep::failed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::uint8_t choice = data[0];
  if (choice < 40) {
    feed_first_packet(bytes);
  } else if (choice < 150) {
    feed_client_login(choice, bytes);
  } else {
    feed_server_login(choice, bytes);
  }
  return 0;
}
