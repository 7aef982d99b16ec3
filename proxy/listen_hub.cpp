#include "proxy/listen_hub.hpp"

#include <fmt/format.h>

#include "proxy/session.hpp"

namespace tessera::proxy {

using pool::Backend;

// Holds one connection and keeps what it listens to equal to what the user's sessions want.
class ListenHub::Listener final : public pool::BackendOwner, public pool::PoolClient {
public:
  Listener(ListenHub& hub, std::string user, std::unique_ptr<pool::Pool> pool)
      : hub_(hub), user_(std::move(user)), pool_(std::move(pool)) {}
  ~Listener() override {
    pool_->forget(*this);
    if (Backend* backend = std::exchange(backend_, nullptr)) pool_->discard(*backend, "nobody listens any more");
  }

  void want(std::set<std::string> channels) {
    wanted_ = std::move(channels);
    update();
  }
  bool hears(const std::string& channel) const { return backend_ != nullptr && heard_.contains(channel); }
  void sweep(TimePoint now) {
    pool_->sweep(now);
    update();
  }

private:
  void update() {
    if (backend_ == nullptr) {
      if (connecting_ || wanted_.empty()) return;
      connecting_ = true;
      if (Backend* backend = pool_->checkout(*this)) on_checkout(*backend);
      return;
    }
    if (!backend_->replies().empty() || wanted_ == heard_) return;
    std::string sql;
    for (const std::string& channel : wanted_)
      if (!heard_.contains(channel)) sql += fmt::format("LISTEN {};", pool::quote_identifier(channel));
    for (const std::string& channel : heard_)
      if (!wanted_.contains(channel)) sql += fmt::format("UNLISTEN {};", pool::quote_identifier(channel));
    asked_ = wanted_;
    if (!postgres::append_query(backend_->out(), sql)) return;
    backend_->replies().expect({.kind = pool::ReplyKind::query, .delivery = pool::Delivery::ignore});
    backend_->flush();
  }

  void on_checkout(Backend& backend) override {
    connecting_ = false;
    backend_ = &backend;
    backend.lease(*this);
    heard_.clear();
    update();
  }
  void on_checkout_failed(const Error& reason) override {
    connecting_ = false;
    hub_.answered(user_, std::unexpected(reason));
  }
  void on_relay(std::string_view) override {}
  void on_done(const pool::ExpectedReply&, char, std::string_view) override {}
  bool on_error(const pool::ExpectedReply&, const postgres::ErrorFields& fields) override {
    error_ = fields.to_error();
    return false;
  }
  void on_skipped(const pool::ExpectedReply&) override {}
  bool on_ready(const pool::ExpectedReply&, postgres::TransactionStatus) override {
    Result<void> result;
    if (error_)
      result = std::unexpected(*std::exchange(error_, std::nullopt));
    else
      heard_ = asked_;
    hub_.answered(user_, result);
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
  void on_backend_lost(Backend&, const Error& reason) override {
    backend_ = nullptr;
    heard_.clear();
    hub_.answered(user_, std::unexpected(reason));
  }
  void on_backend_prepared(Backend&, const Result<void>&) override {}
  void on_backend_drained(Backend&) override {}
  bool is_congested() const override { return false; }

  ListenHub& hub_;
  std::string user_;
  std::unique_ptr<pool::Pool> pool_;  // of this one connection, beside the user's ordinary pool
  Backend* backend_ = nullptr;
  bool connecting_ = false;
  std::set<std::string> wanted_, asked_, heard_;
  std::optional<Error> error_;
};

ListenHub::ListenHub(WorkerDatabase& database) : database_(database) {}
ListenHub::~ListenHub() = default;

std::set<std::string> ListenHub::channels_of(const std::string& user) const {
  std::set<std::string> channels;
  for (const auto& [channel, sessions] : sessions_)
    for (const Session* session : sessions)
      if (session->options().identity->user == user) channels.insert(channel);
  return channels;
}

bool ListenHub::active(const std::string& user, const std::string& channel) const {
  const auto found = listeners_.find(user);
  if (found == listeners_.end()) return false;
  for (const auto& listener : found->second)
    if (!listener->hears(channel)) return false;
  return true;
}

bool ListenHub::listen(Session& session, const std::string& channel) {
  const std::string& user = session.options().identity->user;
  sessions_[channel].insert(&session);
  Listeners& listeners = listeners_[user];
  for (std::size_t i = listeners.size(); i < database_.shard_count(); ++i)
    listeners.push_back(std::make_unique<Listener>(
        *this, user,
        database_.own_pool(session.options().identity, user, ShardId(static_cast<std::uint32_t>(i)), "listen")));
  if (active(user, channel)) return true;
  const std::set<std::string> wanted = channels_of(user);
  for (const auto& listener : listeners) listener->want(wanted);
  return active(user, channel);
}

void ListenHub::unlisten(Session& session, const std::string& channel) {
  const auto found = sessions_.find(channel);
  if (found == sessions_.end()) return;
  found->second.erase(&session);
  if (found->second.empty()) sessions_.erase(found);
  const std::string& user = session.options().identity->user;
  if (const auto listeners = listeners_.find(user); listeners != listeners_.end())
    for (const auto& listener : listeners->second) listener->want(channels_of(user));
}

void ListenHub::forget(Session& session) {
  std::vector<std::string> channels;
  for (const auto& [channel, sessions] : sessions_)
    if (sessions.contains(&session)) channels.push_back(channel);
  for (const std::string& channel : channels) unlisten(session, channel);
}

void ListenHub::heard(const std::string& user, const postgres::NotificationView& notification) {
  const auto found = sessions_.find(std::string(notification.channel));
  if (found == sessions_.end()) return;
  for (Session* session : found->second)
    if (session->options().identity->user == user) session->notify(notification);
}

// A listener has made progress, or cannot: sessions that wait look again.
void ListenHub::answered(const std::string& user, const Result<void>& result) {
  std::set<Session*> concerned;
  for (const auto& [channel, sessions] : sessions_)
    for (Session* session : sessions)
      if (session->options().identity->user == user) concerned.insert(session);
  for (Session* session : concerned) session->on_listening(result);
}

void ListenHub::sweep(TimePoint now) {
  for (auto& [user, listeners] : listeners_)
    for (const auto& listener : listeners) listener->sweep(now);
}

void ListenHub::shut_down() {
  listeners_.clear();
}

}  // namespace tessera::proxy
