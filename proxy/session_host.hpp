// What a session needs of the connection it lives in, and what it is told when it begins.
#pragma once

#include <cstdint>
#include <string>

#include "config/config.hpp"
#include "net/stream.hpp"
#include "pool/pool.hpp"

namespace tessera::proxy {

class WorkerDatabase;
class ListenHub;

class SessionHost {
public:
  virtual ~SessionHost() = default;
  virtual net::Stream& stream() = 0;
  // Ends the connection after what is queued has been sent.
  virtual void end_session() = 0;
  // The session was blocked and reads again.
  virtual void resume_reading() = 0;
  // Asks the servers to stop what they do for this session; they answer with an error.
  virtual void cancel_statement() = 0;
  // Asks the server to stop what runs on this connection; it answers with an error.
  virtual void stop_statement(pool::Backend& backend) = 0;
  // Likewise, and nobody will read the answer.
  virtual void abandon(const pool::Backend& backend) = 0;
  // The session's database has left the configuration, and nothing is under way: moves it, or ends it.
  virtual void leave_retired_database() = 0;
};

struct SessionOptions {
  WorkerDatabase* database = nullptr;
  ListenHub* listen = nullptr;
  std::string user;
  pool::IdentityRef identity;
  pool::Settings startup_settings;
  config::PoolMode mode = config::PoolMode::transaction;
  std::uint32_t number = 0;  // spreads sessions over shards
  std::string client;        // address, for SHOW and the log
};

}  // namespace tessera::proxy
