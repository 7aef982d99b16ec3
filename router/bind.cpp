// Evaluating a template: from the values of one execution to shards.
#include <algorithm>
#include <charconv>
#include <fmt/core.h>

#include "router/array.hpp"
#include "router/contains.hpp"
#include "router/key_class.hpp"
#include "router/moment.hpp"
#include "router/numeric.hpp"
#include "router/plan.hpp"
#include "router/text.hpp"
#include "router/value_error.hpp"

namespace tessera::router {
namespace {

constexpr SqlState not_null_violation{"23502"};

// Of a number in a statement's text (make_const).
KeyType type_of_number(std::string_view token) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
  if (error != std::errc{} || end != token.data() + token.size()) return KeyType::numeric;
  return value == static_cast<std::int32_t>(value) ? KeyType::int4 : KeyType::int8;
}

// A text that each shard would read as another moment, in what they all write.
Result<void> same_moment(const PlanTemplate& plan, const Values& values) {
  if (!plan.moment_matters) return {};
  const bool told = std::ranges::any_of(values.parameters, [](const Values::Parameter& parameter) {
    return !parameter.null && tells_moment(parameter.bytes);
  });
  const auto literal = literal_of_moment(values.sql);
  if (!told && !literal) return {};
  return std::unexpected(
      Error{sqlstate::feature_not_supported,
            "a text such as 'now' or 'today', in a write on several shards, could mean another moment on each",
            {},
            "give the date or time itself",
            literal ? position_of(values.sql, *literal) : 0});
}

class Binder {
public:
  Binder(const PlanTemplate& plan, const Topology& topology, const Values& values, BindScratch& scratch)
      : plan_(plan), topology_(topology), values_(values), scratch_(scratch) {}

  Result<void> run(Plan& out) {
    scratch_.shards.clear();
    bool different = false;
    for (const Component& component : plan_.components) {
      if (auto evaluated = evaluate(component); !evaluated) return evaluated;
      // A component that no row can match needs no shard.
      for (const ShardId shard : scratch_.other) {
        different = different || (!scratch_.shards.empty() && scratch_.shards.front() != shard);
        if (!contains(scratch_.shards, shard)) scratch_.shards.push_back(shard);
      }
    }
    if (scratch_.shards.empty()) scratch_.shards.push_back(some_shard());
    if (!different) {
      out.op = Operator::route;
      out.shard = scratch_.shards.front();
      return {};
    }
    return several(out);
  }

  Result<std::vector<std::vector<ShardId>>> by_component() {
    std::vector<std::vector<ShardId>> shards;
    for (const Component& component : plan_.components) {
      if (auto evaluated = evaluate(component); !evaluated) return std::unexpected(evaluated.error());
      std::ranges::sort(shards.emplace_back(scratch_.other));
    }
    return shards;
  }

  Result<std::vector<ShardId>> by_row() {
    std::vector<ShardId> shards;
    const ShardTerm& term = plan_.components.front().terms.front();
    if (scratch_.texts.size() < term.key_types.size()) scratch_.texts.resize(term.key_types.size());
    scratch_.key.resize(term.key_types.size());
    for (const auto& row : term.rows) {
      scratch_.term.clear();
      if (const auto known = evaluate_row(term, row); !known) return std::unexpected(known.error());
      shards.push_back(scratch_.term.front());
    }
    return shards;
  }

private:
  Result<void> several(Plan& out) {
    if (plan_.merges || plan_.gathers) {
      std::ranges::sort(scratch_.shards);
      out.op = plan_.merges ? Operator::merge_sort : Operator::gather;
      out.shards.assign(scratch_.shards.begin(), scratch_.shards.end());
      return {};
    }
    if (plan_.many_refusal) {
      if (mistake_) return std::unexpected(std::move(*mistake_));
      Error error = *plan_.many_refusal;
      if (untyped_ != nullptr) error.hint = untyped_hint(*untyped_);
      std::ranges::sort(scratch_.shards);
      error.detail = "the rows are on the shards";
      for (const ShardId shard : scratch_.shards) {
        error.detail += error.detail.ends_with("shards") ? " " : ", ";
        error.detail += topology_.shard_name(shard);
      }
      return std::unexpected(std::move(error));
    }
    if (auto same = same_moment(plan_, values_); !same) return same;
    std::ranges::sort(scratch_.shards);
    out.op = plan_.insert_rows ? Operator::split : plan_.replicates ? Operator::replicate : Operator::scatter;
    out.shards.assign(scratch_.shards.begin(), scratch_.shards.end());
    out.mistake = std::move(mistake_);
    return {};
  }

  // Any shard gives the right answer: no row.
  ShardId some_shard() const {
    for (const Component& component : plan_.components) {
      if (component.rule) return topology_.rule(*component.rule).shards().front();
    }
    return ShardId(0);
  }

  // Into scratch_.other.
  Result<void> evaluate(const Component& component) {
    scratch_.other.clear();
    if (component.plain_shard) {
      scratch_.other.push_back(*component.plain_shard);
      return {};
    }
    bool restricted = false;
    for (const ShardTerm& term : component.terms) {
      scratch_.term.clear();
      const auto known = term.range ? evaluate_range(term) : evaluate_rows(term);
      if (!known) return std::unexpected(known.error());
      if (!*known) continue;
      if (!restricted) {
        scratch_.other.swap(scratch_.term);
      } else {
        std::erase_if(scratch_.other, [this](ShardId shard) { return !contains(scratch_.term, shard); });
      }
      restricted = true;
    }
    if (!restricted) {
      const auto& all = topology_.rule(*component.rule).shards();
      scratch_.other.assign(all.begin(), all.end());
    }
    return {};
  }

  // The shards of all rows into scratch_.term. False: some row's key cannot be decided, so the term says nothing.
  Result<bool> evaluate_rows(const ShardTerm& term) {
    if (scratch_.texts.size() < term.key_types.size()) scratch_.texts.resize(term.key_types.size());
    scratch_.key.resize(term.key_types.size());
    for (const auto& row : term.rows) {
      if (row.size() == 1 && row.front().array) {
        if (!evaluate_array(term, row.front())) return false;
        continue;
      }
      const auto known = evaluate_row(term, row);
      if (!known || !*known) return known;
    }
    return true;
  }

  Result<bool> evaluate_row(const ShardTerm& term, const std::vector<KeyOperand>& row) {
    const bool inserting = !term.modifiers.empty();
    for (std::size_t i = 0; i < row.size(); ++i) {
      bool null = false;
      const Conversion converted = value_of(row[i], term.key_types[i], scratch_.texts[i], scratch_.key[i], null);
      if (!inserting) {
        if (converted == Conversion::no_row) return true;
        if (converted == Conversion::unknown) {
          if (!mistake_) mistake_ = mistake_of(row[i], term.key_types[i], {});
          return false;
        }
        continue;
      }
      if (null) {
        return fail(not_null_violation,
                    fmt::format("null value in the sharding key \"{}\" of table \"{}\"", term.columns[i], target()),
                    "give the key a value");
      }
      if (converted != Conversion::value) {
        if (auto mistake = mistake_of(row[i], term.key_types[i], term.columns[i]))
          return std::unexpected(std::move(*mistake));
      }
      if (converted != Conversion::value || changed_by_storing(scratch_.key[i], term.modifiers[i])) {
        return fail(sqlstate::feature_not_supported,
                    fmt::format("it is not certain which {} the sharding key of table \"{}\" would become",
                                name_of(term.key_types[i]), target()),
                    untyped_ != nullptr ? untyped_hint(*untyped_)
                                        : "give the key in the standard form of its type, without a need for rounding");
      }
    }
    return add(term, inserting);
  }

  // Whose rows an INSERT writes: the first component's.
  std::string_view target() const { return plan_.components.front().tables.front(); }

  // A key that the rule has no place for is no row of any shard; one that is to be written is an error.
  Result<bool> add(const ShardTerm& term, bool inserting) {
    const auto location = topology_.rule(term.rule).locate(scratch_.key);
    if (!location) {
      if (inserting) return std::unexpected(location.error());
      return true;
    }
    if (!contains(scratch_.term, location->shard)) scratch_.term.push_back(location->shard);
    return true;
  }

  bool evaluate_array(const ShardTerm& term, const KeyOperand& operand) {
    std::string_view bytes;
    bool binary = false;
    TypeOid element = 0;
    if (operand.kind == KeyOperand::Kind::parameter) {
      if (operand.index >= values_.parameters.size()) return false;
      const auto& parameter = values_.parameters[operand.index];
      if (parameter.null) return true;
      if (!operand.inferred && undeclared(parameter)) {
        untyped_ = &operand;
        return false;
      }
      bytes = parameter.bytes;
      binary = parameter.binary;
      element = parameter.declared == 0 ? 0 : element_oid(parameter.declared);
      if (parameter.declared != 0 && element == 0) return false;
    } else if (operand.kind == KeyOperand::Kind::null) {
      return true;
    } else {
      std::string_view token;
      parser::LiteralKind kind{};
      if (!literal(operand, token, kind) || !is_string(kind)) return false;
      if (!parser::decode_string(token, kind, scratch_.texts.front())) return false;
      bytes = scratch_.texts.front();
    }
    if (foreign(bytes, binary, term.key_types.front())) return false;
    return evaluate_elements(term, operand, ArrayReader(bytes, binary), binary, element);
  }

  bool evaluate_elements(const ShardTerm& term, const KeyOperand& operand, ArrayReader reader, bool binary,
                         TypeOid declared) {
    if (binary && reader.element_oid() != 0) declared = reader.element_oid();
    std::string text;
    for (;;) {
      std::string_view element;
      switch (reader.next(scratch_.element, element)) {
        case ArrayReader::Item::end:
          return true;
        case ArrayReader::Item::malformed:
          return false;
        case ArrayReader::Item::null:
          continue;
        case ArrayReader::Item::element:
          break;
      }
      KeyValue& key = scratch_.key.front();
      switch (from_parameter(element, binary, declared, term.key_types.front(), operand.cast, text, key)) {
        case Conversion::unknown:
          if (!mistake_)
            mistake_ = value_error(given(element, binary, declared, operand.cast, term.key_types.front()),
                                   term.key_types.front(), {});
          return false;
        case Conversion::no_row:
          continue;
        case Conversion::value:
          break;
      }
      if (!add(term, false)) return false;
    }
  }

  // Bounds that cannot be read do not restrict.
  Result<bool> evaluate_range(const ShardTerm& term) {
    if (scratch_.texts.size() < 2) scratch_.texts.resize(2);
    scratch_.key.resize(2);
    const auto bound = [&](const std::optional<KeyOperand>& operand, std::size_t i) -> const KeyValue* {
      bool null = false;
      if (!operand) return nullptr;
      const auto converted = value_of(*operand, term.key_types.front(), scratch_.texts[i], scratch_.key[i], null);
      return converted == Conversion::value ? &scratch_.key[i] : nullptr;
    };
    const KeyValue* low = bound(term.low, 0);
    const KeyValue* high = bound(term.high, 1);
    scratch_.term = topology_.rule(term.rule).locate_range(low, high);
    return true;
  }

  bool literal(const KeyOperand& operand, std::string_view& token, parser::LiteralKind& kind) const {
    if (operand.kind == KeyOperand::Kind::text) {
      token = operand.text;
      kind = operand.literal;
      return true;
    }
    if (operand.index >= values_.slots.size()) return false;
    const parser::Slot& slot = values_.slots[operand.index];
    if (slot.begin > slot.end || slot.end > values_.sql.size()) return false;
    token = values_.sql.substr(slot.begin, slot.end - slot.begin);
    kind = slot.kind;
    return true;
  }

  static bool is_string(parser::LiteralKind kind) {
    return kind != parser::LiteralKind::integer && kind != parser::LiteralKind::numeric;
  }

  static std::string untyped_hint(const KeyOperand& operand) {
    return fmt::format(
        "${} stands more than once, and the server may take it for another type than the sharding key's: declare its "
        "type when you prepare the statement, or cast it to the key's type wherever it stands",
        operand.index + 1);
  }

  static constexpr TypeOid unknown_oid = 705;
  static bool undeclared(const Values::Parameter& parameter) {
    return parameter.declared == 0 || parameter.declared == unknown_oid;
  }
  static bool changes_list(TypeOid declared, KeyType column) {
    return declared != 0 && declared != unknown_oid && !keeps_list_type(key_type_of(declared), column);
  }

  static GivenValue given(std::string_view bytes, bool binary, TypeOid declared, KeyType cast, KeyType column) {
    const KeyType met = cast == KeyType::unsupported ? column : cast;
    if (declared == 0 || declared == unknown_oid) return {bytes, binary, met, met};
    const KeyType own = key_type_of(declared);
    return {bytes, binary, own, cast == KeyType::unsupported ? own : cast};
  }

  // Of a key that could not be had: what the server would say.
  std::optional<Error> mistake_of(const KeyOperand& operand, KeyType column, std::string_view stored_in) const {
    if (operand.kind == KeyOperand::Kind::parameter) {
      if (operand.index >= values_.parameters.size() || &operand == untyped_) return {};
      const auto& parameter = values_.parameters[operand.index];
      return value_error(given(parameter.bytes, parameter.binary, parameter.declared, operand.cast, column), column,
                         stored_in);
    }
    std::string_view token;
    parser::LiteralKind kind{};
    if (!literal(operand, token, kind)) return {};
    if (kind == parser::LiteralKind::bit_string || kind == parser::LiteralKind::unicode_string) return {};
    std::string text;
    if (!is_string(kind)) {
      if (operand.cast != KeyType::unsupported) return {};
      text = token;
    } else if (!parser::decode_string(token, kind, text)) {
      return {};
    }
    const KeyType type = is_string(kind) ? given({}, false, 0, operand.cast, column).type : type_of_number(token);
    auto mistake = value_error({text, false, type, type}, column, stored_in);
    // Of an operator that does not exist the server tells the operator's place.
    const bool placed = operand.kind == KeyOperand::Kind::slot && is_string(kind);
    if (mistake && placed && (type == column || !stored_in.empty()))
      mistake->position = position_of(values_.sql, values_.slots[operand.index].begin);
    return mistake;
  }

  static TypeOid element_oid(TypeOid array_oid) { return oid_of(element_type_of(array_oid)); }

  bool foreign(std::string_view bytes, bool binary, KeyType type) const {
    return !values_.same_encoding && is_foreign(bytes, binary, type);
  }

  Conversion value_of(const KeyOperand& operand, KeyType type, std::string& text, KeyValue& key, bool& null) {
    switch (operand.kind) {
      case KeyOperand::Kind::null:
        null = true;
        return Conversion::no_row;
      case KeyOperand::Kind::parameter: {
        if (operand.index >= values_.parameters.size()) return Conversion::unknown;
        const auto& parameter = values_.parameters[operand.index];
        if (operand.listed && changes_list(parameter.declared, type)) return Conversion::unknown;
        null = parameter.null;
        if (null) return Conversion::no_row;
        if (!operand.inferred && undeclared(parameter)) {
          untyped_ = &operand;
          return Conversion::unknown;
        }
        if (foreign(parameter.bytes, parameter.binary, type)) return Conversion::unknown;
        return from_parameter(parameter.bytes, parameter.binary, parameter.declared, type, operand.cast, text, key);
      }
      case KeyOperand::Kind::slot:
      case KeyOperand::Kind::text:
        break;
    }
    std::string_view token;
    parser::LiteralKind kind{};
    if (!literal(operand, token, kind) || foreign(token, false, type)) return Conversion::unknown;
    return from_literal(token, kind, operand.negative, type, operand.cast, text, key);
  }

  const PlanTemplate& plan_;
  const Topology& topology_;
  const Values& values_;
  BindScratch& scratch_;
  std::optional<Error> mistake_;         // what the server would say of a key that says nothing here
  const KeyOperand* untyped_ = nullptr;  // a parameter that was not used, for the hint
};

}  // namespace

Result<void> bind(const PlanTemplate& plan, const Topology& topology, const Values& values, BindScratch& scratch,
                  Plan& out) {
  out.shards.clear();
  out.mistake.reset();
  out.writes = plan.effects.writes;
  if (plan.refusal) return std::unexpected(*plan.refusal);
  if (plan.hinted_shard) {
    out.op = Operator::route;
    out.shard = *plan.hinted_shard;
    return {};
  }
  switch (plan.placement) {
    case Placement::session:
      out.op = Operator::session;
      return {};
    case Placement::any_shard:
      out.op = Operator::any;
      return {};
    case Placement::every_shard:
      if (auto same = same_moment(plan, values); !same) return same;
      out.op = Operator::replicate;
      for (std::uint32_t i = 0; i < topology.shard_count(); ++i) out.shards.emplace_back(i);
      return {};
    case Placement::by_components:
      break;
  }
  if (plan.copy_rows) {
    if (auto same = same_moment(plan, values); !same) return same;
    out.op = Operator::copy;
    out.shards = topology.rule(*plan.components.front().rule).shards();
    return {};
  }
  return Binder(plan, topology, values, scratch).run(out);
}

Result<std::vector<std::vector<ShardId>>> component_shards(const PlanTemplate& plan, const Topology& topology,
                                                           const Values& values, BindScratch& scratch) {
  return Binder(plan, topology, values, scratch).by_component();
}

Result<std::vector<ShardId>> row_shards(const PlanTemplate& plan, const Topology& topology, const Values& values,
                                        BindScratch& scratch) {
  return Binder(plan, topology, values, scratch).by_row();
}

}  // namespace tessera::router
