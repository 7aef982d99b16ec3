#include "proxy/log.hpp"

#include <atomic>
#include <fmt/format.h>
#include <memory>
#include <mutex>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "proxy/events.hpp"

namespace tessera::proxy::log {

namespace {

std::mutex guard;  // guards current
std::shared_ptr<spdlog::logger> current;
std::atomic<bool> json = false;

std::shared_ptr<spdlog::logger> logger() {
  const std::scoped_lock lock(guard);
  if (!current)
    current = std::make_shared<spdlog::logger>("tessera", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  return current;
}

void append_escaped(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    } else {
      out += c;
    }
  }
  out += '"';
}

bool is_plain(std::string_view text) {
  if (text.empty()) return false;
  for (const char c : text)
    if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f) return false;
  return true;
}

// As the configuration (log.level) and /v1/events write them.
std::string_view level_name(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::debug:
      return "debug";
    case spdlog::level::warn:
      return "warn";
    case spdlog::level::err:
      return "error";
    default:
      return "info";
  }
}

std::string line(std::string_view level, std::string_view message, Fields fields) {
  std::string out;
  if (json) {
    out = fmt::format("\"level\":\"{}\",\"message\":", level);
    append_escaped(out, message);
    for (const auto& [name, value] : fields) {
      out += fmt::format(",\"{}\":", name);
      append_escaped(out, value);
    }
    return out;
  }
  out = fmt::format("level={} msg=", level);
  append_escaped(out, message);
  for (const auto& [name, value] : fields) {
    out += fmt::format(" {}=", name);
    if (is_plain(value))
      out += value;
    else
      append_escaped(out, value);
  }
  return out;
}

void write(spdlog::level::level_enum level, std::string_view message, Fields fields) {
  const std::shared_ptr<spdlog::logger> to = logger();
  if (!to->should_log(level)) return;
  const std::string text = line(level_name(level), message, fields);
  to->log(level, spdlog::string_view_t(text.data(), text.size()));
}

spdlog::level::level_enum level_of(config::LogLevel level) {
  switch (level) {
    case config::LogLevel::debug:
      return spdlog::level::debug;
    case config::LogLevel::info:
      return spdlog::level::info;
    case config::LogLevel::warn:
      return spdlog::level::warn;
    case config::LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

Result<void> configure(const config::Log& settings) {
  std::shared_ptr<spdlog::logger> made;
  try {
    spdlog::sink_ptr sink;
    if (settings.file.empty())
      sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    else
      sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(settings.file);
    made = std::make_shared<spdlog::logger>("tessera", std::move(sink));
  } catch (const spdlog::spdlog_ex& problem) {
    return fail(sqlstate::config_file_error, fmt::format("cannot open the log file: {}", problem.what()));
  }
  const bool as_json = settings.format == config::LogFormat::json;
  made->set_pattern(as_json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ",%v})" : "time=%Y-%m-%dT%H:%M:%S.%eZ %v",
                    spdlog::pattern_time_type::utc);
  made->set_level(level_of(settings.level));
  made->flush_on(spdlog::level::debug);
  json = as_json;
  const std::scoped_lock lock(guard);
  current = std::move(made);
  return {};
}

void debug(std::string_view message, Fields fields) {
  write(spdlog::level::debug, message, fields);
}
void statement(std::string_view message, Fields fields) {
  write(spdlog::level::warn, message, fields);
}
void info(std::string_view message, Fields fields) {
  events().add("info", message, fields);
  write(spdlog::level::info, message, fields);
}
void warn(std::string_view message, Fields fields) {
  events().add("warn", message, fields);
  write(spdlog::level::warn, message, fields);
}
void error(std::string_view message, Fields fields) {
  events().add("error", message, fields);
  write(spdlog::level::err, message, fields);
}

}  // namespace tessera::proxy::log
