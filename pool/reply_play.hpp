// Tests only: plays a conversation for every way of cutting the server's bytes in two and byte by byte, and requires
// the same outcome.
#pragma once

#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pool/reply_script.hpp"

namespace tessera::pool::script {

// Bytes of the server, or something that the sender does in between.
struct Step {
  std::string bytes;
  std::function<void(ReplyReader&)> act;
  Step(std::string text) : bytes(std::move(text)) {}
  Step(std::function<void(ReplyReader&)> action) : act(std::move(action)) {}
};
using Script = std::vector<Step>;

inline Step expecting(std::vector<ExpectedReply> replies) {
  return Step([replies](ReplyReader& reader) {
    for (const ExpectedReply& reply : replies) reader.expect(reply);
  });
}

struct Outcome {
  Trace trace;
  bool ok = true;
  std::string message, code;
  bool empty = false, skipping = false, copying_in = false;
};

// `cut` counts over all bytes of the script; 0: no cut; -1: every byte alone.
inline Outcome play(const Script& script, long cut, std::uint64_t max_message = postgres::max_message_length) {
  Outcome outcome;
  ReplyReader reader(max_message);
  long at = 0;
  for (const Step& step : script) {
    if (step.act) {
      step.act(reader);
      continue;
    }
    std::string_view left = step.bytes;
    while (!left.empty() && outcome.ok) {
      std::size_t n = cut < 0 ? 1 : left.size();
      if (cut > at && cut < at + static_cast<long>(left.size())) n = static_cast<std::size_t>(cut - at);
      const Result<void> fed = feed(reader, outcome.trace, left.substr(0, n));
      if (!fed) {
        outcome.ok = false;
        outcome.message = fed.error().message;
        outcome.code = fed.error().code.view();
      }
      left.remove_prefix(n);
      at += static_cast<long>(n);
    }
  }
  outcome.empty = reader.empty();
  outcome.skipping = reader.skipping();
  outcome.copying_in = reader.copying_in();
  return outcome;
}

inline Outcome play_all_cuts(const Script& script, std::uint64_t max_message = postgres::max_message_length) {
  const Outcome whole = play(script, 0, max_message);
  long size = 0;
  for (const Step& step : script) size += static_cast<long>(step.bytes.size());
  for (long cut = -1; cut < size; ++cut) {
    const Outcome cut_up = play(script, cut, max_message);
    EXPECT_EQ(cut_up.trace.relayed, whole.trace.relayed) << "cut at " << cut;
    EXPECT_EQ(cut_up.trace.events, whole.trace.events) << "cut at " << cut;
    EXPECT_EQ(cut_up.ok, whole.ok) << "cut at " << cut;
    EXPECT_EQ(cut_up.message, whole.message) << "cut at " << cut;
    if (whole.ok) EXPECT_EQ(cut_up.empty, whole.empty) << "cut at " << cut;
    EXPECT_EQ(cut_up.skipping, whole.skipping) << "cut at " << cut;
    EXPECT_EQ(cut_up.copying_in, whole.copying_in) << "cut at " << cut;
    if (testing::Test::HasFailure()) break;
  }
  return whole;
}

using Kind = ReplyKind;
inline constexpr Delivery ignored = Delivery::ignore;

}  // namespace tessera::pool::script
