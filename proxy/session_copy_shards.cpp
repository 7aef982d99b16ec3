// COPY … FROM STDIN over several shards: the session takes the part of the server that copies, and gives the data to an
// executor::CopyIn. While that is open the client's messages are data, and Sync and Flush mean nothing.
#include <algorithm>
#include <fmt/format.h>

#include "proxy/session.hpp"

namespace tessera::proxy {

using postgres::FrameHeader;
using postgres::FrameStatus;
namespace frontend = postgres::frontend;

namespace {
// "UTF-8", "utf8": one and the same to a server, which drops what is neither letter nor digit.
std::string encoding_name(std::string_view name) {
  std::string clean;
  for (const char c : name) {
    const bool upper = c >= 'A' && c <= 'Z';
    if (upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) clean += upper ? static_cast<char>(c + 32) : c;
  }
  return clean == "unicode" ? "utf8" : clean;
}
}  // namespace

Result<std::shared_ptr<const router::CopyPlan>> Session::copy_plan(const router::Values& values) {
  Result<router::CopyPlan> plan = options_.database->copy(values, view(), *routing());
  if (!plan) return std::unexpected(plan.error());
  const bool looks = plan->from && !plan->columns.empty();
  const bool told = !plan->encoding.empty();
  if (looks && told && encoding_name(plan->encoding) != encoding_name(parameter("server_encoding")))
    return fail(sqlstate::feature_not_supported,
                fmt::format("COPY in the encoding {} over several shards is not supported", plan->encoding),
                fmt::format("use {}, which is the database's", parameter("server_encoding")));
  if (looks && !told && encodings().unsafe)
    return fail(sqlstate::feature_not_supported,
                fmt::format("COPY in the encoding {} over several shards is not supported: a byte of a character may "
                            "look like a delimiter",
                            parameter("client_encoding")),
                "SET client_encoding = UTF8");
  if (told) plan->same_encoding = true;
  return std::make_shared<const router::CopyPlan>(std::move(*plan));
}

void Session::run_copy(executor::Request request, const Spread& spread) {
  executor::CopyIn::Data data{
      .places = places_of(spread.plan.shards),
      .shards = spread.plan.shards,
      .plan = spread.copy,
      .topology = routing()->topology,
      .most_bytes = options_.database->settings().limits.message_size,
      .go_on =
          [this] {
            if (wait_ == Wait::scatter) continue_after_wait();
          },
      .ids = [this, plan = spread.copy](std::vector<std::int64_t>& ids) { return next_copy_ids(*plan, ids); }};
  executor::Events events = statement_events(request.simple);
  auto copy = std::make_unique<executor::CopyIn>(std::move(request), std::move(data), options_.database->loop(),
                                                 std::move(events));
  copy_in_ = copy.get();
  run_execution(std::move(copy));
}

bool Session::next_copy_ids(const router::CopyPlan& plan, std::vector<std::int64_t>& ids) {
  while (ids.size() < plan.ids.size()) {
    auto numbers =
        options_.database->ids().take(sequence_of(plan.ids[ids.size()].column), 1,
                                      [this, alive = alive_, asked = ++giving_.asked](Result<IdSource::Numbers> came) {
                                        if (!*alive || copy_in_ == nullptr || asked != giving_.asked) return;
                                        if (!came) return copy_in_->abort(came.error());
                                        copy_in_->ids_there(came->front());
                                      });
    if (!numbers) return false;
    ids.push_back(numbers->front());
  }
  for (std::size_t i = 0; i < ids.size(); ++i) giving_.note(plan.ids[i].column, ids[i]);
  return true;
}

// It has ended, or failed: what still comes of its data is nothing to anybody.
void Session::leave_copy() {
  copy_in_ = nullptr;
  copy_dropped_ = true;
}

// Of what the client sends into it. Returns the bytes that were taken.
std::size_t Session::feed_copy(std::string_view bytes) {
  if (copy_left_ > 0) {
    const std::string_view part = bytes.substr(0, copy_left_);
    copy_left_ -= part.size();
    copy_in_->data(part);
    // Nothing more until the servers have taken it, or have said why not.
    if (!copy_in_->open() || copy_in_->congested()) wait_ = Wait::scatter;
    return part.size();
  }
  FrameHeader header;
  const FrameStatus status = postgres::peek_frame(bytes, longest_message(bytes.front()), header);
  if (status == FrameStatus::need_more) return 0;
  if (status != FrameStatus::malformed && header.type == frontend::copy_data) {
    copy_left_ = header.total_size() - postgres::frame_header_size;
    copy_dropped_ = true;  // no single connection has the first part of it
    return postgres::frame_header_size;
  }
  if (status == FrameStatus::header_only) return 0;
  const std::string_view whole = bytes.substr(0, status == FrameStatus::complete ? header.total_size() : 0);
  std::string_view reason;
  switch (header.type) {
    case frontend::sync:
    case frontend::flush:
      break;
    case frontend::copy_done:
      copy_in_->end();
      wait_ = Wait::scatter;
      break;
    case frontend::copy_fail:
      (void)postgres::parse_copy_fail(whole.substr(std::min(whole.size(), postgres::frame_header_size)), reason);
      copy_in_->give_up(reason);
      wait_ = Wait::scatter;
      break;
    case frontend::terminate:
      note_goodbye();
      end_now();
      break;
    default:
      fatal({sqlstate::protocol_violation,
             fmt::format("unexpected message type 0x{:02X} during COPY from stdin",
                         static_cast<unsigned>(static_cast<unsigned char>(header.type))),
             {},
             {},
             0});
      return bytes.size();
  }
  return whole.size();
}

}  // namespace tessera::proxy
