// One client's session after its login: takes the client's messages, finds the shard, leases a server connection and
// relays. The heart of the proxy, split by theme: session.cpp (messages, sending, leases), session_simple.cpp (simple
// queries), session_extended.cpp (Parse, Bind, …), session_transaction.cpp (lazy BEGIN), session_effects.cpp (what
// statements do to the session), session_settings.cpp (SET and RESET), session_ids.cpp (values for serial columns),
// session_copy.cpp and session_copy_shards.cpp (COPY FROM STDIN), session_explain.cpp (EXPLAIN), session_watch.cpp
// (time limits, SHOW), session_replies.cpp (what the server answers), session_shards.cpp and session_cursors.cpp
// (transactions and cursors over several shards), session_end.cpp (how it ends).
//
// How a message is handled: a handler first gets everything it needs (a plan, a shard, a connection) without changing
// anything; if it must wait for one of them it says so and the same message is handled again later. Only then it acts.
// So waiting never leaves a message half done. Everything a client sends is answered in its order: replies come through
// the reply queue of the one connection that is current, and the session changes connections only when that queue is
// empty.
//
// Runs on its worker's thread. Owned by its ClientConnection.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "executor/copy_in.hpp"
#include "executor/everywhere.hpp"
#include "executor/inquiry.hpp"
#include "executor/scatter.hpp"
#include "proxy/lazy_transaction.hpp"
#include "proxy/prepared_table.hpp"
#include "proxy/session_host.hpp"
#include "proxy/undo_log.hpp"
#include "proxy/worker_database.hpp"
#include "wire/postgres/frontend.hpp"

namespace tessera::proxy {

StatementClass class_of(parser::StatementKind kind);

class Session final : public pool::BackendOwner, public pool::PoolClient {
public:
  Session(SessionOptions options, SessionHost& host);
  ~Session() override;

  // Gets the server's parameters for the greeting; then `ready` is called, or `failed`.
  void open(std::function<void(const pool::ParameterMap& parameters)> ready, std::function<void(const Error&)> failed);
  // Bytes from the client, all taken.
  void on_client_bytes(std::string_view bytes);
  // The session cannot take more now. (What it holds while it does not wait is one message that is not complete yet.)
  bool blocked() const { return wait_ != Wait::none; }
  void on_client_drained();
  // The client sends nothing any more. What it has sent is carried out; then, or when that takes too long, the host is
  // asked to end the session.
  void on_client_end();
  // The connection is closed; what is still under way is given up.
  void on_client_gone();
  // The connections that work for us: where a cancel request goes.
  std::vector<pool::Backend*> cancel_targets();
  // A cancel request for our connection has been delivered: what was held back may go on.
  void on_cancel_delivered();
  // A session that waits for a connection does not any more.
  void cancel_wait();
  // Draining: true when nothing would be lost by ending now.
  bool is_between_transactions() const;
  void sweep(TimePoint now);
  void notify(const postgres::NotificationView& notification);
  void on_listening(const Result<void>& result);
  void terminate(const Error& reason);

  // For SHOW.
  std::string_view state_name() const;
  std::string pin_reasons() const;
  const SessionOptions& options() const { return options_; }
  // Goes on in a database of the same name with other shards. False: what it has on its connections ends with them.
  bool move_to(WorkerDatabase& database, ListenHub* listen, pool::IdentityRef identity);
  // From now on connections are made under these credentials.
  void set_identity(pool::IdentityRef identity);
  const pool::Backend* backend() const { return backend_; }
  TimePoint request_started() const { return request_started_; }
  std::uint64_t statements() const { return statements_; }
  std::string_view shard_setting() const { return settings_.ours("tessera.shard"); }

private:
  enum class Wait : std::uint8_t {
    none,
    checkout,
    prepare,
    drain,
    effects,
    scatter,
    listening,
    cancel,
    opening,
    copy,
    client,
    catalog,
    ids
  };
  enum class Got : std::uint8_t { ready, wait, refused };
  // Does the client leave: did it say so, or did its stream just end?
  enum class Farewell : std::uint8_t { none, said, vanished };
  enum class Aside : std::uint8_t { none, opening, open, closing };
  enum PinReason : std::uint8_t {
    pin_temporary = 1,
    pin_advisory_lock = 2,
    pin_cursor = 4,
    pin_settings = 8,
    pin_prepared = 16,
    pin_library = 32,
    pin_code = 64
  };

  // ---- session_copy.cpp
  static bool may_copy(const router::PlannedText& text);
  bool copy_undecided() const;
  bool wait_for_copy();
  bool breaks_copy(char type) const;
  bool break_copy(std::string_view whole);
  bool handle_copy(char type, std::string_view whole);
  std::size_t pass_copy_data(std::string_view bytes);
  void copy_failed();
  void ask_what_was_swallowed();
  void note_swallowed(postgres::TransactionStatus status);

  // ---- session_copy_shards.cpp
  Result<std::shared_ptr<const router::CopyPlan>> copy_plan(const router::Values& values);
  void run_copy(executor::Request request, const Spread& spread);
  void leave_copy();
  std::size_t feed_copy(std::string_view bytes);
  bool next_copy_ids(const router::CopyPlan& plan, std::vector<std::int64_t>& ids);

  // ---- session_end.cpp
  bool handle_terminate();
  void end_now();
  void note_goodbye();
  void look_for_goodbye();
  LastWords last_words() const;
  bool check_farewell(TimePoint now);
  void fatal(const Error& error);

  // ---- session.cpp
  void greet(std::uint32_t attempt);
  void opened(const GreetingRef& greeting);
  void run();
  std::uint64_t longest_message(char type) const;
  std::size_t handle_front(std::string_view bytes);
  bool handle(char type, std::string_view whole);
  bool handle_now(char type, std::string_view whole);
  bool dispatch(char type, std::string_view whole);
  // The connection has the first part of a message: the rest must follow, whether the server wants it or not.
  bool sends_copy_data() const { return copy_left_ > 0 && !copy_dropped_; }
  void finish_turn();
  void flush_client();
  void relay_client_message(std::string_view whole);
  Got engage(std::optional<ShardId> shard);
  Got acquire(ShardId shard);
  void become_current(pool::Backend& backend);
  void park();
  Got use(pool::Backend& backend);
  Got refuse_second_shard(ShardId wanted);
  bool sequences_are_elsewhere(const pool::Backend& backend) const;
  ShardId any_shard() const;
  ShardId reachable_shard();
  void release_if_free();
  void release(pool::Backend& backend);
  bool must_keep() const;
  void continue_after_wait();
  void stop_waiting() {
    wait_ = Wait::none;
    ++continuation_;
  }
  void expect(pool::ReplyKind kind, std::uint32_t tag = 0, pool::Delivery delivery = pool::Delivery::forward);
  // `statement`: the client's name of a statement that the server knows by another; errors are told in the client's
  // words.
  void expect_named(pool::ReplyKind kind, std::string_view statement);
  bool refuse_parse(std::string_view name, const Error& error);
  void keep_unnamed(Undo& undo);
  void local_reply(std::string_view bytes, std::uint32_t tag = 0);
  void refuse(const Error& error, std::uint32_t tag = 0);
  void count(const router::PlannedText& text, ShardId shard);
  void note_time(router::StatementCounters& counters);
  PlanningView& view();
  const RoutingRef& routing();
  bool is_settled() const;
  bool no_server_works() const;  // for this session; BEGIN may have been said
  pool::Pool& pool_of(ShardId shard);
  pool::Pool& pool_of(const pool::Backend& backend);
  bool in_failed_transaction() const;
  void check_statement_timeout(TimePoint now);
  void request_ended();
  static Error timeout_error();
  bool on_timed_out(const pool::ExpectedReply& expected);

  // ---- session_script.cpp
  bool needs_script(const router::PlannedText& text, const router::Values& values);
  void start_script(std::string_view sql);
  std::optional<Error> script_refusal(const std::vector<parser::Statement>& statements, std::string_view sql) const;
  bool changes_reading(const parser::Statement& statement, std::string_view sql) const;
  bool run_script();
  bool end_script();
  void append_ready(std::string& out, postgres::TransactionStatus status) const;
  bool takes_copy_data() const;
  // ---- session_ids.cpp
  bool gives_ids(const router::PlannedText& text) const;
  bool query_with_ids(std::string_view sql, const router::PlannedTextRef& text);
  bool parse_with_ids(const postgres::ParseView& parse, const router::PlannedTextRef& text);
  bool bind_with_ids(std::string_view whole, const postgres::BindView& bind, const PreparedStatement& statement);
  Got take_ids(const router::GivenIds& ids);
  Got ask_for_own_ids(const router::GivenIds& ids);
  void own_ids_there(const Result<void>& result);
  void ids_there(Result<IdSource::Numbers> numbers);
  SequenceOfRole sequence_of(const router::GivenIds::Column& column) const;
  bool take_known(const router::GivenIds::Column& column);
  // ---- session_simple.cpp
  bool handle_query(std::string_view whole);
  bool may_choose_shard() const;
  std::optional<ShardId> only_home(const router::PlannedText& text) const;
  std::optional<ShardId> preparing_shard(const router::PlannedText& text) const;
  Result<Target> target_of(const router::PlannedText& text, const router::Values& values);
  std::optional<Error> unplannable(const router::PlannedText& text) const;
  std::optional<Error> temporary_refusal(const router::PlannedStatement& planned, std::optional<ShardId> shard) const;
  Result<std::vector<SettingChange>> changes_of(const router::PlannedText& text, const router::Values& values) const;
  bool answer_locally(const router::PlannedText& text, std::string_view sql, bool simple);
  bool local_statement(const parser::Statement& statement, std::string& reply, std::optional<Error>& error);
  void set_tessera(const parser::Statement& statement, std::string& reply, std::optional<Error>& error);
  void change_channels(const parser::Statement& statement);
  Got wait_for_listen(const router::PlannedText& text);
  Got wait_for_own_notifications();
  std::vector<std::string> search_path() const;
  std::string current_role() const;
  std::string parse_settings(bool literals) const;
  std::string name_settings() const;
  pool::PreparedTextRef text_here(const PreparedStatement& statement) const;
  std::optional<Error> parsed_otherwise(const PreparedStatement& statement) const;
  bool standard_conforming_strings() const;
  std::string_view parameter(std::string_view name) const;
  const Encodings& encodings() const;
  bool same_encoding() const { return encodings().same; }
  std::optional<Error> unreadable(std::string_view sql) const;
  bool may_be_misread(std::string_view sql) const;
  void send_query(std::string_view, const router::PlannedTextRef&, std::vector<SettingChange>, const Renamed* moved);
  std::string with_columns(std::string_view sql, const router::PlannedText& text, Renamed& moved);
  std::optional<bool> settle_unit();
  bool handle_function_call(std::string_view whole);

  // ---- session_prepare.cpp
  static bool names_sql_prepared(const router::PlannedStatement& planned);
  std::optional<bool> handle_sql_prepared(const router::PlannedText& text, std::string_view sql);
  bool sql_prepare(const parser::Statement& statement, const router::PlanTemplate& plan, std::string_view sql);
  bool sql_execute(const parser::Statement& statement, std::string_view sql);
  static Renamed renaming(const parser::Statement& statement, std::string_view sql, const std::string& server_name);
  void sql_prepared_failed(std::uint32_t tag);
  bool relay_renamed(const postgres::ErrorFields& fields, const Renamed& sent);

  // ---- session_extended.cpp
  bool handle_parse(std::string_view whole);
  bool handle_bind(std::string_view whole);
  bool handle_describe(std::string_view whole);
  bool handle_execute(std::string_view whole);
  bool handle_close(std::string_view whole);
  bool handle_flush(std::string_view whole);
  bool handle_sync(std::string_view whole);
  Got pass_on_deferred();
  Got relieve_unit();
  std::optional<ShardId> deferred_shard() const;
  Got settle();
  void emit_deferred();
  void emit_local_deferred();
  std::string take_bound();
  void emit_parse(const PreparedStatement& statement, std::string_view raw, std::uint32_t tag);
  void emit_describe(const PreparedStatement& statement, std::string_view raw);
  bool is_prepared(const std::string& server_name);
  void send_parse(const PreparedStatement& statement, std::uint32_t tag, pool::Delivery delivery);
  void append_close(const std::string& server_name, std::uint32_t tag = 0);
  void ensure_prepared(const PreparedStatement& statement);
  bool unnamed_is_here();
  void defer(char type, std::string_view whole, std::uint32_t tag);
  void defer_local(std::string reply, std::uint32_t tag = 0);
  bool engaged() const;
  bool needs_server() const;
  bool refuse_duplicate(std::string_view whole, std::string_view name);
  bool forward_unknown(std::string_view whole, std::string_view name);
  bool forward_portal(std::string_view whole, pool::ReplyKind kind, std::uint32_t tag);
  bool describe_portal(std::string_view whole, std::string_view name);
  static Error undescribed();
  bool leave_side_unit();
  Got go_home(const router::PlannedText& text);
  std::optional<Error> extended_refusal(const router::PlannedText& text, std::string_view sql) const;
  bool is_ours(const router::PlannedText& text) const;
  bool is_local(const router::PlannedText& text) const;
  std::string describe_local(const Portal& portal);
  std::string run_local(const Portal& portal, std::optional<Error>& error);
  bool execute_local(const Portal& portal);
  bool answer_in_unit(std::string reply, std::uint32_t tag = 0);
  void set_portal(std::string_view name, Portal portal);
  std::optional<Error> portal_refusal(std::string_view name, bool on_server, std::size_t bytes);
  bool awaits_portals_end(std::string_view name);
  void end_portals();
  void end_all_portals();
  void end_portals_behind_savepoint();
  void keep_portals_of_released();
  Portal* find_portal(std::string_view name);
  static std::span<const router::Values::Parameter> parameters_of(const postgres::BindView& bind,
                                                                  const std::vector<postgres::Oid>& types);
  PreparedStatement* find_prepared(std::string_view name);
  std::optional<Error> too_much_prepared(std::size_t more) const;
  const router::PlannedText& current_plan(PreparedStatement& statement);
  bool discard_until_sync() const;
  Got ready_to_plan();
  Got wait_for_effects();
  Got wait_for_replies();
  Got wait_for_definition(std::string_view name);
  void local_sync();
  void clear_deferred();

  // ---- session_retry.cpp
  void arm_retry(const PreparedStatement& statement, std::string_view raw);
  void disarm_retry();
  void note_for_retry(char type, std::string_view whole);
  bool begin_retry(const pool::ExpectedReply& expected, const postgres::ErrorFields& fields);

  // ---- session_scatter.cpp
  using ExecutionDone = std::function<void(const Result<void>&)>;
  Result<Spread> spread_of(const router::PlannedStatement& planned, router::Plan plan, const router::Values& values,
                           bool single);
  bool start_scatter(executor::Request request, const Spread& spread, router::StatementCounters* counters);
  void lock_copies(executor::Request request, const Spread& spread);
  void run_in_turn(const executor::Request& request, const Spread& spread);
  std::vector<executor::Piece> pieces_of(const Spread& spread);
  void run_scatter(executor::Request request, const Spread& spread);
  void start_merge(executor::Request request, const Spread& spread);
  std::optional<Error> gather_problem(const router::GatherPlan& plan, bool transaction) const;
  void start_gather(executor::Request request, const router::GatherPlan& plan, executor::Events events,
                    executor::Cursor* cursor = nullptr);
  executor::Events statement_events(bool simple);
  std::optional<Error> scatter_problem(const std::vector<ShardId>& shards, bool writes) const;
  Got prepare_scatter(const std::vector<ShardId>& shards, bool writes);
  std::vector<executor::Place> places_of(const std::vector<ShardId>& shards);
  void count_scatter(const Spread& spread, const std::vector<ShardId>& shards, router::StatementCounters* counters);
  static std::optional<Error> parameter_count_error(const PreparedStatement& statement, const postgres::BindView& bind);
  bool bind_scatter(const PreparedStatement& statement, const postgres::BindView& bind, std::string_view whole,
                    const Target& target);
  bool execute_scatter(std::string_view name, Portal& portal, std::int32_t max_rows);
  bool describes_later() const;
  std::optional<Error> own_connection_in_the_way(const std::vector<ShardId>& shards);
  executor::Events execution_events(ExecutionDone done);
  void run_execution(std::unique_ptr<executor::Execution> execution);
  std::string take_execution();
  Error execution_error(const Error& error);
  void scatter_done(const Result<void>& result, bool simple);
  void statement_done(const Result<void>& result, bool simple, bool cut, std::string completion);
  bool make_failed_current();
  void conclude(std::optional<Error> error, std::string completion, bool simple);

  // ---- session_cursors.cpp
  Got wait_for_cursor(const router::PlannedText& text);
  std::optional<ShardId> home_of_cursor(const router::PlannedText& text) const;
  bool holds_cursor() const;
  std::string fetched_columns(const router::PlannedText& text) const;
  Result<Target> cursor_target(const router::PlannedStatement& planned, const router::Values& values);
  Result<Target> declared_target(const parser::Statement& statement, const router::Values& values);
  Result<void> read_in_parts(std::string_view name, Portal& portal);
  std::optional<Error> cursor_problem(const Spread& spread, bool transaction);
  void note_cursor(const parser::Statement& statement);
  void run_cursor(executor::Request request, const Spread& spread);
  void open_cursor(executor::Request request, const Spread& spread);
  void read_cursor(executor::Request request, const CursorStep& step);
  void close_cursor(const executor::Request& request, const CursorStep& step);
  void cursor_declared(const executor::Request& request, const Spread& spread, const Result<void>& result);
  std::optional<bool> close_on_shards(std::string_view name, const Portal& portal);
  // ---- session_explain.cpp
  struct Explaining;
  std::string explain(const parser::Statement& statement, std::string_view sql, std::optional<Error>& error);
  Result<std::shared_ptr<const ExplainRequest>> explain_request(std::string_view sql);
  void run_explain(executor::Request request, const Spread& spread);
  void explain_gather(const std::shared_ptr<Explaining>& work);
  void explained(Explaining& work, const Result<void>& result);

  // ---- session_shards.cpp
  bool spans() const { return !others_.empty(); }
  bool may_span() const;
  bool may_begin_around_unit() const;
  Got begin_around_unit();
  std::optional<Error> implicit_refusal(const router::PlannedText& text) const;
  static bool is_for_transaction(const parser::Statement& statement);
  bool keeps_snapshot() const;
  Got change_shard(ShardId wanted);
  bool has_joined(ShardId shard) const;
  Got rest();
  Got join_all(const std::vector<ShardId>& shards);
  void come_back();
  std::vector<pool::Backend*> participants() const;
  std::vector<executor::Place> lent_places();
  bool is_for_all(const router::PlannedText& text) const;
  std::optional<Error> mixed_refusal(const router::PlannedText& text) const;
  bool run_for_all(const router::PlannedTextRef& text, const std::string& sql, bool simple);
  void run_commit(ExecutionDone done);
  void hand_over_commit();
  void run_everywhere(std::string sql, executor::Everywhere::Order order, ExecutionDone done);
  void command_done(const router::PlannedStatement& planned, const std::string& sql, const Result<void>& result,
                    bool simple);
  void commit_failed();
  void let_go(pool::Backend& backend);
  void transaction_over();
  void drop_others();
  void lose_transaction(const std::optional<Error>& untold);
  void on_other_lost(const Error& reason);
  void begin_autocommit();
  bool refuse_inside_autocommit();
  void cancel_autocommit();
  void end_autocommit(bool commit, std::optional<Error> error, std::string completion, bool simple);
  bool sync_autocommit();

  // ---- session_transaction.cpp
  bool ends_transaction(const router::PlannedText& text) const;
  Error failed_transaction_error();
  bool lazy_statement(const router::PlannedText& text, std::string_view sql, std::string& reply);
  void lazy_begin(const parser::Statement& statement, std::string_view sql, std::string& reply);
  void lazy_end(const parser::Statement& statement, std::string& reply);
  std::string end_lazy(bool commit, bool chain);
  bool lazy_savepoint(const parser::Statement& statement, std::string_view sql, std::string& reply);
  bool room_for(const Result<void>& added, std::string& reply);
  static bool is_for_session(const parser::Statement& statement);
  bool may_be_mistaken(const router::PlannedText& text) const;
  Got try_out(const router::PlannedText& text, std::string_view sql);
  void fail_lazy();
  pool::SettingsMap reported_since_begin() const;
  std::string tell_parameters(const pool::SettingsMap& now);
  Got engage_for_statement(std::optional<ShardId> shard);
  Got open_aside();
  void close_aside();
  bool aside_answered(postgres::TransactionStatus status);
  void join_aside();
  void joining_failed(const Error& error);
  postgres::TransactionStatus local_status() const;
  bool multi_shard() const { return options_.database->shard_count() > 1; }

  // ---- session_effects.cpp
  void before_sending(const router::PlannedText& text, std::string_view sql);
  void begin_effects(const router::PlannedTextRef& text, std::string_view sql, std::vector<SettingChange> changes,
                     std::uint32_t& tag);
  void apply_effect(const router::PlannedStatement& planned, const Undo& undo);
  bool delays_planning(const router::PlannedText& text) const;
  void apply_ddl(const router::PlannedStatement& planned);
  // session_catalog.cpp
  void note_definition();
  void refresh_catalog();
  bool wait_for_catalog();
  Got read_own_catalog();
  void own_catalog_read(const Result<void>& result);
  void take_own_catalog(const std::vector<executor::Inquiry::Rows>& results);
  void discard_all();
  void clean_parked();
  void let_tables_go();

  // ---- session_settings.cpp
  void apply_set(const parser::Statement& statement, std::string_view sql);
  void set_characteristics(const parser::Statement& statement);
  void apply_change(const SettingChange& change);
  void reset_setting(const std::string& name);
  void settings_changed();

  // ---- session_replies.cpp
  void on_relay(std::string_view bytes) override;
  void on_done(const pool::ExpectedReply& expected, char type, std::string_view body) override;
  bool on_error(const pool::ExpectedReply& expected, const postgres::ErrorFields& fields) override;
  void on_skipped(const pool::ExpectedReply& expected) override;
  bool on_ready(const pool::ExpectedReply& expected, postgres::TransactionStatus status) override;
  void on_copy(const pool::ExpectedReply& expected, char type) override;
  bool on_parameter(std::string_view name, std::string_view value, bool forwarding) override;
  bool on_notice(const postgres::ErrorFields& fields, bool forwarding) override;
  bool on_notification(const postgres::NotificationView& notification) override;
  void on_backend_turn(pool::Backend& backend) override;
  void on_backend_lost(pool::Backend& backend, const Error& reason) override;
  void on_backend_prepared(pool::Backend& backend, const Result<void>& result) override;
  void on_backend_drained(pool::Backend& backend) override;
  bool is_congested() const override;
  void on_checkout(pool::Backend& backend) override;
  void on_checkout_failed(const Error& reason) override;
  void undo(std::uint32_t tag, bool skipped);
  void undo_failed(const pool::ExpectedReply& expected);
  bool is_undone_by_loss(pool::Backend& backend);
  void lost_mid_statement(pool::Backend& backend, const Error& reason);
  bool relay_in_clients_words(const postgres::ErrorFields& fields, const std::string& statement);
  void note_latency();
  void note_text(std::string_view sql);
  void slow_log(Duration took);
  void deliver_notifications();
  void channels_settled();

  SessionOptions options_;
  SessionHost& host_;
  pool::SettingsTracker settings_;
  std::set<std::string> defaulted_;  // settings of the client's start-up that a RESET took from the connection
  bool asks_sequences_ = false;      // the statement at hand asks for currval or lastval
  PlanningView view_;
  RoutingRef routing_;
  bool view_stale_ = true;
  std::uint64_t view_revision_ = 0;  // of settings_
  pool::SettingsMap parameters_;     // as the client knows them, where they may differ from the greeting's
  GreetingRef greeting_;
  mutable std::optional<Encodings> encodings_;  // asked for with every statement

  std::string input_;          // what could not be handled yet
  std::size_t copy_left_ = 0;  // bytes of a CopyData message that still pass through
  bool copy_dropped_ = false;
  bool joining_ = false;       // BEGIN is on its way to the server
  bool trying_ = false;        // the statement at hand was sent to be tried out…
  bool tried_ = false;         // …and has been: what comes now undoes it
  Aside aside_ = Aside::none;  // what a lazy transaction has set is on the connection for its side unit, until ROLLBACK
  pool::SettingsMap reported_;  // ParameterStatus values of what was tried out, or of what has joined the server
  enum class Swallowed : std::uint8_t { nothing, to_ask, asked } swallowed_ = Swallowed::nothing;
  std::size_t readies_ = 0;    // since it was asked
  bool breaks_copy_ = false;   // the client has broken the protocol inside of it; the server will hang up
  bool copy_awaited_ = false;  // a COPY was sent and it is not known yet whether it has begun
  bool running_ = false;
  bool ending_ = false;
  Farewell farewell_ = Farewell::none;
  TimePoint given_up_at_ = never;  // what a client that vanished has left to do
  TimePoint timed_out_at_{};       // statement_timeout has passed and the server was asked to stop
  Wait wait_ = Wait::none;
  std::uint32_t continuation_ = 0;  // counts the ends of waits
  int prepare_attempts_ = 0;
  std::function<void(const pool::ParameterMap&)> on_open_;  // both empty once the session is open
  std::function<void(const Error&)> on_open_failed_;

  pool::Backend* backend_ = nullptr;       // current
  std::vector<pool::Backend*> parked_;     // kept for this session (session pooling, pins), not current
  std::vector<pool::Backend*> others_;     // of the transaction, besides the current one
  bool autocommit_until_sync_ = false;     // …of a unit of messages, not of a simple query
  bool committing_ = false;                // scatter_ is the end of the transaction
  std::optional<Error> lost_participant_;  // why, while a statement over several shards is at work
  bool autocommit_ = false;                // the transaction is that of one statement which writes several shards
  pool::Pool* waiting_in_ = nullptr;
  std::uint8_t pins_ = 0;
  ShardId temporary_shard_;          // where the temporary objects are, if pinned by them
  BackendId sequence_backend_;       // the last connection on which this session may have advanced a sequence…
  bool advanced_sequences_ = false;  // …if it has
  bool catalog_stale_ = false;       // definitions have succeeded: the catalog is read again behind their transaction…
  std::uint64_t awaited_reading_ = 0;     // …this reading, which the next statement waits for
  bool catalog_behind_ = false;           // …and inside it, before the next statement
  std::optional<Error> catalog_problem_;  // the rules do not fit what it has defined
  std::uint64_t code_defined_under_ = 0;  // the version of the routing when this session last defined a function
  ShardId cursor_shard_;                  // likewise the last cursor WITH HOLD
  bool needs_reset_ = false;
  std::uint32_t unit_ = 0;          // counts the client's Syncs
  bool unit_open_ = false;          // extended messages were sent since the last Sync
  bool unit_prepares_only_ = true;  // …and none of them was more than Parse, Describe, Close
  bool skip_local_ = false;         // an error of our own: discard until Sync
  bool error_in_unit_ = false;
  bool unnamed_on_backend_ = false;
  bool in_transaction_ = false;  // on the current connection, as far as was sent and answered
  bool transaction_failed_ = false;
  bool handling_extended_ = false;  // the message at hand belongs to the extended protocol
  bool holds_tables_ = false;  // this transaction has defined, emptied or locked tables: others cannot see into them
  bool unit_has_effects_ = false;    // the unit at hand, outside of a transaction, has set something
  bool copies_first_ = false;        // the transaction's first statement, at hand, writes copies of a reference table
  bool may_have_written_ = false;    // something was sent whose outcome a lost connection leaves unknown
  std::optional<Error> wait_error_;  // what the wait ended with
  bool unreached_ = false;           // …and it was for a connection

  LazyTransaction lazy_;
  Giving giving_;

  PreparedTable<PreparedStatement> prepared_;
  PreparedStatement unnamed_;
  std::uint32_t unnamed_defined_ = UndoLog::unnamed_tag;  // the tag of the Parse that defined it last…
  bool unnamed_is_certain_ = true;                        // that Parse has gone well
  std::uint32_t unnamed_sent_ = 0;  // …and of the one that was last sent to the current connection
  PreparedTable<SqlPrepared> sql_prepared_;
  std::uint64_t next_sql_prepared_ = 1;
  PreparedTable<Portal> portals_;
  std::uint64_t cursors_ = 0;                     // over several shards, so far
  std::shared_ptr<executor::Request> described_;  // the client waits for its description
  Portal unnamed_portal_;
  std::vector<DeferredMessage> deferred_;
  std::string deferred_bytes_;
  UndoLog undo_log_;
  RetryBuffer retry_;
  std::unique_ptr<Script> script_;
  std::unique_ptr<executor::Execution> scatter_;
  executor::CopyIn* copy_in_ = nullptr;  // scatter_, if that is one
  router::StatementCounters* scatter_counters_ = nullptr;
  std::vector<HeldNotification> held_notifications_;  // arrived inside a transaction, or the client reads slowly
  std::size_t held_bytes_ = 0;
  std::string last_text_;  // for the slow-statement log, if it is on

  TimePoint request_started_{};
  TimePoint last_activity_{};
  std::size_t in_flight_ = 0;
  std::uint64_t statements_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace tessera::proxy
