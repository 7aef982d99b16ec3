#include "proxy/explain_output.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace tessera::proxy {
namespace {

using Json = nlohmann::ordered_json;
using Count = std::optional<std::uint64_t>;

// ---- what a plan says -----------------------------------------------------------------------------------------------

// The number behind `key`, from `from` on. (PostgreSQL 18 gives fractions of rows.)
Count number_behind(std::string_view line, std::string_view key, std::size_t from = 0) {
  const std::size_t at = line.find(key, from);
  double number = 0;
  if (at == std::string_view::npos) return {};
  if (std::from_chars(line.data() + at + key.size(), line.data() + line.size(), number).ec != std::errc{}) return {};
  return static_cast<std::uint64_t>(number + 0.5);
}

// Of a node's line, whose names may look like anything: what is sought stands at its end.
Count rows_of(std::string_view line) {
  if (line.ends_with("(never executed)")) return 0;
  const std::size_t actual = line.rfind("(actual ");
  return actual == std::string_view::npos ? Count() : number_behind(line, "rows=", actual);
}

// What ON CONFLICT left of the rows that an INSERT had; `count`: of this name, in the root of the plan.
template <typename CountOf>
Count after_conflicts(CountOf&& count, bool updates) {
  const Count inserted = count("Tuples Inserted");
  if (!inserted || !updates) return inserted;
  return *inserted + count("Conflicting Tuples").value_or(0) - count("Rows Removed by Conflict Filter").value_or(0);
}

Measured measure_text(const std::vector<std::string>& lines) {
  Measured found;
  if (lines.empty()) return found;
  const std::string& root = lines.front();
  found.rows = rows_of(root);
  if (const std::size_t cost = root.rfind("  (cost="); cost != std::string::npos)
    found.width = number_behind(root, " width=", cost);
  const auto child = std::ranges::find_if(lines, [](const std::string& line) { return line.starts_with("  ->  "); });
  if (child != lines.end()) found.changed = rows_of(*child);
  const auto count = [&lines](std::string_view name) -> Count {
    const std::string key = fmt::format("  {}: ", name);
    for (const std::string& line : lines)
      if (line.starts_with(key)) return number_behind(line, key);
    return {};
  };
  const bool updates = std::ranges::find(lines, "  Conflict Resolution: UPDATE") != lines.end();
  if (const Count left = after_conflicts(count, updates)) found.changed = left;
  return found;
}

Count number_of(const Json& node, std::string_view name) {
  const auto found = node.find(std::string(name));
  if (found == node.end() || !found->is_number()) return {};
  return static_cast<std::uint64_t>(found->get<double>() + 0.5);
}

bool is(const Json& node, std::string_view name, std::string_view value) {
  const auto found = node.find(std::string(name));
  return found != node.end() && found->is_string() && found->get_ref<const std::string&>() == value;
}

// A server's document: an array, of one plan unless rules have made several of the statement.
Json document_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line;
  Json document = Json::parse(text, nullptr, false);
  const bool whole = document.is_array() && !document.empty() && document.front().is_object();
  return whole ? document : Json();
}

Measured measure_json(const Json& document) {
  Measured found;
  if (!document.is_array() || !document.front().contains("Plan")) return found;
  const Json& root = document.front()["Plan"];
  if (!root.is_object()) return found;
  found.rows = number_of(root, "Actual Rows");
  found.width = number_of(root, "Plan Width");
  if (const auto plans = root.find("Plans"); plans != root.end())
    for (const Json& child : *plans)
      if (is(child, "Parent Relationship", "Outer") || is(child, "Parent Relationship", "Member"))
        found.changed = number_of(child, "Actual Rows");
  const auto count = [&root](std::string_view name) { return number_of(root, name); };
  if (const Count left = after_conflicts(count, is(root, "Conflict Resolution", "UPDATE"))) found.changed = left;
  return found;
}

// ---- what is told of it, in both formats ----------------------------------------------------------------------------

constexpr std::string_view uncertain = "known when the shards answer; otherwise a Gather";

double milliseconds(Duration took) {
  return std::round(static_cast<double>(took.count()) / 1000.0) / 1000.0;
}

Count add(Count sum, Count more) {
  return sum && more ? Count(*sum + *more) : Count();
}

// One shard's part: what is told of it beside its plan.
struct Told {
  Count rows;
  std::optional<MovedData> data;
  bool estimated = false;  // data.bytes
};

class Teller {
public:
  Teller(const ExplainedPlan& plan, const parser::Explain& options) : plan_(plan), options_(options) {}

  Told of(const ShardPlan& shard, bool fragment) const {
    Told told;
    if (!options_.analyze) return told;
    const Measured measured = measure(shard.lines, options_.format == "json");
    told.rows = plan_.changes_rows ? measured.changed : measured.rows;
    if (fragment) {
      told.data = shard.sent;
    } else if (told.rows && measured.width && plan_.node != "Split" && !plan_.copies && !plan_.changes_rows) {
      told.data = MovedData{*told.rows, *told.rows * *measured.width};
      told.estimated = true;
    }
    return told;
  }
  // Of the whole.
  Told whole() const {
    if (plan_.merge) {
      Told told = of(*plan_.merge, true);
      MovedData& data = told.data.emplace();
      for (const ExplainedFragment& fragment : plan_.fragments)
        for (const ShardPlan& shard : fragment.shards) {
          data.rows += shard.sent.value_or(MovedData()).rows;
          data.bytes += shard.sent.value_or(MovedData()).bytes;
        }
      if (!options_.analyze) told.data.reset();
      return told;
    }
    Told told{.rows = 0, .data = MovedData()};
    for (const ShardPlan& shard : plan_.shards) {
      const Told part = of(shard, false);
      told.rows = plan_.copies ? part.rows : add(told.rows, part.rows);
      if (!part.data) told.data.reset();
      if (told.data) told.data = MovedData{told.data->rows + part.data->rows, told.data->bytes + part.data->bytes};
      told.estimated = part.estimated;
    }
    if (told.rows)
      told.rows = std::min(*told.rows - std::min(*told.rows, plan_.offset), plan_.limit.value_or(UINT64_MAX));
    return told;
  }
  bool tells_time() const { return options_.analyze && options_.timing; }
  bool tells_whole_time() const { return options_.analyze && options_.summary; }

protected:
  const ExplainedPlan& plan_;
  const parser::Explain& options_;
};

// ---- text -----------------------------------------------------------------------------------------------------------

class TextWriter : Teller {
public:
  using Teller::Teller;

  std::vector<std::string> write() {
    const Told whole = this->whole();
    line(0, fmt::format("Tessera {}{}", plan_.node, actual(whole)));
    if (!plan_.sort_keys.empty())
      line(2, fmt::format("Sort Key: {}", one_line(fmt::format("{}", fmt::join(plan_.sort_keys, ", ")))));
    if (!plan_.certain) line(2, fmt::format("Order: {}", uncertain));
    data(2, whole, true);
    for (const ShardPlan& one : plan_.shards) shard(2, fmt::format("Shard {}", one.shard), one, false);
    for (const ExplainedFragment& fragment : plan_.fragments) {
      line(2, fmt::format("->  Fragment {}", fragment.table));
      line(8, fmt::format("Query: {}", one_line(fragment.query)));
      for (const ShardPlan& one : fragment.shards) shard(8, fmt::format("Shard {}", one.shard), one, true);
    }
    if (plan_.merge) shard(2, fmt::format("Merge on {}", plan_.merge->shard), *plan_.merge, true);
    if (tells_whole_time()) line(0, fmt::format("Execution Time: {:.3f} ms", milliseconds(plan_.took)));
    return std::move(lines_);
  }

private:
  void line(std::size_t indent, std::string_view text) { lines_.push_back(std::string(indent, ' ').append(text)); }
  static std::string actual(const Told& told) {
    return told.rows ? fmt::format("  (actual rows={} loops=1)", *told.rows) : "";
  }
  // A row of QUERY PLAN is a line.
  static std::string one_line(std::string text) {
    std::ranges::replace(text, '\n', ' ');
    return text;
  }
  void data(std::size_t indent, const Told& told, bool sum) {
    if (!told.data) return;
    line(indent, fmt::format("Data{}: {} rows, {}{} bytes", sum ? " Moved" : "", told.data->rows,
                             told.estimated ? "about " : "", told.data->bytes));
  }
  void shard(std::size_t indent, const std::string& name, const ShardPlan& one, bool gathered) {
    const Told told = of(one, gathered);
    line(indent, fmt::format("->  {}{}", name, actual(told)));
    const std::size_t inside = indent + 6;
    if (!one.statement.empty()) line(inside, fmt::format("Statement: {}", one_line(one.statement)));
    data(inside, told, false);
    if (tells_time()) line(inside, fmt::format("Time: {:.3f} ms", milliseconds(one.took)));
    for (const std::string& text : one.lines)
      line(inside, fmt::format("{}{}", &text == &one.lines.front() ? "->  " : "    ", text));
  }

  std::vector<std::string> lines_;
};

// ---- JSON -----------------------------------------------------------------------------------------------------------

class JsonWriter : Teller {
public:
  using Teller::Teller;

  Result<std::vector<std::string>> write() {
    const Told whole = this->whole();
    Json node = Json::object();
    node["Node Type"] = "Custom Scan";
    node["Custom Plan Provider"] = fmt::format("Tessera {}", plan_.node);
    if (!plan_.sort_keys.empty()) node["Sort Key"] = plan_.sort_keys;
    if (!plan_.certain) node["Order"] = uncertain;
    tell(node, whole);
    if (!plan_.shards.empty()) node["Shards"] = shards(plan_.shards, false);
    if (plan_.merge) {
      Json& fragments = node["Fragments"] = Json::array();
      for (const ExplainedFragment& fragment : plan_.fragments) {
        Json& told = fragments.emplace_back(Json::object());
        told["Table"] = fragment.table;
        told["Query"] = fragment.query;
        told["Shards"] = shards(fragment.shards, true);
      }
      node["Merge"] = shard(*plan_.merge, true);
    }
    Json all = Json::object();
    all["Plan"] = std::move(node);
    if (tells_whole_time()) all["Execution Time"] = milliseconds(plan_.took);
    if (unread_)
      return fail(sqlstate::internal_error, fmt::format("the plan of shard \"{}\" cannot be read", *unread_),
                  "use FORMAT TEXT");
    Json document = Json::array();
    document.push_back(std::move(all));
    return std::vector{document.dump(2, ' ', false, Json::error_handler_t::replace)};
  }

private:
  void tell(Json& node, const Told& told) const {
    if (told.rows) node["Actual Rows"] = *told.rows;
    if (told.rows) node["Actual Loops"] = 1;
    if (!told.data) return;
    node["Rows Moved"] = told.data->rows;
    node[told.estimated ? "Estimated Bytes" : "Bytes Moved"] = told.data->bytes;
  }
  Json shards(const std::vector<ShardPlan>& all, bool gathered) {
    Json list = Json::array();
    for (const ShardPlan& one : all) list.push_back(shard(one, gathered));
    return list;
  }
  Json shard(const ShardPlan& one, bool gathered) {
    Json told = Json::object();
    told["Shard"] = one.shard;
    if (!one.statement.empty()) told["Statement"] = one.statement;
    tell(told, of(one, gathered));
    if (tells_time()) told["Time"] = milliseconds(one.took);
    Json document = document_of(one.lines);
    if (document.is_null()) unread_ = one.shard;
    told["Explain"] = std::move(document);
    return told;
  }

  std::optional<std::string> unread_;
};

}  // namespace

Measured measure(const std::vector<std::string>& lines, bool json) {
  return json ? measure_json(document_of(lines)) : measure_text(lines);
}

Result<std::vector<std::string>> explain_rows(const ExplainedPlan& plan, const parser::Explain& options) {
  if (options.format == "json") return JsonWriter(plan, options).write();
  return TextWriter(plan, options).write();
}

}  // namespace tessera::proxy
