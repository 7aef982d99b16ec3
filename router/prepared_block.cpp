// Which query blocks of a gathered statement the shards can prepare: those whose FROM and WHERE could be scattered,
// were they a query of their own.
#include "router/prepared_block.hpp"

#include <algorithm>
#include <fmt/format.h>

#include "router/contains.hpp"

namespace tessera::router {
namespace {

using parser::Block;
using parser::BlockIndex;
using parser::BlockRole;
using parser::no_index;
using parser::TableIndex;
using Kind = ResolvedTable::Kind;

bool inside(parser::SourceSpan inner, const std::optional<parser::SourceSpan>& outer) {
  return outer && inner.begin >= outer->begin && inner.end <= outer->end;
}

bool is_in_from(const std::vector<Block>& blocks, BlockIndex index) {
  return blocks[index].role == BlockRole::from_subquery || blocks[index].role == BlockRole::lateral_subquery;
}

// The blocks in its FROM and WHERE.
std::vector<BlockIndex> blocks_in(const std::vector<Block>& blocks, BlockIndex index) {
  std::vector<BlockIndex> found;
  const parser::Clauses& clauses = blocks[index].clauses;
  for (BlockIndex i = index + 1; i < blocks.size(); ++i)
    if (inside(blocks[i].span, clauses.from) || inside(blocks[i].span, clauses.where)) found.push_back(i);
  return found;
}

}  // namespace

std::optional<PreparedBlock> Planning::prepare(BlockIndex index, std::string_view gathered,
                                               const std::function<std::string(TableIndex)>& rows) const {
  const Block& block = statement_.blocks[index];
  if (block.tables.empty() || !stands_by_itself(index)) return {};
  if (auto whole = prepare_whole(index, gathered)) return whole;
  std::vector<TableIndex> tried;
  for (const TableIndex first : block.tables) {
    if (contains(tried, first)) continue;
    auto part = prepare_part(index, gathered, first, rows);
    if (part) return part;
    for (const TableIndex other : block.tables)
      if (component_of_[other] == component_of_[first]) tried.push_back(other);
  }
  return {};
}

std::optional<PreparedBlock> Planning::prepare_whole(BlockIndex index, std::string_view gathered) const {
  const std::vector<Block>& blocks = statement_.blocks;
  const Block& block = blocks[index];
  const std::vector<BlockIndex> inner = blocks_in(blocks, index);
  PreparedBlock out;
  out.tables = block.tables;
  for (const BlockIndex i : inner) {
    // What FROM has besides tables has columns that are not known here.
    if (blocks[i].clauses.with_query || (blocks[i].parent == index && is_in_from(blocks, i))) return {};
    out.tables.insert(out.tables.end(), blocks[i].tables.begin(), blocks[i].tables.end());
  }
  for (const TableIndex table : out.tables) {
    const ResolvedTable& resolved = tables_[table];
    if ((resolved.kind != Kind::sharded && resolved.kind != Kind::reference) || resolved.relation == nullptr) return {};
  }
  const std::vector<BlockIndex> blind = blind_blocks(index, inner);
  auto parts = partial_aggregates(request_, tables_, index, {inner, blind}, calls(block), gathered);
  if (!parts || !adds_up(block, inner, out)) return {};
  out.parts = *std::move(parts);
  return out;
}

// The tables that are joined with `first` on their keys, by inner joins alone.
std::optional<PreparedBlock> Planning::prepare_part(BlockIndex index, std::string_view gathered, TableIndex first,
                                                    const std::function<std::string(TableIndex)>& rows) const {
  if (tables_[first].kind != Kind::sharded || !driving_[first]) return {};
  const Block& block = statement_.blocks[index];
  const Names names(request_.sql);
  JoinedPart part;
  for (const TableIndex table : block.tables) {
    if (tables_[table].kind != Kind::sharded || component_of_[table] != component_of_[first]) continue;
    const parser::TableRef& written = statement_.tables[table];
    if (!driving_[table] || tables_[table].relation == nullptr || written.only || written.renamed) return {};
    part.tables.push_back(table);
    part.rows.push_back(rows(table));
    const std::vector<std::string>& own = tables_[table].routing->key_columns;
    const std::vector<std::string>& keys = tables_[first].routing->key_columns;
    for (std::size_t i = 0; table != first && i < own.size(); ++i) {
      if (!names.has(own[i]) || !names.has(keys[i])) return {};
      part.conditions.push_back(fmt::format("{}.{} = {}.{}", quoted(statement_.tables[first].alias), quoted(keys[i]),
                                            quoted(written.alias), quoted(own[i])));
    }
  }
  const std::vector<BlockIndex> blind = blind_blocks(index, {});
  auto parts = partial_aggregates(request_, tables_, index, {{}, blind}, calls(block), gathered, &part);
  if (!parts) return {};
  return PreparedBlock{*std::move(parts), std::move(part.tables), first};
}

// Those below it, besides these, in which no name is a column of its tables.
std::vector<BlockIndex> Planning::blind_blocks(BlockIndex index, std::span<const BlockIndex> besides) const {
  const std::vector<Block>& blocks = statement_.blocks;
  std::vector<BlockIndex> blind;
  for (BlockIndex i = index + 1; i < blocks.size(); ++i) {
    if (blocks[i].parent != index || contains(besides, i)) continue;
    const bool apart = blocks[i].role == BlockRole::cte || blocks[i].role == BlockRole::from_subquery;
    if (apart || is_blind_to(i, index)) blind.push_back(i);
  }
  return blind;
}

// No name in it can be one of a query around it.
bool Planning::stands_by_itself(BlockIndex index) const {
  const std::vector<Block>& blocks = statement_.blocks;
  for (; index != no_index; index = blocks[index].parent) {
    const BlockRole role = blocks[index].role;
    const bool sees = role != BlockRole::top && role != BlockRole::cte && role != BlockRole::from_subquery &&
                      role != BlockRole::set_operand;
    for (BlockIndex around = blocks[index].parent; sees && around != no_index; around = blocks[around].parent)
      if (role == BlockRole::lateral_subquery || !is_blind_to(index, around)) return false;
  }
  return true;
}

// Nothing in the block has a name that the other's FROM shows and its own does not.
bool Planning::is_blind_to(BlockIndex index, BlockIndex around) const {
  const std::vector<Block>& blocks = statement_.blocks;
  if (blocks[around].clauses.with_query || blocks[around].clauses.range_function) return false;
  for (BlockIndex i = around + 1; i < blocks.size(); ++i)
    if (blocks[i].parent == around && is_in_from(blocks, i)) return false;
  const std::vector<TableIndex>& own = blocks[index].tables;
  const Names names(text_of(request_.sql, blocks[index].span));
  if (names.unreadable()) return false;
  const auto has_alias = [&](TableIndex table, const std::string& alias) {
    return statement_.tables[table].alias == alias;
  };
  const auto has_column = [&](TableIndex table, const std::string& name) {
    const Relation* relation = tables_[table].relation;
    return relation != nullptr && !statement_.tables[table].renamed && relation->find_column(name) != nullptr;
  };
  return std::ranges::all_of(blocks[around].tables, [&](TableIndex table) {
    const parser::TableRef& written = statement_.tables[table];
    const Relation* relation = tables_[table].relation;
    if (relation == nullptr || !relation->complete || written.renamed) return false;
    if (names.has(written.alias) &&
        std::ranges::none_of(own, [&](TableIndex one) { return has_alias(one, written.alias); }))
      return false;
    return std::ranges::all_of(relation->columns, [&](const Column& column) {
      return !names.has(column.name) ||
             std::ranges::any_of(own, [&](TableIndex one) { return has_column(one, column.name); });
    });
  });
}

// Whether the rows of its FROM and WHERE are those of all shards together; and who decides on which shards.
bool Planning::adds_up(const Block& block, std::span<const BlockIndex> inner, PreparedBlock& out) const {
  Planning alone(*this);
  for (TableIndex i = 0; i < tables_.size(); ++i) {
    if (contains(out.tables, i)) continue;
    alone.tables_[i].kind = Kind::reference;
    alone.tables_[i].moody = false;
  }
  alone.out_ = {};
  add_components(request_, alone.tables_, no_index, alone.out_, alone.component_of_, alone.driving_);
  if (alone.out_.components.size() != 1 || alone.source_refusal(block, inner)) return false;
  out.decides = *std::ranges::find_if(
      block.tables, [&](TableIndex table) { return alone.driving_[table] && !statement_.tables[table].nullable; });
  return true;
}

}  // namespace tessera::router
