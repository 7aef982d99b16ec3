// Both ends of SCRAM against messages of an attacker: newline-separated, the first byte chooses the end and the channel
// binding. Without the password no exchange may succeed. Stored secrets: what parses has one spelling.
#include <cstdlib>

#include "wire/postgres/saslprep.hpp"
#include "wire/postgres/scram.hpp"

namespace {

using namespace tessera::postgres;

void require(bool condition) {
  if (!condition) std::abort();
}

std::string_view take_line(std::string_view& text) {
  const std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(text.size(), line.size() + 1));
  return line;
}

void attack_server(bool binding, std::string_view text) {
  std::optional<std::string> data;
  if (binding) data = "hash";
  ScramServer server(mock_scram_secret("user", "fuzz"), data, "servernonce");
  const std::string_view mechanism = take_line(text);
  const std::string_view first = take_line(text);
  const auto challenge = server.on_client_first(mechanism == "+" ? scram_sha_256_plus : scram_sha_256, first);
  if (challenge) require(challenge->starts_with("r=") && challenge->size() < scram_max_message);
  require(!server.on_client_final(take_line(text)).has_value());
  require(!server.keys().has_value());
}

void attack_client(ScramClient::Binding binding, std::string_view text) {
  ScramClient client(binding, "hash", "clientnonce");
  client.first();
  if (client.on_server_first(take_line(text))) {
    require(client.key_iterations() >= 1 && client.key_iterations() <= scram_max_iterations &&
            !client.key_salt().empty());
    require(client.final_message({}).has_value());
    // The keys are zero and known: a signature by them is no forgery, and too unlikely to be met.
    require(!client.on_server_final(take_line(text)).has_value());
  }
  require(!client.verified());
}

void check_texts(std::string_view text) {
  if (const auto secret = ScramSecret::parse(text)) require(ScramSecret::parse(secret->text()) == secret);
  if (const auto bytes = tessera::base64_decode(text)) require(tessera::base64_encode(*bytes) == text);
  const std::string prepared = saslprep(text);
  require(text.empty() == prepared.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 6) {
    case 0:
    case 1:
      attack_server(data[0] % 6 == 1, text);
      break;
    case 2:
      attack_client(ScramClient::Binding::none, text);
      break;
    case 3:
      attack_client(ScramClient::Binding::not_offered, text);
      break;
    case 4:
      attack_client(ScramClient::Binding::used, text);
      break;
    default:
      check_texts(text);
  }
  return 0;
}
