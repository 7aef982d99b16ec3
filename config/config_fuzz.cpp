// Whatever the text, loading ends, with a configuration or with problems, and a configuration can be described.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "config/load.hpp"

namespace {

using tessera::config::Environment;

Environment small_world() {
  return {
      .variable = [](const std::string& name) -> std::optional<std::string> {
        if (name.empty()) return std::nullopt;
        return "canary" + name;
      },
      .read_file = [](const std::string& path, std::size_t) -> std::expected<std::string, std::string> {
        if (path.size() % 3 == 0) return std::unexpected("no such file");
        return "-----BEGIN CERTIFICATE-----\nacme,s0\n\"a\"\"b\",s1\n" + path;
      },
  };
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Environment env = small_world();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto loaded = tessera::config::load_text("fuzz.yaml", text, env);
  if (loaded.config.has_value() != loaded.problems.empty()) std::abort();
  if (loaded.config) tessera::config::describe(*loaded.config);
  for (const auto& problem : loaded.problems) tessera::config::to_string(problem);
  return 0;
}
