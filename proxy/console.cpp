#include "proxy/console.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <numeric>

#include "proxy/console_views.hpp"
#include "proxy/gather.hpp"
#include "proxy/log.hpp"
#include "proxy/session.hpp"
#include "proxy/version.hpp"
#include "proxy/worker.hpp"

namespace tessera::proxy {

namespace {

std::string done(std::string_view tag) {
  std::string message;
  if (!postgres::append_command_complete(message, tag)) message.clear();
  return message;
}

// Applies `change` to the database, or to all if the name is empty. Sessions may still be with what a reload replaced.
template <typename Change>
void on_databases(Worker& worker, const std::string& name, Change&& change) {
  worker.each_database_and_retired([&](WorkerDatabase& database) {
    if (name.empty() || database.name() == name) change(database);
  });
}

}  // namespace

Console::Console(Worker& worker, Role role, SessionHost& host) : worker_(worker), role_(role), host_(host) {}

Console::~Console() {
  *alive_ = false;
}

void Console::greet() {
  std::string& out = host_.stream().out();
  const std::pair<std::string_view, std::string> parameters[] = {
      {"server_version", fmt::format("15.0 (tessera {})", version)},
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

// ---- messages -------------------------------------------------------------------------------------------------------

void Console::on_client_bytes(std::string_view bytes) {
  input_.append(bytes);
  if (input_.size() > max_waiting) return host_.end_session();
  take_input();
}

void Console::on_client_end() {
  ended_ = true;
  postgres::FrameHeader header;
  const bool more = postgres::peek_frame(input_, max_command, header) == postgres::FrameStatus::complete &&
                    header.type != postgres::frontend::terminate;
  // A PAUSE stays in force; nobody waits to hear that it is done.
  if (!busy_ || (pausing_ && !more)) host_.end_session();
}

void Console::take_input() {
  postgres::FrameHeader header;
  while (!busy_) {
    const postgres::FrameStatus status = postgres::peek_frame(input_, max_command, header);
    if (status == postgres::FrameStatus::malformed) return host_.end_session();
    if (status != postgres::FrameStatus::complete) break;
    const std::string whole = input_.substr(0, header.total_size());
    input_.erase(0, whole.size());
    if (header.type == postgres::frontend::terminate) return host_.end_session();
    handle(header.type, whole);
  }
  if (ended_ && !busy_) return host_.end_session();
  host_.stream().flush();
}

void Console::handle(char type, std::string_view whole) {
  if (type == postgres::frontend::sync) {
    skipping_ = false;
    return postgres::append_ready_for_query(host_.stream().out(), postgres::TransactionStatus::idle);
  }
  if (skipping_ || type == postgres::frontend::flush) return;
  std::string_view sql;
  if (type == postgres::frontend::query && postgres::parse_query(whole.substr(postgres::frame_header_size), sql))
    return run(sql);
  // As a server does: one error, and what follows up to Sync belongs to the same unit. A simple query is one by itself.
  skipping_ = type != postgres::frontend::query;
  postgres::append_error(host_.stream().out(),
                         {sqlstate::feature_not_supported,
                          "the console understands simple queries only",
                          {},
                          "with psql: \\set and plain statements; with drivers: the simple protocol",
                          0});
}

void Console::run(std::string_view sql) {
  const Result<ConsoleCommand> command = parse_console_command(sql);
  if (!command) return answer(std::unexpected(command.error()));
  using Verb = ConsoleCommand::Verb;
  if (command->verb == Verb::nothing) {
    std::string empty;
    postgres::append_empty_query_response(empty);
    return answer(std::move(empty));
  }
  if (command->verb != Verb::show && role_ != Role::admin)
    return answer(fail(sqlstate::insufficient_privilege, "only SHOW is allowed to viewers of the console",
                       "admin.console_admins lists the users who may do more"));
  start(*command);
}

void Console::start(const ConsoleCommand& command) {
  using Verb = ConsoleCommand::Verb;
  switch (command.verb) {
    case Verb::nothing:
      return;
    case Verb::show:
      return show(command);
    case Verb::reload:
      return reload();
    case Verb::shutdown:
      return answer(fail(sqlstate::feature_not_supported, "the console cannot end Tessera",
                         "send SIGTERM to the process: it drains and ends"));
    case Verb::pause:
    case Verb::resume:
    case Verb::reconnect:
      return change_pools(command);
  }
}

template <typename Answer>
void Console::ask(std::function<Answer(Worker&)> question, std::function<void(std::vector<Answer>)> then) {
  net::EventLoop* loop = &worker_.loop();
  gather<Answer>(
      worker_.server(), std::move(question),
      [loop, alive = alive_, then = std::move(then)](std::vector<Answer> answers) mutable {
        loop->post([alive = std::move(alive), then = std::move(then), answers = std::move(answers)]() mutable {
          if (*alive) then(std::move(answers));
        });
      });
}

// ---- commands -------------------------------------------------------------------------------------------------------

void Console::show(const ConsoleCommand& command) {
  const Result<Wanted> wanted = console_view_needs(command.subject);
  if (!wanted) return answer(std::unexpected(wanted.error()));
  busy_ = true;
  const auto question = [wanted = *wanted](Worker& worker) { return collect(worker, wanted); };
  ask<Facts>(question, [this, view = command.subject](std::vector<Facts> parts) {
    finish(console_view(view, merge(std::move(parts)), worker_.server()));
  });
}

void Console::change_pools(const ConsoleCommand& command) {
  using Verb = ConsoleCommand::Verb;
  const std::string& database = command.subject;
  if (!database.empty() && worker_.find_database(database) == nullptr)
    return answer(fail(sqlstate::invalid_catalog_name, fmt::format("there is no database \"{}\"", database)));
  busy_ = true;
  const Verb verb = command.verb;
  const std::string_view tag = verb == Verb::pause ? "PAUSE" : verb == Verb::resume ? "RESUME" : "RECONNECT";
  log::info("console command", {{"command", tag}, {"database", database.empty() ? "all" : std::string_view(database)}});
  const auto change = [verb, database](Worker& worker) {
    using Change = Worker::PoolChange;
    worker.change_pools(database, verb == Verb::pause    ? Change::pause
                                  : verb == Verb::resume ? Change::resume
                                                         : Change::reconnect);
    return true;
  };
  pause_database_ = database;
  ask<char>(change, [this, verb, tag](const std::vector<char>&) {
    if (verb != Verb::pause) return finish(done(tag));
    pausing_ = true;
    count_busy();
  });
}

void Console::sweep() {
  if (pausing_ && !counting_) count_busy();
}

// PAUSE is done when no connection serves a client any more.
void Console::count_busy() {
  counting_ = true;
  const auto question = [database = pause_database_](Worker& worker) {
    int busy = 0;
    bool paused = true;
    on_databases(worker, database, [&](WorkerDatabase& one) {
      paused = paused && one.paused();
      one.each_pool([&](const pool::Pool& pool) { busy += pool.counts().busy; });
      if (const AuthQuery* query = worker.auth_query(one.name())) busy += query->asks() ? 1 : 0;
    });
    return paused ? busy : -1;
  };
  ask<int>(question, [this](const std::vector<int>& busy) {
    counting_ = false;
    if (!pausing_) return;
    const bool resumed = std::find(busy.begin(), busy.end(), -1) != busy.end();
    if (!resumed && std::accumulate(busy.begin(), busy.end(), 0) > 0) return;
    pausing_ = false;
    if (resumed) return finish(fail(sqlstate::query_canceled, "RESUME came before all connections had been released"));
    finish(done("PAUSE"));
  });
}

void Console::reload() {
  busy_ = true;
  net::EventLoop* loop = &worker_.loop();
  Server* server = &worker_.server();
  const bool taken = server->chores().post([this, loop, server, alive = alive_] {
    const Server::ReloadOutcome outcome = server->reload();
    for (const std::string& problem : outcome.problems)
      log::error("configuration not reloaded, the old one stays", {{"problem", problem}});
    loop->post([this, alive, outcome] {
      if (!*alive) return;
      if (outcome.problems.empty()) return finish(done("RELOAD"));
      finish(std::unexpected(Error{sqlstate::config_file_error,
                                   "the configuration was not reloaded, the old one stays",
                                   fmt::format("{}", fmt::join(outcome.problems, "\n")),
                                   {},
                                   0}));
    });
  });
  if (taken) return;
  busy_ = false;
  answer(fail(sqlstate::cannot_connect_now, "too much administrative work waits already", "try again"));
}

// ---- answers --------------------------------------------------------------------------------------------------------

void Console::answer(const Result<std::string>& reply) {
  std::string& out = host_.stream().out();
  if (reply)
    out += *reply;
  else
    postgres::append_error(out, reply.error());
  postgres::append_ready_for_query(out, postgres::TransactionStatus::idle);
}

// The end of a command that was under way.
void Console::finish(const Result<std::string>& reply) {
  busy_ = false;
  answer(reply);
  take_input();
}

}  // namespace tessera::proxy
