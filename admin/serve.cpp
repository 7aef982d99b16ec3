// `tessera serve`: the process around the server, and what signals do to it.
#include <cstdio>
#include <fmt/format.h>
#include <memory>
#include <signal.h>
#include <string>
#include <time.h>
#include <vector>

#include "admin/commands.hpp"
#include "admin/endpoint.hpp"
#include "admin/process.hpp"
#include "base/clock.hpp"
#include "config/load.hpp"
#include "proxy/log.hpp"
#include "proxy/server.hpp"
#include "proxy/version.hpp"

namespace tessera::admin {

namespace log = proxy::log;
using namespace std::chrono_literals;

namespace {

sigset_t handled_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGUSR2}) ::sigaddset(&set, number);
  return set;
}

int complain(const Error& error) {
  std::fputs(fmt::format("tessera: {}{}{}\n", error.detail.empty() ? "" : error.detail + ": ", error.message,
                         error.hint.empty() ? "" : "\n  hint: " + error.hint)
                 .c_str(),
             stderr);
  return 1;
}

// The running process: what each signal does to it.
class Daemon {
public:
  Daemon(proxy::Server& server, std::unique_ptr<Endpoint> endpoint, PidFile& pid_file, std::string pid_path)
      : server_(server), endpoint_(std::move(endpoint)), pid_file_(pid_file), pid_path_(std::move(pid_path)) {}

  // Until the end.
  void run(const sigset_t& signals) {
    while (!ended_) {
      const timespec pause{0, 20'000'000};
      const int number = ::sigtimedwait(&signals, nullptr, &pause);
      if (number > 0) on_signal(number);
      if (phase_ != Phase::serving) look();
    }
    endpoint_.reset();  // before the workers that it asks
    server_.stop();
    log::info("tessera has ended");
  }

private:
  enum class Phase {
    serving,
    handed_over,  // a new process takes the clients; those of this one stay for a while
    draining,
  };

  void on_signal(int number) {
    switch (number) {
      case SIGHUP:
        return reload();
      case SIGUSR1:
        return reopen_log();
      case SIGUSR2:
        return hand_over();
      case SIGTERM:
        if (phase_ != Phase::draining) return drain("SIGTERM");
        log::warn("a second SIGTERM: the transactions that are left are ended");
        ended_ = true;
        return;
      default:
        if (phase_ == Phase::serving) notify_systemd("STOPPING=1");
        log::info("ending", {{"signal", "SIGINT"}});
        ended_ = true;
    }
  }

  void reload() {
    if (phase_ != Phase::serving)
      return log::warn("SIGHUP: this process is about to end and does not reload its configuration");
    notify_systemd(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", Clock::now().time_since_epoch() / 1us));
    const proxy::Server::ReloadOutcome outcome = server_.reload();
    for (const std::string& problem : outcome.problems)
      log::error("configuration not reloaded, the old one stays", {{"problem", problem}});
    // The file may have been rotated away, whatever the configuration is like.
    if (!outcome.problems.empty() && !server_.runtime()->config->log.file.empty()) reopen_log();
    notify_systemd("READY=1");
  }

  void reopen_log() {
    const auto runtime = server_.runtime();
    if (runtime->config->log.file.empty())
      return log::info("the log goes to standard error: there is no file to reopen");
    const Result<void> opened = log::configure(runtime->config->log);
    if (opened)
      log::info("log reopened");
    else
      log::error("log not reopened, the old one stays", {{"reason", opened.error().message}});
  }

  void hand_over() {
    if (phase_ != Phase::serving) return log::warn("SIGUSR2: this process is about to end and cannot hand over");
    log::info("handing over to a new process");
    std::vector<int> sockets = server_.listening();
    if (endpoint_->listening() >= 0) sockets.push_back(endpoint_->listening());
    pid_file_.hand_over();
    const Result<pid_t> made = HandOver::start(sockets);
    if (!made) {
      log::error("not handed over, this process goes on", {{"reason", made.error().message}});
      if (const Result<void> again = pid_file_.create(pid_path_); !again)
        log::error("the PID file is lost", {{"reason", again.error().message}});
      return;
    }
    notify_systemd(fmt::format("MAINPID={}\nREADY=1", *made));
    log::info("handed over: new clients go to the new process", {{"pid", std::to_string(*made)}});
    server_.stop_listening(proxy::Server::SocketFiles::leave);
    endpoint_.reset();
    enter(Phase::handed_over);
  }

  void drain(std::string_view why) {
    if (phase_ == Phase::serving) notify_systemd("STOPPING=1");
    log::info("draining", {{"reason", why}});
    server_.start_draining();
    enter(Phase::draining);
  }

  void enter(Phase phase) {
    phase_ = phase;
    until_ = Clock::now() + server_.runtime()->config->drain_timeout;
  }

  // After a hand-over clients that stay too long are drained, and what does not end then is ended.
  void look() {
    const bool late = Clock::now() >= until_;
    if (!server_.has_clients()) {
      ended_ = true;
    } else if (late && phase_ == Phase::handed_over) {
      drain("handed over, and drain_timeout has passed");
    } else if (late) {
      log::warn("the drain timeout has passed: ending the transactions that are left");
      ended_ = true;
    }
  }

  proxy::Server& server_;
  std::unique_ptr<Endpoint> endpoint_;
  PidFile& pid_file_;
  std::string pid_path_;
  Phase phase_ = Phase::serving;
  TimePoint until_{};
  bool ended_ = false;
};

}  // namespace

int serve(const ServeOptions& options) {
  // Before any thread is made: they inherit the mask, and signals are taken here alone.
  const sigset_t signals = handled_signals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  HandOver hand_over;
  hand_over.take();

  config::Loaded loaded = config::load(options.config, config::real_environment());
  complain(loaded.problems);
  if (!loaded.config) return 1;
  if (!options.pid_file.empty()) loaded.config->pid_file = options.pid_file;
  auto config = std::make_shared<const config::Config>(std::move(*loaded.config));
  if (const Result<void> opened = log::configure(config->log); !opened) return complain(opened.error());
  for (const config::Problem& warning : loaded.warnings)
    log::warn("configuration", {{"warning", config::to_string(warning)}});
  PidFile pid_file;
  if (const Result<void> made = pid_file.create(config->pid_file); !made) return complain(made.error());

  proxy::Server server(config, options.pid_file);
  if (const Result<void> started = server.start(); !started) return complain(started.error());
  // Who asks whether Tessera is ready shall hear of rules that do not fit their tables, not that all is well as yet.
  server.wait_for_catalogs(1s);
  Result<std::unique_ptr<Endpoint>> admin = Endpoint::start(server);
  if (!admin) return complain(admin.error());
  log::info("tessera is ready", {{"version", proxy::version},
                                 {"postgres", config->listen.postgres ? config->listen.postgres->text() : "off"},
                                 {"admin", config->admin.listen ? config->admin.listen->text() : "off"},
                                 {"workers", std::to_string(server.workers().size())}});
  notify_systemd("READY=1");
  hand_over.ready();
  Daemon(server, std::move(*admin), pid_file, config->pid_file).run(signals);
  return 0;
}

}  // namespace tessera::admin
