#include "proxy/console.hpp"

#include <fmt/format.h>

#include "proxy/console_commands.hpp"
#include "proxy/session.hpp"
#include "proxy/version.hpp"

namespace tessera::proxy {

Console::Console(Server& server, Role role, SessionHost& host) : server_(server), role_(role), host_(host) {}

void Console::greet() {
  std::string& out = host_.stream().out();
  const std::pair<std::string_view, std::string> parameters[] = {{"server_version", fmt::format("15.0 (tessera {})", version)},
                                                                  {"client_encoding", "UTF8"},
                                                                  {"server_encoding", "UTF8"},
                                                                  {"DateStyle", "ISO"},
                                                                  {"TimeZone", "UTC"},
                                                                  {"standard_conforming_strings", "on"},
                                                                  {"is_superuser", "off"}};
  for (const auto& [name, value] : parameters)
    if (!postgres::append_parameter_status(out, name, value)) return host_.end_session();
  postgres::append_ready_for_query(out, postgres::TransactionStatus::idle);
  host_.stream().flush();
}

void Console::on_client_bytes(std::string_view bytes) {
  input_.append(bytes);
  postgres::FrameHeader header;
  while (true) {
    // A console command is short.
    const postgres::FrameStatus status = postgres::peek_frame(input_, 65'536, header);
    if (status == postgres::FrameStatus::malformed) return host_.end_session();
    if (status != postgres::FrameStatus::complete) break;
    const std::string whole = input_.substr(0, header.total_size());
    input_.erase(0, whole.size());
    if (header.type == postgres::frontend::terminate) return host_.end_session();
    handle(header.type, whole);
  }
  host_.stream().flush();
}

void Console::handle(char type, std::string_view whole) {
  std::string_view sql;
  if (type == postgres::frontend::query && postgres::parse_query(whole.substr(postgres::frame_header_size), sql)) return run(sql);
  if (type == postgres::frontend::sync) return postgres::append_ready_for_query(host_.stream().out(), postgres::TransactionStatus::idle);
  postgres::append_error(host_.stream().out(), {sqlstate::feature_not_supported, "the console understands simple queries only", {}, "with psql: \\set and plain statements; with drivers: the simple protocol", 0});
}

void Console::run(std::string_view sql) { answer(run_console_command(sql, server_, role_)); }

void Console::answer(const Result<std::string>& reply) {
  std::string& out = host_.stream().out();
  if (reply)
    out += *reply;
  else
    postgres::append_error(out, reply.error());
  postgres::append_ready_for_query(out, postgres::TransactionStatus::idle);
}

}  // namespace tessera::proxy
