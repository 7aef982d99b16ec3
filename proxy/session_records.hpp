// What a session keeps of the statements, portals and messages of its client: plain records.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "executor/cursor.hpp"
#include "pool/pool.hpp"
#include "proxy/setting_calls.hpp"
#include "proxy/worker_database.hpp"
#include "router/copy.hpp"
#include "router/ids.hpp"
#include "router/merge.hpp"
#include "router/split.hpp"
#include "wire/postgres/frontend.hpp"

namespace tessera::proxy {

// What a statement has to do with a cursor over several shards: DECLARE, FETCH, MOVE, CLOSE, or Execute with a row
// limit.
struct CursorStep {
  std::string name = {};   // the client's
  std::string query = {};  // DECLARE: behind FOR…
  int before = 0;          // …and the characters in front of it
  bool hold = false;
  bool closes = false, by_message = false;
  std::shared_ptr<executor::Cursor> cursor = std::make_shared<executor::Cursor>();
  std::optional<executor::Portion> portion = {};  // to be read, when it is open
};

// How EXPLAIN of a statement over several shards asks them.
struct ExplainRequest {
  parser::Explain options;
  std::string words;  // EXPLAIN and its options
};

// A statement over several shards.
struct Spread {
  parser::StatementKind kind = parser::StatementKind::empty;
  router::Plan plan;
  // The one of these that the operator says, if it is one of them.
  std::shared_ptr<const router::GatherPlan> gather;  // merge_sort: in place of it, if its order turns out to be unknown
  std::shared_ptr<const router::MergePlan> merge;
  std::shared_ptr<const router::SplitPlan> split;
  std::shared_ptr<const router::CopyPlan> copy;  // of a COPY
  std::optional<CursorStep> cursor = {};
  std::vector<std::string> copies;                // replicate: the tables to be locked, written ones first
  std::shared_ptr<const ExplainRequest> explain;  // then all the rest is that of the statement which is explained
  bool outside_transaction = false;               // no transaction may be open where it runs
  std::string command;
};

// A simple query of several statements that do not all run on one and the same shard: they run one by one, in one
// transaction, the script's own where they do not bring one.
struct Script {
  struct Step {
    std::string sql;
    parser::StatementKind kind;
  };
  std::vector<Step> steps;
  std::size_t next = 0;
  bool implicit = false;  // the transaction at hand is the script's own
  bool failed = false;    // what is left is skipped
};

// In a session's input: where its last complete message ends, at most the Terminate.
struct LastWords {
  std::size_t end = 0;
  bool goodbye = false;
};

struct Encodings {
  bool same = false;    // the client's and the server's
  bool unsafe = false;  // a byte of a longer character can look like a quote or a backslash
};

// NOTIFY's message for the client.
struct HeldNotification {
  std::string channel, message;
};

// Where a text runs.
struct Target {
  std::optional<ShardId> shard;
  bool scatter = false;
  Spread spread;  // then
};

// An INSERT that was prepared with parameters for the ids that it is given: they stand behind the client's own.
struct GivenParameters {
  router::GivenIds ids;
  std::uint32_t own = 0;
  std::vector<router::Moved> moves;
};

// A statement that the client has prepared.
struct PreparedStatement {
  pool::PreparedTextRef text;        // null for the unnamed one
  std::string sql;                   // of the unnamed one
  std::vector<postgres::Oid> types;  // likewise
  router::PlannedTextRef plan;
  std::shared_ptr<const GivenParameters> given;    // null: none
  std::uint64_t routing_version = 0, meaning = 0;  // what the plan was made for
  std::vector<parser::Slot> slots;
  bool literals = false;  // has any whose meaning depends on settings
  bool valid = false;
  std::string_view sql_text() const { return text ? std::string_view(text->sql) : std::string_view(sql); }
  const std::vector<postgres::Oid>& parameter_types() const { return text ? text->types : types; }
  std::size_t bytes() const {
    return sql_text().size() + parameter_types().size() * sizeof(postgres::Oid) + slots.size() * sizeof(parser::Slot);
  }
};

// A message that waits for its unit's shard to be known.
struct DeferredMessage {
  char type = 0;
  std::size_t begin = 0, end = 0;  // in deferred_bytes_: the message as it came
  std::uint32_t tag = 0;
  PreparedStatement statement;   // Describe, and Parse of a named one
  std::string reply;             // local: all of the answer
  std::optional<ShardId> shard;  // the only one, or the best, to ask about the statement
  bool local = false;            // nothing goes to the server
  bool bound = false;            // local: the BindComplete of a scatter, which the servers have not seen yet
};

// A statement that was prepared by SQL, with several shards.
struct SqlPrepared {
  std::string server_name;
  std::string prepare_sql;  // PREPARE under that name
  std::string body;
  std::string parse_settings;
  std::vector<router::TypeOid> types;  // of its first parameters, as declared
  std::set<BackendId> known_to;        // connections that have it
  std::size_t bytes() const { return prepare_sql.size() + body.size() + types.size() * sizeof(router::TypeOid); }
};

// The client's messages from the first Bind or Describe of a unit on, until that is known to have gone well.
struct RetryBuffer {
  enum class State : std::uint8_t { off, armed, pending };
  State state = State::off;
  bool first = false;     // the message that armed it is still at hand
  bool complete = false;  // the unit's Sync is among `bytes`
  bool used = false;      // once for each unit
  std::string server_name;
  std::string bytes;
};

// A statement was sent with the server's name for a prepared one in place of the client's, or (without names) with
// columns and values that the client has not written.
struct Renamed {
  std::string server_name, name;
  std::vector<router::Moved> moves;
};

// The ids that the message at hand is given (session_ids.cpp), and what the session was given before.
struct Giving {
  // What the session is given counts for lastval() and currval(), until a server may have been asked since.
  void note(const router::GivenIds& ids);
  void note(const router::GivenIds::Column& column, std::int64_t number);
  void forget(const router::PlannedStatement& sent);
  // The numbers as texts. Empty: it is not known here.
  std::vector<std::vector<std::string>> texts(const router::GivenIds& ids) const;
  // The message has been handled.
  void drop();

  bool sets_sequences = false;             // something that was sent, and is not answered
  std::vector<IdSource::Numbers> numbers;  // of each column
  std::uint32_t asked = 0;                 // counts what was asked for
  std::optional<Error> error;
  bool answers = false;                               // of all that the message asks of sequences the answer is known
  bool now = false;                                   // it has its ids by now…
  std::shared_ptr<const GivenParameters> parameters;  // …a Parse, parameters for them…
  std::string_view bind;                              // …a Bind, and this is how the client sent it…
  std::vector<router::Moved> moved;                   // …a simple query, and what it has moved
  // What was given last, of any sequence and of each. Nothing: a server may have been asked since.
  std::optional<std::int64_t> last;
  std::map<std::string, std::optional<std::int64_t>> current;
};

struct Portal {
  router::PlannedTextRef plan;  // only if it has session effects
  std::string sql;              // its text
  std::vector<SettingChange> changes = {};
  bool local = false;      // answered here, the server knows nothing of it
  bool executed = false;   // likewise: it has been, and no portal runs twice
  std::uint32_t unit = 0;  // in which it was bound
  router::StatementCounters* counters = nullptr;
  std::shared_ptr<executor::Request> scatter;
  Spread spread;
  bool may_copy = false;        // FROM STDIN
  bool hold = false;            // does not end with its transaction
  std::size_t savepoints = 0;   // how many there were when it was made
  std::optional<ShardId> home;  // a cursor that SQL has declared on one shard
  bool on_server() const { return !local && !scatter; }
  std::size_t bytes() const { return sql.size() + (scatter ? scatter->sql.size() + scatter->bind.size() : 0); }
};

}  // namespace tessera::proxy
