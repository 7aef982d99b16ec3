// What a daemon does besides its work: PID file, sd_notify, handing over to a new binary. Main thread only.
#pragma once

#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "base/error.hpp"
#include "net/socket.hpp"

namespace tessera::admin {

// sd_notify(3): one datagram to $NOTIFY_SOCKET. Nothing to do outside of systemd.
void notify_systemd(const std::string& state);

// Holds a lock on the file for the life of the process, so that a second Tessera with the same file does not start.
class PidFile {
public:
  PidFile() = default;
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;
  ~PidFile();
  // An empty path: there is no file, and that is right.
  Result<void> create(const std::string& path);
  // Lets go of the lock and leaves the file for another process.
  void hand_over() { file_.reset(); }

private:
  net::Descriptor file_;
  std::string path_;
};

// Handing over (SIGUSR2). The old process starts the program that its own command line names, which may have been
// replaced, with its listening sockets; so the kernel queues connections all the while, and none is refused. The new
// one says when it serves; then the old one accepts no more.
class HandOver {
public:
  // In the old process: starts the new one and waits until it serves. Its process id, or why it does not; then the old
  // one goes on. BLOCKS, up to `start_timeout`.
  static Result<pid_t> start(const std::vector<int>& sockets);

  // In the new one, before it listens: takes what the old one gave. Does nothing in a process that was started
  // otherwise.
  void take();
  // …and when it serves.
  void ready();

private:
  net::Descriptor ready_;
};

}  // namespace tessera::admin
