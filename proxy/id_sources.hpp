// Where the ids of one database come from, as one worker sees it: an IdSource for each sequence and role, fed from the
// default shard by a connection beside the pools. (A transaction that waits for a number holds a connection of the
// pool, and with enough of them none would be left to fetch it.)
// Owned by its WorkerDatabase, on whose thread it runs.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "pool/pool.hpp"
#include "pool/text_query.hpp"
#include "proxy/id_source.hpp"

namespace tessera::proxy {

class WorkerDatabase;

// A sequence, and in whose name it is asked: with the privileges of a role that the session has set.
// Without a sequence: ids of our own that carry this shard number. Unique are they by leases of whole milliseconds,
// which a table on the default shard gives out one after the other, each once, whatever anybody's clock says.
struct SequenceOfRole {
  pool::IdentityRef identity;
  pool::Settings settings;
  std::string sequence;  // as SQL
  std::uint32_t slot = 0;
  // Whoever asks has connections, which PAUSE waits for: so this does not wait for the end of a PAUSE.
  bool must_not_wait = false;
};

class IdSources {
public:
  explicit IdSources(WorkerDatabase& database);
  ~IdSources();

  // So many numbers at once; none: `then` is called with them, from the loop, or with what has gone wrong.
  std::optional<IdSource::Numbers> take(const SequenceOfRole& of, std::size_t count, IdSource::Then then);
  // Some sequence was set: no worker of this process gives out numbers from before.
  void forget();
  // The servers may be others from now on.
  void reconfigure();
  void pause();
  void resume();
  void sweep(TimePoint now);
  void shut_down(const Error& reason);
  // What asks for `count` numbers, or as many as the sequence has left.
  static std::string query(const std::string& sequence, std::size_t count);
  // What leases the milliseconds for `count` ids. It tells the first, since 2020.
  static std::string lease(std::uint32_t slot, std::size_t count);
  static IdSource::Numbers ids_from(std::int64_t millisecond, std::uint32_t slot, std::size_t count);
  // One of the numbers that ids may carry: each in its turn.
  std::uint32_t next_slot(const std::vector<std::uint32_t>& slots) { return slots[turn_++ % slots.size()]; }

private:
  struct Source;
  // Of one identity: its connection, and the queries that have it in turn.
  struct Connection {
    pool::IdentityRef identity;
    ShardId shard;
    std::unique_ptr<pool::Pool> pool;
    std::vector<std::unique_ptr<pool::TextQuery>> queries;
    std::vector<std::unique_ptr<Source>> sources;
    TimePoint used_at{};
  };
  Source& source_of(Connection& connection, const SequenceOfRole& of);
  void feed(Connection& connection, Source& source);
  void ask(Connection& connection, Source& source, std::size_t count, std::vector<std::string> queries);
  void fetched(Connection& connection, Source& source, std::size_t count, Result<pool::TextQuery::Answer> answer);
  void look_for_set();
  void make_void();
  void refuse_held(Connection& connection, TimePoint now);
  bool held() const;  // by PAUSE, or until the catalog has been read after it
  void close(Connection& connection, const Error& reason);
  void drop(Connection& connection, const Error& reason);

  WorkerDatabase* database_;
  std::size_t turn_ = 0;
  std::uint64_t seen_set_ = 0;
  std::map<const pool::Identity*, Connection> connections_;
};

}  // namespace tessera::proxy
