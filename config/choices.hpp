// The words that a configuration may use for each enumeration; the loader, the schema and `describe` share them.
#pragma once

#include <span>
#include <string_view>

#include "config/config.hpp"

namespace tessera::config {

struct Choice {
  std::string_view name;
  int value;
};

template <typename Enum>
constexpr Choice choice(std::string_view name, Enum value) {
  return {name, static_cast<int>(value)};
}

// The first name for a value is the one that `describe` writes.
inline constexpr Choice client_tls_modes[] = {
    choice("disable", ClientTlsMode::disable),     choice("allow", ClientTlsMode::allow),
    choice("prefer", ClientTlsMode::prefer),       choice("require", ClientTlsMode::require),
    choice("verify-ca", ClientTlsMode::verify_ca), choice("verify-full", ClientTlsMode::verify_full)};
inline constexpr Choice backend_tls_modes[] = {
    choice("disable", BackendTls::disable), choice("prefer", BackendTls::prefer),
    choice("require", BackendTls::require), choice("verify-ca", BackendTls::verify_ca),
    choice("verify-full", BackendTls::verify_full)};
enum class TlsVersion { v1_2, v1_3 };
inline constexpr Choice tls_versions[] = {choice("1.2", TlsVersion::v1_2), choice("1.3", TlsVersion::v1_3)};
inline constexpr Choice admin_roles[] = {choice("viewer", AdminRole::viewer), choice("operator", AdminRole::operator_),
                                         choice("admin", AdminRole::admin)};
inline constexpr Choice log_levels[] = {choice("debug", LogLevel::debug), choice("info", LogLevel::info),
                                        choice("warn", LogLevel::warn), choice("error", LogLevel::error)};
inline constexpr Choice log_formats[] = {choice("logfmt", LogFormat::logfmt), choice("json", LogFormat::json)};
enum class Engine { postgres, mysql };
inline constexpr Choice engines[] = {choice("postgres", Engine::postgres), choice("mysql", Engine::mysql)};
inline constexpr Choice backend_auths[] = {choice("passthrough", BackendAuth::passthrough),
                                           choice("password", BackendAuth::password)};
inline constexpr Choice unknown_users_choices[] = {choice("refuse", UnknownUsers::refuse),
                                                   choice("passthrough", UnknownUsers::passthrough)};
inline constexpr Choice pool_modes[] = {choice("transaction", PoolMode::transaction),
                                        choice("session", PoolMode::session), choice("statement", PoolMode::statement)};
inline constexpr Choice consistencies[] = {
    choice("strong", Consistency::strong), choice("session", Consistency::session),
    choice("bounded", Consistency::bounded), choice("eventual", Consistency::eventual)};
inline constexpr Choice cross_shard_choices[] = {choice("two_phase", CrossShardTransactions::two_phase),
                                                 choice("single_shard", CrossShardTransactions::single_shard)};
inline constexpr Choice hash_functions[] = {choice("postgres", HashFunction::postgres),
                                            choice("md5", HashFunction::md5), choice("crc32", HashFunction::crc32)};
enum class IdKind { none, snowflake };
inline constexpr Choice id_kinds[] = {choice("snowflake", IdKind::snowflake)};

template <typename Enum>
constexpr std::string_view name_of(std::span<const Choice> choices, Enum value) {
  for (const Choice& one : choices) {
    if (one.value == static_cast<int>(value)) return one.name;
  }
  return {};
}

}  // namespace tessera::config
