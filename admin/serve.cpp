// `tessera serve`: the process around the server. Signals, PID file, systemd.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "admin/commands.hpp"
#include "admin/endpoint.hpp"
#include "config/load.hpp"
#include "proxy/log.hpp"
#include "proxy/server.hpp"
#include "proxy/version.hpp"

namespace tessera::admin {

namespace log = proxy::log;

namespace {

// sd_notify(3): one datagram. Nothing to do outside of systemd.
void notify_systemd(const std::string& state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || *path == '\0') return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t length = std::strlen(path);
  if (length >= sizeof address.sun_path) return;
  std::memcpy(address.sun_path, path, length);
  if (*path == '@') address.sun_path[0] = '\0';
  const net::Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  if (::sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address), size) < 0)
    log::warn("systemd cannot be notified", {{"reason", std::strerror(errno)}});
}

// Holds a lock on the file for the life of the process, so that a second Tessera with the same file does not start.
class PidFile {
public:
  ~PidFile() {
    if (file_) ::unlink(path_.c_str());
  }
  Result<void> create(const std::string& path) {
    if (path.empty()) return {};
    net::Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!file)
      return fail(sqlstate::config_file_error,
                  fmt::format("cannot write the PID file \"{}\": {}", path, std::strerror(errno)));
    struct flock lock{};
    lock.l_type = F_WRLCK;
    if (::fcntl(file.get(), F_SETLK, &lock) != 0)
      return fail(sqlstate::config_file_error,
                  fmt::format("the PID file \"{}\" is locked: Tessera is running already", path));
    const std::string text = fmt::format("{}\n", ::getpid());
    if (::ftruncate(file.get(), 0) != 0 ||
        ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
      return fail(sqlstate::config_file_error,
                  fmt::format("cannot write the PID file \"{}\": {}", path, std::strerror(errno)));
    file_ = std::move(file);
    path_ = path;
    return {};
  }

private:
  net::Descriptor file_;
  std::string path_;
};

sigset_t handled_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGHUP, SIGTERM, SIGINT, SIGUSR1}) ::sigaddset(&set, number);
  return set;
}

int complain(const Error& error) {
  std::fputs(fmt::format("tessera: {}{}{}\n", error.detail.empty() ? "" : error.detail + ": ", error.message,
                         error.hint.empty() ? "" : "\n  hint: " + error.hint)
                 .c_str(),
             stderr);
  return 1;
}

void reload(proxy::Server& server) {
  notify_systemd("RELOADING=1");
  const proxy::Server::ReloadOutcome outcome = server.reload();
  for (const std::string& problem : outcome.problems)
    log::error("configuration not reloaded, the old one stays", {{"problem", problem}});
  notify_systemd("READY=1");
}

}  // namespace

int serve(const ServeOptions& options) {
  // Before any thread is made: they inherit the mask, and signals are taken here alone.
  const sigset_t signals = handled_signals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);

  config::Loaded loaded = config::load(options.config, config::real_environment());
  complain(loaded.problems);
  if (!loaded.config) return 1;
  auto config = std::make_shared<const config::Config>(std::move(*loaded.config));
  if (const Result<void> opened = log::configure(config->log); !opened) return complain(opened.error());
  for (const config::Problem& warning : loaded.warnings)
    log::warn("configuration", {{"warning", config::to_string(warning)}});
  PidFile pid_file;
  if (const Result<void> made = pid_file.create(options.pid_file.empty() ? config->pid_file : options.pid_file); !made)
    return complain(made.error());

  proxy::Server server(config);
  if (const Result<void> started = server.start(); !started) return complain(started.error());
  Result<std::unique_ptr<Endpoint>> admin = Endpoint::start(server);
  if (!admin) return complain(admin.error());
  log::info("tessera is ready", {{"version", proxy::version},
                                 {"postgres", config->listen.postgres ? config->listen.postgres->text() : "off"},
                                 {"admin", config->admin.listen ? config->admin.listen->text() : "off"},
                                 {"workers", std::to_string(server.workers().size())}});
  notify_systemd("READY=1");
  while (true) {
    int number = 0;
    if (::sigwait(&signals, &number) != 0) continue;
    if (number == SIGHUP) {
      reload(server);
      continue;
    }
    if (number == SIGUSR1) continue;
    notify_systemd("STOPPING=1");
    log::info("draining", {{"signal", number == SIGTERM ? "SIGTERM" : "SIGINT"}});
    if (number == SIGTERM) server.drain();
    admin->reset();  // before the workers that it asks
    server.stop();
    log::info("tessera has ended");
    return 0;
  }
}

}  // namespace tessera::admin
