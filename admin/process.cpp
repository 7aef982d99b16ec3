#include "admin/process.hpp"

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <memory>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proxy/log.hpp"

namespace tessera::admin {

namespace log = proxy::log;

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

// ---- PID file -------------------------------------------------------------------------------------------------------

PidFile::~PidFile() {
  if (file_) ::unlink(path_.c_str());
}

Result<void> PidFile::create(const std::string& path) {
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

// ---- a new binary ---------------------------------------------------------------------------------------------------

namespace {

constexpr const char* variable = "TESSERA_HANDOVER";  // number of listening sockets, from first_socket on
constexpr int ready_at = 3, first_socket = 4;         // descriptors in the new process
constexpr std::chrono::seconds start_timeout{30};

std::unexpected<Error> failed(const char* what, int code) {
  return fail(sqlstate::cannot_connect_now, fmt::format("{}: {}", what, std::strerror(code)));
}

// The command line of this process.
std::vector<std::string> command_line() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; std::getline(file, word, '\0');) words.push_back(word);
  return words;
}

std::vector<std::string> environment_with(const std::string& entry) {
  std::vector<std::string> all{entry};
  for (char** one = environ; *one != nullptr; ++one)
    if (!std::string_view(*one).starts_with(std::string(variable) + "=")) all.emplace_back(*one);
  return all;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> all;
  for (std::string& word : words) all.push_back(word.data());
  all.push_back(nullptr);
  return all;
}

// What the new process finds at its descriptors, and nothing else of ours. They are moved out of the way first: a
// socket may stand where another one is to go.
class Descriptors {
public:
  Descriptors() { ::posix_spawn_file_actions_init(&actions_); }
  ~Descriptors() { ::posix_spawn_file_actions_destroy(&actions_); }
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;

  bool add(int fd) {
    constexpr int out_of_the_way = 64;
    const net::Descriptor& moved = moved_.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, out_of_the_way));
    return moved && ::posix_spawn_file_actions_adddup2(&actions_, moved.get(), next_++) == 0;
  }
  const posix_spawn_file_actions_t* finish() {
    ::posix_spawn_file_actions_addclosefrom_np(&actions_, next_);
    return &actions_;
  }

private:
  posix_spawn_file_actions_t actions_;
  std::vector<net::Descriptor> moved_;
  int next_ = ready_at;
};

// True: the new process has said so. False: it has ended, or takes too long.
bool wait_until_ready(int pipe) {
  const auto until = std::chrono::steady_clock::now() + start_timeout;
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd one{pipe, POLLIN, 0};
    const int changed = ::poll(&one, 1, static_cast<int>(left.count()));
    if (changed < 0 && errno == EINTR) continue;
    char byte = 0;
    return changed > 0 && ::read(pipe, &byte, 1) == 1;
  }
}

}  // namespace

Result<pid_t> HandOver::start(const std::vector<int>& sockets) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failed("cannot make a pipe", errno);
  const net::Descriptor read_end(ends[0]);
  net::Descriptor write_end(ends[1]);
  auto descriptors = std::make_unique<Descriptors>();
  bool added = descriptors->add(write_end.get());
  for (const int fd : sockets) added = added && descriptors->add(fd);
  if (!added) return failed("cannot pass the listening sockets on", errno);
  write_end.reset();

  std::vector<std::string> words = command_line();
  std::vector<std::string> environment = environment_with(fmt::format("{}={}", variable, sockets.size()));
  if (words.empty()) return failed("cannot read the command line", ENOENT);
  const std::vector<char*> arguments = pointers(words), variables = pointers(environment);
  pid_t process = 0;
  const int code =
      ::posix_spawnp(&process, arguments[0], descriptors->finish(), nullptr, arguments.data(), variables.data());
  if (code != 0) return failed("cannot start the new program", code);
  descriptors.reset();  // so that the pipe ends when the new process does
  if (wait_until_ready(read_end.get())) return process;
  ::kill(process, SIGKILL);
  ::waitpid(process, nullptr, 0);
  return fail(sqlstate::cannot_connect_now, "the new program did not start; it has said why");
}

void HandOver::take() {
  const char* given = std::getenv(variable);
  if (given == nullptr) return;
  int count = 0;
  const std::string_view text(given);
  const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  const bool valid = error == std::errc() && at == text.data() + text.size() && count >= 0 && count < 1000;
  ::unsetenv(variable);
  if (!valid) return;
  ready_.reset(ready_at);
  ::fcntl(ready_at, F_SETFD, FD_CLOEXEC);
  std::vector<net::Descriptor> sockets;
  for (int i = 0; i < count; ++i) sockets.emplace_back(first_socket + i);
  net::inherit(std::move(sockets));
}

void HandOver::ready() {
  if (!ready_) return;
  const ssize_t written = ::write(ready_.get(), "1", 1);
  if (written != 1) log::warn("the old process cannot be told", {{"reason", std::strerror(errno)}});
  ready_.reset();
  net::inherit({});  // addresses that the new configuration does not have
}

}  // namespace tessera::admin
