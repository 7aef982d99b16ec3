// A query over several shards that is read in parts: a portal with a row limit, or DECLARE and FETCH. On the servers it
// is cursors: one on each shard, in the connections of the client's transaction, or a single one on the merge node of a
// Gather. Between the executions that open it and read on in it a Cursor is all that there is.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/ids.hpp"
#include "executor/execution.hpp"
#include "executor/idle_owner.hpp"
#include "parser/statement.hpp"

namespace tessera::executor {

// A connection of a pool that stays in its transaction while nothing runs there. Lends it, and gives it back in the
// end.
class KeptConnection final : public IdleOwner {
public:
  KeptConnection(pool::Pool& pool, pool::Backend& backend);
  ~KeptConnection() override;
  Place place() { return {.lent = backend_, .lender = this}; }
  bool lost() const { return backend_ == nullptr; }
  void forget() { backend_ = nullptr; }

private:
  void on_backend_lost(pool::Backend&, const Error&) override { forget(); }

  pool::Pool& pool_;
  pool::Backend* backend_;
};

struct Cursor {
  std::string name;  // on the servers
  bool scroll = false;
  std::vector<ShardId> shards;             // those that have one, if it is not…
  std::unique_ptr<KeptConnection> merged;  // …the merge node's connection
  std::size_t current = 0;                 // of the shards: those before it have no more rows
  bool failed = false;                     // in reading: nothing more can be read
  std::string description;                 // RowDescription, as text; empty: it is not open

  bool is_open() const { return !description.empty(); }
  // What opens it for this query.
  std::string declaration(std::string_view query) const;
};

// Opens a cursor on every shard, at the same time. The client gets `request.bound`, and completion() is that of
// DECLARE.
class OpenCursor final : public Execution {
public:
  OpenCursor(Request request, Cursor& cursor, const std::vector<Place>& places, net::EventLoop& loop, Events events);

private:
  class Part;
  Branch* relaying() const override { return nullptr; }
  void part_done();

  Cursor& cursor_;
  std::vector<Part*> parts_;
  std::size_t done_ = 0;
};

// How far to read, and what the client calls it.
struct Portion {
  enum class By : std::uint8_t { execute, fetch, move };
  By by = By::execute;
  parser::Cursor::Direction direction = parser::Cursor::Direction::forward;
  std::int64_t count = parser::Cursor::all;
};

// Reads on: rows of one shard after the other, in the formats that `request.bind` asks for.
class ReadCursor final : public Execution {
public:
  ReadCursor(Request request, Cursor& cursor, Portion portion, const std::vector<Place>& places, net::EventLoop& loop,
             Events events);

private:
  class Part;
  Branch* relaying() const override;
  void on_acquired() override { read_next(); }
  void read_next();
  void part_described(std::string_view description);
  void part_done(std::int64_t rows);
  bool unlimited() const { return portion_.count == parser::Cursor::all; }

  Cursor& cursor_;
  const Portion portion_;
  std::vector<Part*> parts_;  // by cursor_.current
  Part* current_ = nullptr;
  std::int64_t rows_ = 0;
};

}  // namespace tessera::executor
