// Which tables of a statement share a shard, and what decides the shard.
//
// Table t is attached to table s when t's facts make its whole key equal to that of s, under the same rule: each row of
// t that counts is on the shard of a row of s that counts. Attachment is transitive. Tables that are attached to one
// another (inner joins) are one set; a set that is attached to nothing else is the root of a component and decides its
// shards; everything attached to it, directly or not, follows.
#include <algorithm>
#include <limits>

#include "router/contains.hpp"
#include "router/facts.hpp"
#include "router/parameter_types.hpp"

namespace tessera::router {
namespace {

using parser::BlockIndex;
using parser::no_index;
using parser::TableIndex;

constexpr std::size_t most_rows = 1000;  // of a term made by combining conditions on the parts of a key
constexpr std::size_t most_terms = 100;  // of a component: each narrows the shards, none is needed to be right

class ComponentBuilder {
public:
  ComponentBuilder(const PlanRequest& request, const std::vector<ResolvedTable>& tables, TableIndex skip)
      : request_(request), tables_(tables), base_(request, tables), parameters_(request, tables) {
    for (TableIndex i = 0; i < tables.size(); ++i) {
      facts_.emplace_back(base_, i);
      if (tables[i].kind == ResolvedTable::Kind::sharded && i != skip) sharded_.push_back(i);
    }
    reach_attached();
  }

  void build(PlanTemplate& plan, std::vector<std::uint32_t>& component_of, std::vector<bool>& driving) {
    for (const TableIndex table : sharded_) {
      if (!root(table) || component_of[table] != no_index) continue;
      const auto index = static_cast<std::uint32_t>(plan.components.size());
      Component component;
      component.rule = tables_[table].routing->rule;
      for (const TableIndex other : sharded_) {
        if (!attached(table, other) || !attached(other, table)) continue;
        component_of[other] = index;
        driving[other] = true;
        add_terms(other, component.terms);
      }
      plan.components.push_back(std::move(component));
    }
    for (const TableIndex table : sharded_) {
      for (const TableIndex other : sharded_) {
        if (component_of[table] == no_index && driving[other] && attached(table, other)) {
          component_of[table] = component_of[other];
        }
      }
      auto& names = plan.components[component_of[table]].tables;
      if (!contains(names, tables_[table].name)) names.push_back(tables_[table].name);
    }
  }

private:
  bool attached(TableIndex table, TableIndex to) const { return attached_[table * tables_.size() + to]; }
  bool root(TableIndex table) const {
    return std::ranges::all_of(sharded_,
                               [&](TableIndex other) { return !attached(table, other) || attached(other, table); });
  }

  bool same_key(TableIndex table, TableIndex other) {
    const TableRouting& a = *tables_[table].routing;
    const TableRouting& b = *tables_[other].routing;
    if (table == other) return true;
    if (a.rule != b.rule || !facts_[table].reaches(other)) return false;
    for (std::size_t i = 0; i < a.key_columns.size(); ++i) {
      if (!facts_[table].equal(base_.node(table, a.key_columns[i]), base_.node(other, b.key_columns[i]))) return false;
    }
    return true;
  }

  void reach_attached() {
    const std::size_t count = tables_.size();
    attached_.assign(count * count, false);
    for (const TableIndex a : sharded_) {
      for (const TableIndex b : sharded_) attached_[a * count + b] = same_key(a, b);
    }
    for (const TableIndex via : sharded_) {
      for (const TableIndex a : sharded_) {
        for (const TableIndex b : sharded_) {
          if (attached(a, via) && attached(via, b)) attached_[a * count + b] = true;
        }
      }
    }
  }

  // The constants that key column `part` of the table is said to be among: one list per condition.
  std::vector<std::vector<KeyOperand>> constants(TableIndex table, std::size_t part) {
    const Node key = base_.node(table, tables_[table].routing->key_columns[part]);
    const KeyType type = tables_[table].routing->key_types[part];
    std::vector<std::vector<KeyOperand>> lists;
    for (const auto& constant : base_.constants()) {
      const auto how = constant.condition->comparison;
      if (how != parser::Comparison::equal && how != parser::Comparison::in) continue;
      if (!facts_[table].hold(constant.restricts) || !facts_[table].equal(constant.column, key)) continue;
      auto found = key_operands(*constant.condition, type, request_, parameters_);
      if (found) lists.push_back(std::move(*found));
    }
    return lists;
  }

  ShardTerm term_for(TableIndex table) const {
    ShardTerm term;
    term.rule = tables_[table].routing->rule;
    term.key_types = tables_[table].routing->key_types;
    return term;
  }
  static void add(ShardTerm term, std::vector<ShardTerm>& terms) {
    if (terms.size() < most_terms && !contains(terms, term)) terms.push_back(std::move(term));
  }

  void add_terms(TableIndex table, std::vector<ShardTerm>& terms) {
    if (tables_[table].routing->key_types.empty()) return;  // it is not there yet, and no rule is bound to it
    if (tables_[table].routing->key_columns.size() > 1) {
      add_combined(table, terms);
    } else {
      for (auto& list : constants(table, 0)) {
        ShardTerm term = term_for(table);
        for (KeyOperand& operand : list) term.rows.push_back({std::move(operand)});
        add(std::move(term), terms);
      }
      if (request_.topology.rule(tables_[table].routing->rule).ordered()) add_range(table, terms);
    }
    add_row_conditions(table, terms);
  }

  // A key of several columns, each with constants of its own: all combinations.
  void add_combined(TableIndex table, std::vector<ShardTerm>& terms) {
    ShardTerm term = term_for(table);
    term.rows.emplace_back();
    for (std::size_t part = 0; part < term.key_types.size(); ++part) {
      const auto lists = constants(table, part);
      const auto usable = std::ranges::find_if(lists, [&](const auto& list) {
        return list.size() * term.rows.size() <= most_rows &&
               std::ranges::none_of(list, [](const KeyOperand& operand) { return operand.array; });
      });
      if (usable == lists.end()) return;
      std::vector<std::vector<KeyOperand>> combined;
      for (const auto& row : term.rows) {
        for (const KeyOperand& operand : *usable) {
          combined.push_back(row);
          combined.back().push_back(operand);
        }
      }
      term.rows = std::move(combined);
    }
    add(std::move(term), terms);
  }

  void add_range(TableIndex table, std::vector<ShardTerm>& terms) {
    const Node key = base_.node(table, tables_[table].routing->key_columns[0]);
    ShardTerm term = term_for(table);
    term.range = true;
    for (const auto& constant : base_.constants()) {
      const auto how = constant.condition->comparison;
      if (how == parser::Comparison::equal || how == parser::Comparison::in) continue;
      if (!facts_[table].hold(constant.restricts) || !facts_[table].equal(constant.column, key)) continue;
      const auto found = key_operands(*constant.condition, term.key_types.front(), request_, parameters_);
      if (!found || found->size() != 1 || constant.condition->any_array) continue;
      const bool upper = how == parser::Comparison::less || how == parser::Comparison::less_equal;
      auto& bound = upper ? term.high : term.low;
      if (!bound) bound = found->front();
    }
    if (term.low || term.high) add(std::move(term), terms);
  }

  // (a, b) IN (…): the columns, in any order and among others, are the key.
  void add_row_conditions(TableIndex table, std::vector<ShardTerm>& terms) {
    const auto& columns = tables_[table].routing->key_columns;
    for (const auto& rows : base_.rows()) {
      // The rows are one condition: it must hold as a whole for this table.
      if (!std::ranges::all_of(rows.restricts, [&](TableIndex t) { return facts_[table].reaches(t); })) continue;
      std::vector<std::size_t> places;
      for (const std::string& column : columns) {
        const Node key = base_.node(table, column);
        const auto place =
            std::ranges::find_if(rows.columns, [&](Node node) { return facts_[table].equal(node, key); });
        if (place != rows.columns.end()) places.push_back(static_cast<std::size_t>(place - rows.columns.begin()));
      }
      if (places.size() != columns.size()) continue;
      ShardTerm term = term_for(table);
      if (fill_rows(*rows.condition, places, term)) add(std::move(term), terms);
    }
  }

  bool fill_rows(const parser::RowCondition& condition, const std::vector<std::size_t>& places, ShardTerm& term) const {
    for (const auto& row : condition.rows) {
      auto& key = term.rows.emplace_back();
      for (std::size_t i = 0; i < places.size(); ++i) {
        if (places[i] >= row.size()) return false;
        auto operand = key_operand(row[places[i]], term.key_types[i], false, request_, parameters_);
        if (!operand) return false;
        key.push_back(std::move(*operand));
      }
    }
    return true;
  }

  const PlanRequest& request_;
  const std::vector<ResolvedTable>& tables_;
  FactBase base_;
  ParameterTypes parameters_;
  std::vector<Facts> facts_;  // by table
  std::vector<TableIndex> sharded_;
  std::vector<bool> attached_;
};

}  // namespace

void add_components(const PlanRequest& request, const std::vector<ResolvedTable>& tables, TableIndex skip,
                    PlanTemplate& plan, std::vector<std::uint32_t>& component_of, std::vector<bool>& driving) {
  component_of.assign(tables.size(), no_index);
  driving.assign(tables.size(), false);
  ComponentBuilder(request, tables, skip).build(plan, component_of, driving);
  for (TableIndex i = 0; i < tables.size(); ++i) {
    if (tables[i].kind != ResolvedTable::Kind::plain || i == skip) continue;
    const auto same = std::ranges::find_if(
        plan.components, [&](const Component& component) { return component.plain_shard == tables[i].shard; });
    component_of[i] = static_cast<std::uint32_t>(same - plan.components.begin());
    if (same == plan.components.end()) {
      Component component;
      component.plain_shard = tables[i].shard;
      plan.components.push_back(std::move(component));
    }
    auto& names = plan.components[component_of[i]].tables;
    if (!contains(names, tables[i].name)) names.push_back(tables[i].name);
  }
}

}  // namespace tessera::router
