#include "router/builtin_functions.hpp"

#include <algorithm>
#include <array>
#include <vector>

namespace tessera::router {
namespace {

constexpr std::string_view immutable_names =
    "abs acos array_append array_cat array_dims array_length array_lower array_ndims array_position "
    "array_positions array_prepend array_remove array_replace array_upper ascii asin atan atan2 bit_count "
    "bit_length bool btrim cardinality cbrt ceil ceiling char_length character_length chr cos date_bin "
    "daterange decode degrees div encode exp family first_value float8 floor gcd generate_subscripts get_bit "
    "get_byte hashint4 hashint8 hashtext host initcap int4 int4range int8 int8range isempty isfinite "
    "json_array_elements json_array_elements_text json_array_length json_each json_extract_path "
    "json_extract_path_text json_object_keys json_typeof jsonb_array_elements jsonb_array_elements_text "
    "jsonb_array_length jsonb_each jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object_keys "
    "jsonb_path_exists jsonb_path_query jsonb_path_query_array jsonb_pretty jsonb_set jsonb_strip_nulls "
    "jsonb_typeof justify_days justify_hours justify_interval lag last_value lcm lead left like ln log log10 "
    "lower lower_inc lpad ltrim make_date make_interval make_time make_timestamp masklen md5 mod network "
    "notlike nth_value ntile num_nonnulls num_nulls numrange octet_length overlay pg_size_pretty pi position "
    "pow power quote_ident radians regexp_count regexp_like regexp_match regexp_matches regexp_replace "
    "regexp_split_to_array regexp_split_to_table repeat replace reverse right round row_number rpad rtrim "
    "set_byte sha224 sha256 sha384 sha512 sign sin split_part sqrt starts_with string_to_array "
    "string_to_table strpos substr substring tan text translate trim_array trunc ts_rank tsrange tstzrange "
    "unnest upper upper_inc varchar width_bucket ";

constexpr std::string_view stable_names =
    "age array_to_json array_to_string col_description concat concat_ws convert convert_from convert_to "
    "current_database current_schema current_schemas current_setting date date_part date_trunc extract format "
    "format_type generate_series has_database_privilege has_schema_privilege has_table_privilege "
    "inet_client_addr inet_client_port inet_server_addr inet_server_port json_build_array json_build_object "
    "json_populate_record jsonb_build_array jsonb_build_object jsonb_populate_record jsonb_to_record "
    "jsonb_to_recordset length make_timestamptz now numeric obj_description pg_backend_pid pg_client_encoding "
    "pg_encoding_to_char pg_get_constraintdef pg_get_expr pg_get_functiondef pg_get_indexdef "
    "pg_get_serial_sequence pg_get_userbyid pg_get_viewdef pg_table_is_visible pg_typeof phraseto_tsquery "
    "plainto_tsquery quote_literal quote_nullable row_to_json shobj_description statement_timestamp timestamp "
    "timestamptz timezone to_char to_date to_json to_jsonb to_number to_regclass to_regtype to_timestamp "
    "to_tsquery to_tsvector transaction_timestamp ts_headline version websearch_to_tsquery ";

constexpr std::string_view volatile_names =
    "clock_timestamp gen_random_uuid pg_database_size pg_is_in_recovery pg_relation_size pg_sleep "
    "pg_table_size pg_total_relation_size random set_config setseed timeofday ";

// Aggregates; rank and its kin are window functions and hypothetical-set aggregates both.
constexpr std::string_view aggregate_names =
    "array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp cume_dist "
    "dense_rank every json_agg json_object_agg jsonb_agg jsonb_object_agg max min mode percent_rank "
    "percentile_cont percentile_disc range_agg range_intersect_agg rank regr_avgx regr_avgy regr_count "
    "regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy stddev stddev_pop stddev_samp string_agg "
    "sum var_pop var_samp variance xmlagg ";

// Of those above, the ones that return sets.
constexpr auto sets = std::to_array<std::string_view>(
    {"generate_series", "generate_subscripts", "json_array_elements", "json_array_elements_text", "json_each",
     "json_object_keys", "jsonb_array_elements", "jsonb_array_elements_text", "jsonb_each", "jsonb_object_keys",
     "jsonb_path_query", "jsonb_to_recordset", "regexp_matches", "regexp_split_to_table", "string_to_table", "unnest"});

// Whole names, or prefixes that end in '*'.
constexpr auto server_state = std::to_array<std::string_view>({"nextval",
                                                               "currval",
                                                               "setval",
                                                               "lastval",
                                                               "pg_advisory_*",
                                                               "pg_try_advisory_*",
                                                               "lo_*",
                                                               "loread",
                                                               "lowrite",
                                                               "pg_notify",
                                                               "pg_listening_channels",
                                                               "txid_*",
                                                               "pg_current_xact_id*",
                                                               "pg_current_snapshot",
                                                               "pg_export_snapshot",
                                                               "pg_switch_wal",
                                                               "pg_create_*",
                                                               "pg_drop_*",
                                                               "pg_logical_*",
                                                               "pg_replication_*",
                                                               "pg_terminate_backend",
                                                               "pg_cancel_backend",
                                                               "pg_reload_conf",
                                                               "pg_rotate_logfile",
                                                               "pg_promote",
                                                               "pg_read_*",
                                                               "pg_ls_*",
                                                               "dblink*",
                                                               "pg_stat_reset*",
                                                               "pg_backup_*",
                                                               "pg_start_backup",
                                                               "pg_stop_backup",
                                                               "pg_wal_*",
                                                               "query_to_xml*",
                                                               "table_to_xml*",
                                                               "cursor_to_xml*",
                                                               "schema_to_xml*",
                                                               "database_to_xml*",
                                                               "ts_stat"});

// Whole names, or prefixes that end in '*'. Stable within a statement on one server, but not over several.
constexpr auto per_server = std::to_array<std::string_view>(
    {"now", "transaction_timestamp", "statement_timestamp", "current_date", "current_time", "current_timestamp",
     "localtime", "localtimestamp", "version", "inet_client_*", "inet_server_*"});

// Of the functions that begin with pg_, the ones that look at their arguments and settings only.
constexpr auto not_of_server = std::to_array<std::string_view>(
    {"pg_typeof", "pg_size_pretty", "pg_size_bytes", "pg_column_size", "pg_column_compression", "pg_collation_for",
     "pg_client_encoding", "pg_encoding_to_char", "pg_char_to_encoding", "pg_encoding_max_length", "pg_input_is_valid",
     "pg_sleep*"});

constexpr auto per_row =
    std::to_array<std::string_view>({"random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7"});

constexpr auto by_order = std::to_array<std::string_view>(
    {"array_agg", "string_agg", "json_agg", "jsonb_agg", "json_object_agg", "jsonb_object_agg", "xmlagg"});

constexpr auto sizes =
    std::to_array<std::string_view>({"pg_relation_size", "pg_table_size", "pg_indexes_size", "pg_total_relation_size",
                                     "pg_database_size", "pg_tablespace_size"});

bool listed(std::span<const std::string_view> names, std::string_view function) {
  return std::ranges::any_of(names, [function](std::string_view name) {
    return name.ends_with('*') ? function.starts_with(name.substr(0, name.size() - 1)) : function == name;
  });
}

void add(std::vector<BuiltinFunction>& functions, std::string_view names, char volatility, bool aggregate) {
  while (!names.empty()) {
    const std::size_t end = names.find(' ');
    const std::string_view name = names.substr(0, end);
    functions.push_back({name, volatility, aggregate, listed(sets, name)});
    names.remove_prefix(end + 1);
  }
}

std::vector<BuiltinFunction> make_functions() {
  std::vector<BuiltinFunction> functions;
  add(functions, immutable_names, 'i', false);
  add(functions, stable_names, 's', false);
  add(functions, volatile_names, 'v', false);
  add(functions, aggregate_names, 'i', true);
  return functions;
}

}  // namespace

std::span<const BuiltinFunction> builtin_functions() {
  static const std::vector<BuiltinFunction> functions = make_functions();
  return functions;
}

bool is_server_state(std::string_view function) {
  return listed(server_state, function);
}

bool is_per_server(std::string_view function) {
  return listed(per_server, function) || (function.starts_with("pg_") && !listed(not_of_server, function));
}

bool is_per_row(std::string_view function) {
  return listed(per_row, function);
}

bool is_size(std::string_view function) {
  return listed(sizes, function);
}

bool is_by_order(std::string_view function) {
  return listed(by_order, function);
}

}  // namespace tessera::router
