#include "proxy/listen_hub.hpp"

#include <algorithm>
#include <deque>
#include <fmt/format.h>

#include "proxy/log.hpp"
#include "proxy/session.hpp"

namespace tessera::proxy {

using pool::Backend;

// Holds one connection and keeps what it listens to equal to what the user's sessions want.
class ListenHub::Listener final : public pool::BackendOwner, public pool::PoolClient {
public:
  Listener(ListenHub& hub, User& user, std::unique_ptr<pool::Pool> pool)
      : hub_(hub), user_(user), pool_(std::move(pool)) {}
  ~Listener() override {
    pool_->forget(*this);
    close("the listener ends");
  }

  // Somebody wants to hear the channel, or nobody does any more.
  void changed(const std::string& channel) {
    changed_.insert(channel);
    update();
  }
  bool hears(const std::string& channel) const { return backend_ != nullptr && heard_.contains(channel); }
  void sweep(TimePoint now) {
    pool_->sweep(now);
    if (user_.channels.empty() && now - user_.idle_since >= keep_idle) return close("nobody listens any more");
    for (const auto& [channel, until] : refused_)
      if (until <= now) changed_.insert(channel);
    std::erase_if(refused_, [&](const auto& entry) { return entry.second <= now; });
    update();
  }
  void follow(const pool::EndpointRef& endpoint, pool::IdentityRef identity, const config::Pool& limits) {
    const pool::EndpointRef before = pool_->options().endpoint;
    if (before == endpoint && identity == pool_->options().identity) return;
    pool_->reconfigure(endpoint, std::move(identity), limits);
    // A renewed TLS context is for the next connection: to break this one would lose notifications.
    if (backend_ == nullptr || same_place(*before, *endpoint)) return;
    tell_of_gap("the shard has moved");
    close("the shard has moved");
  }
  void pause() {
    pool_->pause();
    renew("PAUSE");
  }
  void resume() { pool_->resume(); }
  // The sweep connects again, if somebody listens.
  void renew(std::string_view why) {
    pool_->reconnect();
    if (backend_ == nullptr) return;
    tell_of_gap(why);
    close(why);
  }
  const pool::Pool::Options& options() const { return pool_->options(); }
  // A server tells what it has before it is ready for the next query. False: there is no connection.
  bool tell_all(std::uint64_t question) {
    if (backend_ == nullptr || !postgres::append_query(backend_->out(), "")) return false;
    backend_->replies().expect({.kind = pool::ReplyKind::query, .delivery = pool::Delivery::ignore});
    asked_.push_back({.channel = {}, .listen = false, .question = question});
    backend_->flush();
    return true;
  }

private:
  struct Change {  // or the question whether all has been told
    std::string channel;
    bool listen;
    std::uint64_t question = 0;
  };

  void close(std::string_view why) {
    heard_.clear();
    // Who waits is told by the hub's sweep: not from here, where the connection is half closed.
    for (const Change& change : std::exchange(asked_, {})) hub_.told_all(user_, change.question);
    refused_.clear();
    error_.reset();
    if (Backend* backend = std::exchange(backend_, nullptr)) pool_->discard(*backend, why);
  }

  void tell_of_gap(std::string_view why) {
    gap_ = !user_.channels.empty();
    if (gap_) note("a connection that listens was lost: notifications may have been missed", why);
  }

  void note(std::string_view what, std::string_view why) const {
    log::warn(what, {{"database", hub_.database_.name()},
                     {"shard", options().endpoint->name},
                     {"user", options().identity->user},
                     {"reason", why}});
  }

  void update() {
    if (backend_ == nullptr) {
      if (connecting_ || user_.channels.empty()) return;
      connecting_ = true;
      if (Backend* backend = pool_->checkout(*this)) on_checkout(*backend);
      return;
    }
    if (!asked_.empty() || changed_.empty()) return;
    // A query for each, so that an error is one channel's own.
    for (const std::string& channel : std::exchange(changed_, {})) {
      const bool wanted = user_.channels.contains(channel);
      if (wanted == heard_.contains(channel) || (wanted && refused_.contains(channel))) continue;
      const std::string sql = fmt::format("{} {}", wanted ? "LISTEN" : "UNLISTEN", pool::quote_identifier(channel));
      if (!postgres::append_query(backend_->out(), sql)) continue;
      backend_->replies().expect({.kind = pool::ReplyKind::query, .delivery = pool::Delivery::ignore});
      asked_.push_back({.channel = channel, .listen = wanted});
      if (!wanted) heard_.erase(channel);  // who comes now must not rely on it
    }
    backend_->flush();
  }

  void on_checkout(Backend& backend) override {
    connecting_ = false;
    backend_ = &backend;
    backend.lease(*this);
    if (std::exchange(gap_, false)) note("listening again", "connected");
    changed_.clear();
    for (const auto& [channel, sessions] : user_.channels) changed_.insert(channel);
    update();
  }
  void on_checkout_failed(const Error& reason) override {
    connecting_ = false;
    Error told = reason;
    if (reason.code == sqlstate::too_many_connections) {
      told.detail = "a connection that listens counts among the shard's, and pool.max_server_connections are open";
      told.hint = "raise pool.max_server_connections";
    }
    hub_.failed(user_, *this, told);
  }
  void on_relay(std::string_view) override {}
  void on_done(const pool::ExpectedReply&, char, std::string_view) override {}
  bool on_error(const pool::ExpectedReply&, const postgres::ErrorFields& fields) override {
    error_ = fields.to_error();
    return false;
  }
  void on_skipped(const pool::ExpectedReply&) override {}
  bool on_ready(const pool::ExpectedReply&, postgres::TransactionStatus) override {
    if (asked_.empty()) return false;
    const Change change = std::move(asked_.front());
    asked_.pop_front();
    const std::optional<Error> error = std::exchange(error_, std::nullopt);
    if (change.question != 0) {
      if (Session* const session = hub_.told_all(user_, change.question)) session->on_listening({});
      return false;
    }
    if (error) {
      refused_[change.channel] = hub_.database_.loop().now() + retry_after;
    } else if (change.listen) {
      heard_.insert(change.channel);
    }
    hub_.answered(user_, change.channel, error ? Result<void>(std::unexpected(*error)) : Result<void>());
    return false;
  }
  void on_copy(const pool::ExpectedReply&, char) override {}
  bool on_parameter(std::string_view, std::string_view, bool) override { return false; }
  bool on_notice(const postgres::ErrorFields&, bool) override { return false; }
  bool on_notification(const postgres::NotificationView& notification) override {
    hub_.heard(user_, notification);
    return false;
  }
  void on_backend_turn(Backend&) override { update(); }
  // Whoever waits goes on waiting: the next sweep connects again.
  void on_backend_lost(Backend&, const Error& reason) override {
    backend_ = nullptr;
    tell_of_gap(reason.message);
    close({});
  }
  void on_backend_prepared(Backend&, const Result<void>&) override {}
  void on_backend_drained(Backend&) override {}
  bool is_congested() const override { return false; }

  ListenHub& hub_;
  User& user_;
  std::unique_ptr<pool::Pool> pool_;  // of this one connection, beside the user's ordinary pool
  Backend* backend_ = nullptr;
  bool connecting_ = false;
  bool gap_ = false;                          // listeners are without a connection
  std::set<std::string> changed_;             // to be compared with what the connection hears
  std::set<std::string> heard_;               // what it listens to
  std::deque<Change> asked_;                  // what it was asked to change
  std::map<std::string, TimePoint> refused_;  // until when not to ask again
  std::optional<Error> error_;
};

ListenHub::ListenHub(WorkerDatabase& database) : database_(database) {}
ListenHub::~ListenHub() = default;

bool ListenHub::User::hears(const std::string& channel) const {
  return std::ranges::all_of(listeners, [&](const auto& listener) { return listener->hears(channel); });
}

ListenHub::User* ListenHub::find_user(const Session& session) {
  const auto found = users_.find(session.options().identity->user);
  return found == users_.end() ? nullptr : &found->second;
}

// With a listener for each shard, who logs in with what this session has logged in with: the latest is the likeliest to
// be right.
ListenHub::User& ListenHub::user_of(const Session& session) {
  const pool::IdentityRef& identity = session.options().identity;
  User& user = users_[identity->user];
  for (std::size_t i = user.listeners.size(); i < database_.shard_count(); ++i)
    user.listeners.push_back(std::make_unique<Listener>(
        *this, user, database_.own_pool(identity, identity->user, ShardId(static_cast<std::uint32_t>(i)), "listen")));
  for (const auto& listener : user.listeners)
    listener->follow(listener->options().endpoint, identity, database_.own_limits());
  return user;
}

bool ListenHub::listen(Session& session, const std::string& channel) {
  User& user = user_of(session);
  user.waiting.erase(&session);
  std::set<Session*>& sessions = user.channels[channel];
  const bool first = sessions.empty();
  sessions.insert(&session);
  user.of_session[&session].insert(channel);
  user.idle_since = never;
  if (user.hears(channel)) return true;
  user.waiting[&session] = channel;
  if (first)
    for (const auto& listener : user.listeners) listener->changed(channel);
  return false;
}

void ListenHub::unlisten(Session& session, const std::string& channel) {
  User* const user = find_user(session);
  if (user == nullptr) return;
  user->waiting.erase(&session);
  const auto found = user->channels.find(channel);
  if (found == user->channels.end() || found->second.erase(&session) == 0) return;
  std::set<std::string>& others = user->of_session[&session];
  others.erase(channel);
  if (others.empty()) user->of_session.erase(&session);
  if (!found->second.empty()) return;
  user->channels.erase(found);
  if (user->channels.empty()) user->idle_since = database_.loop().now();
  for (const auto& listener : user->listeners) listener->changed(channel);
}

bool ListenHub::has_heard_all(Session& session) {
  User* const user = find_user(session);
  if (user == nullptr) return true;
  const auto [entry, begins] = user->settling.try_emplace(&session);
  User::Question& question = entry->second;
  if (begins) {
    question.number = ++last_question_;
    for (const auto& listener : user->listeners) question.left += listener->tell_all(question.number) ? 1 : 0;
  }
  if (question.left > 0) return false;
  user->settling.erase(entry);
  return true;
}

// Whom the last answer was for.
Session* ListenHub::told_all(User& user, std::uint64_t question) {
  const auto found =
      std::ranges::find_if(user.settling, [&](const auto& entry) { return entry.second.number == question; });
  if (found == user.settling.end() || --found->second.left > 0) return nullptr;
  return found->first;
}

void ListenHub::stop_waiting(Session& session) {
  if (User* const user = find_user(session)) user->settling.erase(&session);
}

void ListenHub::forget(Session& session) {
  stop_waiting(session);
  for (const std::string& channel : channels_of(session)) unlisten(session, channel);
}

std::vector<std::string> ListenHub::channels_of(const Session& session) const {
  const auto user = users_.find(session.options().identity->user);
  if (user == users_.end()) return {};
  const auto found = user->second.of_session.find(&session);
  if (found == user->second.of_session.end()) return {};
  return {found->second.begin(), found->second.end()};
}

void ListenHub::heard(User& user, const postgres::NotificationView& notification) {
  const auto found = user.channels.find(std::string(notification.channel));
  if (found == user.channels.end()) return;
  const std::vector<Session*> sessions(found->second.begin(), found->second.end());
  for (Session* session : sessions) session->notify(notification);
}

void ListenHub::answered(User& user, const std::string& channel, const Result<void>& result) {
  if (result && !user.hears(channel)) return;  // other shards are still to come
  std::vector<Session*> concerned;
  for (const auto& [session, wanted] : user.waiting)
    if (wanted == channel) concerned.push_back(session);
  for (Session* session : concerned) {
    user.waiting.erase(session);
    session->on_listening(result);
  }
}

// There is no connection to a shard: nobody who waits for it can be helped.
void ListenHub::failed(User& user, const Listener& listener, const Error& reason) {
  std::set<std::string> channels;
  for (const auto& [session, channel] : user.waiting)
    if (!listener.hears(channel)) channels.insert(channel);
  for (const std::string& channel : channels) answered(user, channel, std::unexpected(reason));
}

void ListenHub::reconfigure() {
  for (auto& [role, user] : users_)
    for (std::size_t i = 0; i < user.listeners.size() && i < database_.shard_count(); ++i)
      user.listeners[i]->follow(database_.runtime().primaries[i], user.listeners[i]->options().identity,
                                database_.own_limits());
}

void ListenHub::pause() {
  for (auto& [role, user] : users_)
    for (const auto& listener : user.listeners) listener->pause();
}

void ListenHub::resume() {
  for (auto& [role, user] : users_)
    for (const auto& listener : user.listeners) listener->resume();
}

void ListenHub::reconnect() {
  for (auto& [role, user] : users_)
    for (const auto& listener : user.listeners) listener->renew("RECONNECT");
}

void ListenHub::sweep(TimePoint now) {
  std::vector<Session*> settled;
  for (auto& [role, user] : users_) {
    for (const auto& listener : user.listeners) listener->sweep(now);
    for (const auto& [session, question] : user.settling)
      if (question.left == 0) settled.push_back(session);
  }
  for (Session* session : settled) session->on_listening({});
}

void ListenHub::shut_down() {
  users_.clear();
}

}  // namespace tessera::proxy
