// LISTEN and NOTIFY under transaction pooling: one connection for each (user, shard) listens on behalf of all sessions
// of that user on this worker, and what it hears goes to those who listen. Transactions on any shard may NOTIFY; each
// shard is listened to. Runs on its worker's thread.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "pool/pool.hpp"

namespace tessera::proxy {

class Session;
class WorkerDatabase;

class ListenHub {
public:
  explicit ListenHub(WorkerDatabase& database);
  ~ListenHub();

  // True: every shard listens to the channel for this session from now on. False: they have been asked to, and
  // Session::on_listening follows. Nothing that is notified after LISTEN was answered is missed.
  bool listen(Session& session, const std::string& channel);
  void unlisten(Session& session, const std::string& channel);
  void forget(Session& session);
  void sweep(TimePoint now);
  void shut_down();

private:
  class Listener;  // one user on one shard
  using Listeners = std::vector<std::unique_ptr<Listener>>;
  void heard(const std::string& user, const postgres::NotificationView& notification);
  void answered(const std::string& user, const Result<void>& result);
  bool active(const std::string& user, const std::string& channel) const;
  std::set<std::string> channels_of(const std::string& user) const;

  WorkerDatabase& database_;
  std::map<std::string, std::set<Session*>> sessions_;  // by channel
  std::map<std::string, Listeners> listeners_;          // by user
};

}  // namespace tessera::proxy
