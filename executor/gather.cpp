#include "executor/gather.hpp"

#include <algorithm>
#include <fmt/format.h>

#include "executor/copy_rows.hpp"
#include "executor/cursor.hpp"
#include "executor/sender.hpp"
#include "wire/postgres/backend.hpp"

namespace tessera::executor {

using pool::Backend;
using pool::Delivery;
using pool::ReplyKind;
using postgres::Oid;

namespace {

constexpr std::int16_t binary = 1;

// Of a RowDescription.
std::vector<Oid> column_types(std::string_view description) {
  postgres::FrameHeader header;
  std::vector<postgres::FieldView> fields;
  std::vector<Oid> types;
  if (postgres::peek_frame(description, postgres::max_message_length, header) == postgres::FrameStatus::complete &&
      postgres::parse_row_description(postgres::frame_body(description, header), fields))
    for (const postgres::FieldView& field : fields) types.push_back(field.type);
  return types;
}

}  // namespace

// A row of router::GatherFragment::check.
struct TableColumns {
  std::string names, types;
  friend bool operator==(const TableColumns&, const TableColumns&) = default;
};

TableColumns columns_of(std::string_view row) {
  postgres::FrameHeader header;
  if (postgres::peek_frame(row, postgres::max_message_length, header) != postgres::FrameStatus::complete) return {};
  postgres::DataRowReader values(postgres::frame_body(row, header));
  postgres::Value names, types;
  if (values.columns() != 2 || !values.next(names) || !values.next(types)) return {};
  return {std::string(names.value_or("")), std::string(types.value_or(""))};
}

// Before the snapshot is taken: behind a definition that was waited for it would not have the table's rows.
std::string locking(const std::vector<std::string>& tables) {
  std::string sql;
  for (const std::string& table : tables) sql += fmt::format("{}{}", sql.empty() ? "; LOCK TABLE " : ", ", table);
  return sql.empty() ? sql : sql + " IN ACCESS SHARE MODE";
}

Error other_columns(std::string_view why) {
  return {sqlstate::feature_not_supported,
          std::string(why),
          {},
          "send it again, or give the table the same columns on all shards",
          0};
}

class Gather::Part : public Branch {
public:
  Part(Gather& gather, const Place& place, const pool::Settings& settings)
      : Branch(gather, place, settings), gather_(gather) {}

protected:
  // Sends what `append` builds.
  template <typename Append>
  void send(Append&& append) {
    Sender sender(*backend_);
    append(sender);
    if (const Result<void> sent = sender.sent(); !sent) return gather_.failed(sent.error());
    backend_->flush();
  }
  void finish() {
    check_in();
    gather_.part_done();
  }

  Gather& gather_;
};

// The merge node.
class Gather::Merge final : public Part {
public:
  using Part::Part;

  const std::vector<TableColumns>& tables() const { return tables_; }
  bool running() const { return running_; }
  const std::vector<Oid>& types() const { return types_; }
  bool congested() const { return backend_ == nullptr || backend_->pending() > net::Stream::high_water; }
  std::string& out() { return backend_->out(); }
  void flush() { backend_->flush(); }

  void create_tables() {
    postgres::BindView values;
    std::string buffer;
    parse_parameters(gather_.request_.bind, buffer, values);
    send([&](Sender& sender) {
      for (std::size_t i = 0; i < gather_.plan_.fragments.size(); ++i) {
        const router::GatherFragment& fragment = gather_.plan_.fragments[i];
        const bool own = !gather_.plan_.in_transaction &&
                         std::ranges::find(fragment.shards, gather_.plan_.merge) != fragment.shards.end();
        sender.parse(fmt::format("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS {} WITH {}DATA", fragment.table,
                                 fragment.query, own ? "" : "NO "),
                     types_);
        sender.bind(values, {});
        sender.execute({.delivery = Delivery::ignore});
      }
      sender.sync(created);
    });
  }

  void begin_copy(const std::string& table) {
    send([&](Sender& sender) { sender.query(fmt::format("COPY {} FROM STDIN (FORMAT binary)", table), copied); });
  }

  void end_copy() {
    CopyRows::append_trailer(out());
    postgres::append_copy_done(out());
    backend_->replies().end_copy_in();
    backend_->flush();
  }

  void run() {
    postgres::BindView values;
    std::string buffer;
    parse_parameters(gather_.request_.bind, buffer, values);
    running_ = true;
    send([&](Sender& sender) {
      if (const Cursor* cursor = gather_.cursor_) {
        sender.parse(cursor->declaration(gather_.plan_.statement), types_);
        sender.bind(values, {});
        sender.execute({.delivery = Delivery::ignore});
        sender.describe('P', cursor->name);
        sender.sync(opened);
        return;
      }
      sender.parse(gather_.plan_.statement, types_);
      sender.bind(values, values.result_formats);
      sender.describe('P');
      sender.execute({}, gather_.request_.limit);
      sender.sync(ran);
      sender.query("COMMIT", ended);
    });
  }

private:
  enum Step : std::uint32_t { none, begun, described, created, copied, ran, ended, opened };

  Result<void> begin(Backend& backend) override {
    postgres::BindView values;
    std::string buffer;
    if (!parse_parameters(gather_.request_.bind, buffer, values))
      return std::unexpected(postgres::invalid_message("Bind"));
    Sender sender(backend);
    // Nothing of it is to last, so nobody need wait for the disk.
    sender.query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ WRITE; " + gather_.local_ +
                     "SET LOCAL synchronous_commit = off; SET LOCAL idle_in_transaction_session_timeout = 0" +
                     locking(gather_.plan_.locks),
                 begun);
    sender.parse(gather_.request_.sql, gather_.request_.types);
    sender.describe('S');
    sender.bind(values, gather_.cursor_ == nullptr ? std::span(values.result_formats) : std::span<std::int16_t>());
    sender.describe('P');
    for (const router::GatherFragment& fragment : gather_.plan_.fragments) sender.ask(fragment.check);
    sender.sync(described);
    return sender.sent();
  }

  bool goes_first() const override { return true; }
  void on_relay(std::string_view bytes) override {
    if (!answering_)
      description_.append(bytes);
    else if (!error_)
      gather_.events_.relay(bytes);
  }
  void on_done(const pool::ExpectedReply& expected, char, std::string_view) override {
    if (running_) {
      if (expected.kind == ReplyKind::describe_portal) begin_answer();
      return;
    }
    if (expected.kind == ReplyKind::describe_statement) {
      postgres::FrameHeader header;
      const bool whole =
          postgres::peek_frame(description_, postgres::max_message_length, header) == postgres::FrameStatus::complete;
      if (whole) (void)postgres::parse_parameter_description(postgres::frame_body(description_, header), types_);
      description_.clear();
    } else if (expected.kind == ReplyKind::execute && !probed_) {
      tables_.push_back(columns_of(std::exchange(description_, {})));
      if (tables_.back().names != gather_.plan_.fragments[tables_.size() - 1].columns && !error_)
        error_ = other_columns("a table of this statement has other columns than is known");
    } else if (expected.kind == ReplyKind::bind && !probed_) {
      gather_.events_.relay(std::exchange(gather_.request_.bound, {}));
    } else if (expected.kind == ReplyKind::describe_portal) {
      columns_ = column_types(description_);
      if (gather_.cursor_ == nullptr && gather_.request_.describe) gather_.events_.relay(description_);
      told_ = std::exchange(description_, {});
    }
  }
  // The client has been told the columns of the statement as it was: those of the rewritten one must be the same.
  void begin_answer() {
    answering_ = true;
    const std::vector<Oid> columns = column_types(std::exchange(description_, {}));
    const bool same = std::ranges::equal(columns, columns_, [](Oid a, Oid b) {
      constexpr Oid first_own = 16384;  // types of tables are others for the temporary ones
      return a == b || (a >= first_own && b >= first_own);
    });
    if (!same)
      error_ = Error{sqlstate::feature_not_supported, "this statement cannot run on rows gathered from several shards",
                     "its columns would have other types", "add a condition on the sharding key", 0};
  }
  bool on_error(const pool::ExpectedReply& expected, const postgres::ErrorFields& fields) override {
    const bool rewritten = running_ && expected.kind == ReplyKind::parse;
    Branch::on_error(expected, fields);
    if (!error_) return false;
    if (probed_) error_->position = 0;
    if (rewritten)
      error_ = Error{sqlstate::feature_not_supported, "this statement cannot run on rows gathered from several shards",
                     error_->message, "add a condition on the sharding key, or simplify the statement", 0};
    return false;
  }
  bool on_ready(const pool::ExpectedReply& expected, postgres::TransactionStatus) override {
    reached_ = static_cast<Step>(expected.tag);
    return false;
  }
  void on_copy(const pool::ExpectedReply&, char) override { copy_begun_ = true; }
  bool on_notice(const postgres::ErrorFields&, bool forwarding) override { return forwarding && answering_; }

  void on_backend_turn(Backend&) override {
    if (error_) return gather_.failed(*error_);
    if (running_) gather_.events_.flush();
    if (gather_.failure_) return gather_.failed(*gather_.failure_);
    if (std::exchange(copy_begun_, false)) {
      CopyRows::append_header(out());
      gather_.copying_ = true;
      return gather_.copy_on();
    }
    switch (std::exchange(reached_, none)) {
      case described:
        probed_ = true;
        return gather_.acquire_next();
      case created:
      case copied:
        return gather_.next_fragment();
      case ended:
        return finish();
      case opened:
        gather_.cursor_->merged = keep();
        gather_.cursor_->description = told_;
        if (!postgres::append_command_complete(gather_.completion_, "DECLARE CURSOR")) gather_.completion_.clear();
        return gather_.part_done();
      case none:
      case begun:
      case ran:
        return;
    }
  }
  void on_backend_drained(Backend&) override {
    if (gather_.copying_) gather_.copy_on();
  }
  bool is_congested() const override { return gather_.concluded_ || (running_ && gather_.events_.congested()); }

  std::string description_;
  std::string told_;                  // RowDescription of the client's own text
  std::vector<Oid> types_;            // of the parameters
  std::vector<Oid> columns_;          // of the answer
  std::vector<TableColumns> tables_;  // of each fragment
  Step reached_ = none;
  bool probed_ = false;
  bool copy_begun_ = false;
  bool running_ = false;
  bool answering_ = false;  // what comes now is the client's
};

// A shard that gives rows.
class Gather::Source final : public Part {
public:
  using Part::Part;

  void add(std::size_t fragment) { shares_.push_back({fragment, {}, false}); }
  void tell(std::vector<Moved>& moved) const {
    for (const Share& share : shares_)
      moved.push_back({endpoint()->shard, share.fragment, share.counted.rows, share.counted.bytes});
  }

  void ask(const std::vector<Oid>& types) {
    postgres::BindView values;
    std::string buffer;
    parse_parameters(gather_.request_.bind, buffer, values);
    asked_ = true;
    send([&](Sender& sender) {
      for (const Share& share : shares_) sender.ask(gather_.plan_.fragments[share.fragment].check);
      for (const Share& share : shares_) {
        const router::GatherFragment& fragment = gather_.plan_.fragments[share.fragment];
        const Parameters own = parameters(fragment, types, values);
        sender.parse(fragment.query, own.types);
        sender.bind(own.values, std::span(&binary, 1));
        sender.execute({.hide_completion = true, .ordered = true});
      }
      sender.sync(lent() ? last : 0);
      if (!lent()) sender.query("COMMIT", last);
    });
  }

  // Adds what has come of this fragment. True: that was all.
  bool give(std::size_t fragment, std::string& out) {
    const auto share = std::ranges::find(shares_, fragment, &Share::fragment);
    out += share->rows;
    share->rows.clear();
    return share->whole;
  }

private:
  struct Parameters {
    std::vector<Oid> types;
    postgres::BindView values;
  };
  // A type of users has another number here, so the server finds it again by what the parameter is compared with; what
  // the fragment does not use is nothing.
  static Parameters parameters(const router::GatherFragment& fragment, const std::vector<Oid>& types,
                               const postgres::BindView& all) {
    constexpr Oid first_own = 16384, text = 25;
    Parameters own{types, all};
    for (std::size_t i = 0; i < types.size(); ++i) {
      const bool used = std::ranges::find(fragment.parameters, static_cast<int>(i) + 1) != fragment.parameters.end();
      if (used && types[i] >= first_own) own.types[i] = 0;
      if (used) continue;
      own.types[i] = text;
      if (i < own.values.parameters.size()) own.values.parameters[i] = std::nullopt;
    }
    return own;
  }

  struct Share {
    std::size_t fragment;
    std::string rows;  // as COPY data
    bool whole = false;
    struct {
      std::uint64_t rows = 0, bytes = 0;
    } counted = {};
  };

  static constexpr std::uint32_t last = 1, locked = 2;  // of what is expected

  Result<void> begin(Backend& backend) override {
    if (lent()) return {};
    std::vector<std::string> tables;
    for (const Share& share : shares_)
      if (const std::string& table = gather_.plan_.fragments[share.fragment].lock; !table.empty())
        tables.push_back(table);
    Sender sender(backend);
    sender.query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0" +
                     locking(tables),
                 locked);
    return sender.sent();
  }
  bool goes_first() const override { return !lent(); }
  bool has_turn() const { return gather_.copying_ && gather_.current() == this; }
  // Straight on in its turn: what the merge node has not taken yet says when to stop reading.
  void on_relay(std::string_view bytes) override {
    if (checked_ < shares_.size()) {
      row_.append(bytes);
      return;
    }
    gather_.moved_bytes_ += bytes.size();
    Share& share = shares_[answered_];
    const bool straight = has_turn() && share.fragment == gather_.fragment_ && share.rows.empty();
    share.counted.rows += rows_.append(bytes, straight ? gather_.merge_->out() : share.rows);
    share.counted.bytes += bytes.size();
  }
  void on_done(const pool::ExpectedReply& expected, char, std::string_view) override {
    if (expected.kind != ReplyKind::execute) return;
    if (checked_ == shares_.size()) {
      shares_[answered_++].whole = true;
      return;
    }
    const std::size_t fragment = shares_[checked_++].fragment;
    if (columns_of(std::exchange(row_, {})) != gather_.merge_->tables()[fragment] && !error_)
      error_ = other_columns("a table of this statement has other columns on another shard");
  }
  bool on_error(const pool::ExpectedReply& expected, const postgres::ErrorFields& fields) override {
    Branch::on_error(expected, fields);
    if (error_) error_->position = 0;
    return false;
  }
  bool on_ready(const pool::ExpectedReply& expected, postgres::TransactionStatus) override {
    ended_ = expected.tag == last;
    locked_ = expected.tag == locked;
    return false;
  }
  void on_backend_turn(Backend&) override {
    if (error_) return gather_.failed(*error_);
    if (gather_.failure_) return gather_.failed(*gather_.failure_);
    if (std::exchange(locked_, false)) gather_.acquire_next();
    if (has_turn()) gather_.copy_on();
    if (std::exchange(ended_, false)) finish();
  }
  bool is_congested() const override {
    if (lent() && gather_.failure_) return false;
    if (gather_.concluded_) return true;
    if (!asked_ || answered_ == shares_.size()) return false;
    // What the merge node does not take yet stays in the kernel: the next fragment's rows behind this one's, too.
    const bool taken = has_turn() && shares_[answered_].fragment == gather_.fragment_;
    return !taken || gather_.merge_->congested();
  }

  std::vector<Share> shares_;
  CopyRows rows_;
  std::string row_;  // of a check
  std::size_t checked_ = 0;
  std::size_t answered_ = 0;
  bool asked_ = false;
  bool locked_ = false;
  bool ended_ = false;
};

Gather::Gather(Request request, router::GatherPlan plan, const Place& merge, const std::vector<Place>& sources,
               const pool::Settings& settings, std::string local, net::EventLoop& loop, Events events, Cursor* cursor)
    : Execution(std::move(request), loop, std::move(events)),
      plan_(std::move(plan)),
      local_(std::move(local)),
      cursor_(cursor),
      fragments_(plan_.fragments.size()) {
  const auto add_merge = [&] {
    auto node = std::make_unique<Merge>(*this, merge, settings);
    merge_ = node.get();
    add(std::move(node));
  };
  auto place = sources.begin();
  for (const ShardId shard : plan_.shards()) {
    if (shard == plan_.merge) add_merge();
    const bool own = shard == plan_.merge && !plan_.in_transaction;
    const bool needed = std::ranges::any_of(plan_.fragments, [shard](const router::GatherFragment& fragment) {
      return std::ranges::find(fragment.shards, shard) != fragment.shards.end();
    });
    if (own || !needed) continue;
    auto source = std::make_unique<Source>(*this, *place++, settings);
    for (std::size_t f = 0; f < fragments_.size(); ++f) {
      if (std::ranges::find(plan_.fragments[f].shards, shard) == plan_.fragments[f].shards.end()) continue;
      source->add(f);
      fragments_[f].sources.push_back(source.get());
    }
    sources_.push_back(source.get());
    add(std::move(source));
  }
}

std::vector<Gather::Moved> Gather::moved() const {
  std::vector<Moved> all;
  for (const Source* source : sources_) source->tell(all);
  return all;
}

Branch* Gather::relaying() const {
  return merge_->running() ? merge_ : nullptr;
}

// The merge node has understood the statement, and nothing changes the tables until it has ended.
void Gather::on_acquired() {
  if (failure_) return;
  for (Source* source : sources_) source->ask(merge_->types());
  if (!failure_) merge_->create_tables();
}

void Gather::next_fragment() {
  while (next_ < fragments_.size() && fragments_[next_].sources.empty()) ++next_;
  if (next_ == fragments_.size()) return merge_->run();
  fragment_ = next_++;
  source_ = 0;
  merge_->begin_copy(plan_.fragments[fragment_].table);
}

void Gather::copy_on() {
  while (current()->give(fragment_, merge_->out())) {
    if (++source_ < fragments_[fragment_].sources.size()) continue;
    copying_ = false;
    return merge_->end_copy();
  }
  merge_->flush();
  if (!merge_->congested()) current()->resume();
}

void Gather::part_done() {
  if (++done_ == size()) conclude({});
}

}  // namespace tessera::executor
