// MergeSort: one statement with sort keys as its last columns (router/merge.hpp) runs on several shards at the same
// time, and the client gets their rows in order, without those columns. It is described first: if the keys are of types
// whose order is not known here, it is not run at all (`unknown_order`), and nothing has been said to the client. Then
// all shards work; each is read only as far as its rows are needed, and rows go to the client in blocks while it takes
// them. What is left when LIMIT is reached is read and dropped: no shard gives more rows than LIMIT and OFFSET let it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "executor/execution.hpp"
#include "executor/merge_rows.hpp"
#include "router/merge.hpp"

namespace tessera::executor {

class MergeSort final : public Execution {
public:
  MergeSort(Request request, router::MergePlan plan, const std::vector<Place>& places, const pool::Settings& settings,
            net::EventLoop& loop, Events events);

  void resume() override { proceed(); }
  // It has ended for that reason.
  bool unknown_order() const { return unknown_order_; }

private:
  class Part;
  Branch* relaying() const override { return nullptr; }  // whole messages only
  // Of the rows, as one shard describes them.
  struct Columns {
    std::string description;  // RowDescription for the client
    std::vector<std::int16_t> formats;
    std::vector<postgres::Oid> types;  // of the keys
    std::vector<MergeRows::Key> keys;
  };
  Result<Columns> columns_of(std::string_view description) const;
  void all_described();
  void bound();
  void proceed();
  void part_done();
  void finish();

  const router::MergePlan plan_;
  std::vector<Part*> parts_;
  std::size_t described_ = 0;  // so many parts
  std::size_t done_ = 0;
  std::string description_;
  std::vector<std::int16_t> formats_;
  std::optional<MergeRows> rows_;  // once they have been asked
  std::string out_;
  bool unknown_order_ = false;
};

}  // namespace tessera::executor
