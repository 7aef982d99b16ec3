#include "executor/sender.hpp"

namespace tessera::executor {

using pool::Delivery;
using pool::ReplyKind;

bool parse_parameters(const std::string& body, std::string& buffer, postgres::BindView& out) {
  if (body.empty()) return true;
  buffer.assign("\0\0", 2);
  buffer += body;
  return postgres::parse_bind(buffer, out);
}

void Sender::query(std::string_view sql, std::uint32_t tag) {
  sent_ = sent_ && postgres::append_query(backend_.out(), sql);
  backend_.replies().expect({.kind = ReplyKind::query, .delivery = Delivery::ignore, .tag = tag});
}

void Sender::parse(std::string_view sql, const std::vector<postgres::Oid>& types) {
  sent_ = sent_ && postgres::append_parse(backend_.out(), "", sql, types);
  backend_.replies().expect({.kind = ReplyKind::parse, .delivery = Delivery::ignore});
}

void Sender::bind(const postgres::BindView& values, std::span<const std::int16_t> results) {
  sent_ =
      sent_ && postgres::append_bind(backend_.out(), "", "", values.parameters, {values.parameter_formats, results});
  backend_.replies().expect({.kind = ReplyKind::bind, .delivery = Delivery::ignore});
}

void Sender::describe(char kind, std::string_view portal) {
  sent_ = sent_ && postgres::append_describe(backend_.out(), kind, portal);
  const ReplyKind reply = kind == 'S' ? ReplyKind::describe_statement : ReplyKind::describe_portal;
  backend_.replies().expect({.kind = reply, .ordered = true});
}

void Sender::execute(pool::ExpectedReply expected, std::int32_t limit) {
  sent_ = sent_ && postgres::append_execute(backend_.out(), "", limit);
  expected.kind = ReplyKind::execute;
  backend_.replies().expect(std::move(expected));
}

void Sender::ask(std::string_view sql) {
  parse(sql, {});
  bind({}, {});
  execute({.hide_completion = true, .ordered = true});
}

void Sender::sync(std::uint32_t tag) {
  postgres::append_sync(backend_.out());
  backend_.replies().expect({.kind = ReplyKind::sync, .delivery = Delivery::ignore, .tag = tag});
}

Result<void> Sender::sent() const {
  if (sent_) return {};
  return std::unexpected(too_long());
}

}  // namespace tessera::executor
