#include "router/catalog.hpp"

#include <algorithm>

#include "router/builtin_functions.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

void set_key_types(const config::Table& table, Relation& relation) {
  std::vector<std::string> types = table.key_types();
  types.resize(table.key.size());
  for (std::size_t i = 0; i < types.size(); ++i) {
    const auto column = std::ranges::find(relation.columns, table.key[i], &Column::name);
    column->type_name = std::move(types[i]);
    column->key_type = key_type_of(column->type_name);
  }
}

}  // namespace

const Column* Relation::find_column(std::string_view column) const {
  const auto found = std::ranges::find(columns, column, &Column::name);
  return found == columns.end() ? nullptr : &*found;
}

const Relation* Catalog::find(std::string_view schema, std::string_view name) const {
  std::string full;
  full.reserve(schema.size() + name.size() + 1);
  full.append(schema).append(1, '.').append(name);
  return find(full);
}

const Relation* Catalog::find(const std::string& qualified) const {
  const auto found = by_name_.find(qualified);
  return found == by_name_.end() ? nullptr : &relations[found->second];
}

const Relation* Catalog::find_indexed(std::string_view schema, std::string_view index) const {
  const auto found = std::ranges::find_if(relations, [schema, index](const Relation& relation) {
    return relation.schema == schema && std::ranges::find(relation.indexes, index) != relation.indexes.end();
  });
  return found == relations.end() ? nullptr : &*found;
}

void Catalog::index() {
  by_name_.clear();
  children_.clear();
  volatile_views_.clear();
  for (std::size_t i = 0; i < relations.size(); ++i) {
    by_name_[relations[i].schema + '.' + relations[i].name] = i;
    for (const std::string& parent : relations[i].parents) children_[parent].push_back(i);
    if (relations[i].volatile_code) volatile_views_.insert(relations[i].name);
  }
}

std::vector<const Relation*> Catalog::descendants(const Relation& relation) const {
  std::vector<const Relation*> found;
  std::vector<const Relation*> open = {&relation};
  while (!open.empty()) {
    const Relation& parent = *open.back();
    open.pop_back();
    const auto children = children_.find(parent.schema + '.' + parent.name);
    if (children == children_.end()) continue;
    for (const std::size_t i : children->second) {
      // Several ways may lead there.
      if (std::ranges::find(found, &relations[i]) != found.end()) continue;
      found.push_back(&relations[i]);
      open.push_back(&relations[i]);
    }
  }
  return found;
}

bool Catalog::is_session_function(std::string_view name) const {
  return !session_functions.empty() && session_functions.contains(lower(name));
}

bool Catalog::is_session_view(std::string_view name) const {
  return !session_views.empty() && session_views.contains(lower(name));
}

Catalog Catalog::from_config(const config::Database& database) {
  Catalog catalog;
  for (const config::Table& table : database.tables) {
    Relation relation;
    relation.schema = table.schema;
    relation.name = table.name;
    relation.complete = !table.columns.empty();
    for (const std::string& name : table.columns) {
      relation.columns.emplace_back();
      relation.columns.back().name = name;
      relation.columns.back().default_value = DefaultValue::unsteady;  // not known
    }
    for (const std::string& name : table.key) {
      auto column = std::ranges::find(relation.columns, name, &Column::name);
      if (column == relation.columns.end()) {
        // Without `columns` only the key is known. INSERT without a column list needs them all, in order.
        relation.columns.emplace_back();
        column = relation.columns.end() - 1;
        column->name = name;
      }
      column->not_null = true;
    }
    set_key_types(table, relation);
    catalog.relations.push_back(std::move(relation));
  }
  for (const BuiltinFunction& function : builtin_functions()) {
    catalog.functions.emplace(function.name,
                              FunctionFacts{function.volatility, true, function.aggregate, true, function.set});
  }
  catalog.index();
  return catalog;
}

}  // namespace tessera::router
