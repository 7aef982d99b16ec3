// Built-in functions that do more than compute. Functions of users and extensions that are not listed here count as
// harmless: what they do is for the catalog (volatility) and the configuration to say.
#include <algorithm>
#include <array>

#include "parser/postgres/builder.hpp"

namespace tessera::parser::postgres {

namespace {

// With `prefix`, every name that starts so.
struct Known {
  std::string_view name;
  bool prefix;
};

constexpr std::array writers = std::to_array<Known>({
    {"nextval", false},
    {"setval", false},
    {"lo_create", false},
    {"lo_creat", false},
    {"lo_import", false},
    {"lo_export", false},
    {"lo_unlink", false},
    {"lo_put", false},
    {"lo_from_bytea", false},
    {"lo_open", false},
    {"lo_truncate", true},
    {"lowrite", false},
    {"loread", false},
    {"lo_lseek", true},
    {"lo_tell", true},
    {"lo_close", false},
    {"txid_current", false},
    {"pg_current_xact_id", false},
    {"pg_notify", false},
    {"pg_switch_wal", false},
    {"pg_create_", true},
    {"pg_drop_", true},
    {"pg_copy_", true},
    {"pg_replication_", true},
    {"pg_logical_", true},
    {"pg_promote", false},
    {"pg_wal_replay_", true},
    {"pg_backup_", true},
    {"pg_start_backup", false},
    {"pg_stop_backup", false},
    {"pg_rotate_logfile", false},
    {"pg_reload_conf", false},
    {"pg_stat_reset", true},
    {"pg_stat_clear_snapshot", false},
    {"pg_stat_force_next_flush", false},
    {"pg_stat_statements_reset", false},
    {"pg_export_snapshot", false},
    {"pg_terminate_backend", false},
    {"pg_cancel_backend", false},
    {"pg_log_backend_memory_contexts", false},
    {"pg_import_system_collations", false},
    {"pg_extension_config_dump", false},
    {"pg_file_write", false},
    {"pg_file_rename", false},
    {"pg_file_unlink", false},
    {"pg_file_sync", false},
    {"pg_prewarm", false},
    {"autoprewarm_", true},
    {"pg_truncate_visibility_map", false},
    {"brin_summarize_", true},
    {"brin_desummarize_range", false},
    {"gin_clean_pending_list", false},
    {"binary_upgrade_", true},
    {"query_to_xml", true},  // these run SQL that is hidden in a string
    {"cursor_to_xml", true},
    {"ts_stat", false},
    {"ts_rewrite", false},
    {"dblink", true},
    {"crosstab", true},
    {"connectby", false},
    {"set_config", false},
});

bool listed(std::string_view name) {
  return std::ranges::any_of(
      writers, [name](const Known& known) { return known.prefix ? name.starts_with(known.name) : name == known.name; });
}

bool is_advisory(std::string_view name) {
  return name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_");
}

// Written in the text as TRUE or as a string that means it; anything else may be false.
bool is_true(const Node* node) {
  const auto* cast = as<PgQuery__TypeCast>(node);
  const auto* value = as<PgQuery__AConst>(cast != nullptr ? cast->arg : node);
  if (value == nullptr) return false;
  if (value->val_case == PG_QUERY__A__CONST__VAL_BOOLVAL) return value->boolval->boolval;
  if (value->val_case != PG_QUERY__A__CONST__VAL_SVAL) return false;
  const std::string_view text = value->sval->sval;
  return text == "t" || text == "true" || text == "on";
}

}  // namespace

bool has_side_effects(const FunctionCall& function) {
  return listed(function.name) || is_advisory(function.name);
}

// A schema makes no difference: extensions live anywhere, and a user's function of such a name is hardly harmless.
void note_function(const PgQuery__FuncCall& node, Effects& effects) {
  if (node.n_funcname == 0) return;
  const auto* last = as<PgQuery__String>(node.funcname[node.n_funcname - 1]);
  if (last == nullptr) return;
  const std::string_view name = last->sval;
  if (name == "set_config") {
    // For the transaction alone it is forgotten at its end; otherwise the session differs from then on.
    if (node.n_args != 3 || !is_true(node.args[2])) effects.changes_settings = true;
    return;
  }
  if (is_advisory(name)) {
    const bool transaction_level = name.find("_xact_") != std::string_view::npos;
    effects.writes = true;
    // Giving locks back leaves nothing behind. (Drivers' pools do so after every use: asyncpg's.)
    const bool unlocks = name.starts_with("pg_advisory_unlock");
    if (!transaction_level && !unlocks) effects.session_advisory_lock = true;
    return;
  }
  if (listed(name)) effects.writes = true;
}

}  // namespace tessera::parser::postgres
