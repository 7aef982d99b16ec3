// LISTEN and NOTIFY under transaction pooling: one connection for each (user, shard) listens on behalf of all sessions
// of that user on this worker, and what it hears goes to those who listen. Transactions on any shard may NOTIFY; each
// shard is listened to. A connection that is lost is made anew and listens again; the sessions stay, and the log says
// that notifications may have been missed. So it is when a reload moves the shard, and with PAUSE and RECONNECT.
// Connections are closed when nobody has listened for `keep_idle`; they count against pool.max_server_connections. Runs
// on its worker's thread.
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
  static constexpr std::chrono::seconds keep_idle{5};
  static constexpr std::chrono::seconds retry_after{1};  // a LISTEN that a server has refused

  explicit ListenHub(WorkerDatabase& database);
  ~ListenHub();

  // True: every shard listens to the channel for this session from now on. False: they have been asked to, and
  // Session::on_listening follows. Nothing that is notified after LISTEN was answered is missed.
  bool listen(Session& session, const std::string& channel);
  void unlisten(Session& session, const std::string& channel);
  // True: what was notified before the session asked for the first time has come, as far as it can. False: it is being
  // waited for, and Session::on_listening follows; then the session asks again.
  bool has_heard_all(Session& session);
  void stop_waiting(Session& session);  // for that
  void forget(Session& session);        // unlistens from everything
  std::vector<std::string> channels_of(const Session& session) const;
  void reconfigure();  // the database has its new configuration
  // The connections are closed; they are made anew, and listen again, after RESUME or at once. What is notified in
  // between is lost, and the log says so.
  void pause();
  void resume();
  void reconnect();
  void sweep(TimePoint now);
  void shut_down();

private:
  class Listener;  // one user on one shard
  struct User {
    std::map<std::string, std::set<Session*>> channels;
    std::map<const Session*, std::set<std::string>> of_session;  // the same by session, each with one channel or more
    std::map<Session*, std::string> waiting;                     // for which channel
    struct Question {
      std::uint64_t number = 0;
      std::size_t left = 0;  // connections that have yet to say all
    };
    std::map<Session*, Question> settling;
    std::vector<std::unique_ptr<Listener>> listeners;
    TimePoint idle_since = never;  // nobody listens since then
    bool hears(const std::string& channel) const;
  };
  User& user_of(const Session& session);
  User* find_user(const Session& session);
  void heard(User& user, const postgres::NotificationView& notification);
  // A listener has made progress with a channel, or cannot.
  void answered(User& user, const std::string& channel, const Result<void>& result);
  void failed(User& user, const Listener& listener, const Error& reason);
  Session* told_all(User& user, std::uint64_t question);

  WorkerDatabase& database_;
  std::map<std::string, User> users_;  // by role
  std::uint64_t last_question_ = 0;
};

}  // namespace tessera::proxy
