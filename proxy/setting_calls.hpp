// Settings as statements carry them: calls of set_config that work like a SET, the value that a SET or such a call
// gives, the schemas of a search_path. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "parser/statement.hpp"
#include "router/plan_cache.hpp"

namespace tessera::proxy {

// What a successful set_config did.
struct SettingChange {
  std::string name;                  // lower-case
  std::optional<std::string> value;  // nothing: NULL, the default
  bool local = false;
};

// The set_config calls of a statement that does nothing else: SELECT set_config('name', value, true). They are made if
// its result has a row. Nothing: the statement calls set_config in a way whose effect cannot be told from its text.
std::optional<std::vector<router::SettingCall>> setting_calls(const parser::Statement& statement, std::string_view sql);
bool calls_set_config(const parser::Statement& statement);

// The values of one execution. Nothing: a value cannot be read.
std::optional<std::vector<SettingChange>> resolve(const std::vector<router::SettingCall>& calls,
                                                  const router::Values& values);

// The values that `sql`, a SET or a SELECT set_config(…), gives to its setting, as written in a list: SET search_path
// TO a, "B". Nothing: it is neither.
std::optional<std::vector<std::string>> values_set_by(const std::string& sql);

// 'a, "B c", $user' as the names in it, folded and unquoted (SplitIdentifierString).
std::vector<std::string> split_search_path(std::string_view text);

// Does this setting change what statements mean to the planner?
bool changes_planning(std::string_view setting);

// Are there literals whose meaning depends on settings?
bool has_string_literals(const parser::Fingerprint& print);

// The settings that the server has already applied when it has parsed a statement: a literal's meaning depends on them.
extern const std::vector<std::string_view> settings_of_parsing;

}  // namespace tessera::proxy
