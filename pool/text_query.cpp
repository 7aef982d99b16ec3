#include "pool/text_query.hpp"

#include "wire/postgres/frontend.hpp"

namespace tessera::pool {

TextQuery::TextQuery(Pool& pool, Settings settings, std::vector<std::string> queries, Done done)
    : pool_(pool), settings_(std::move(settings)), queries_(std::move(queries)), done_(std::move(done)) {}

TextQuery::~TextQuery() {
  pool_.forget(*this);
  if (backend_ != nullptr) pool_.discard(*backend_, "nobody waits for the answer any more");
}

void TextQuery::start() {
  if (Backend* backend = pool_.checkout(*this)) begin(*backend);
}

void TextQuery::begin(Backend& backend) {
  backend_ = &backend;
  backend.lease(*this);
  if (backend.prepare(settings_)) send_next();
}

void TextQuery::on_backend_prepared(Backend&, const Result<void>& result) {
  if (!result) return finish(result);
  send_next();
}

void TextQuery::send_next() {
  answer_.results.emplace_back();
  if (!postgres::append_query(backend_->out(), queries_[answer_.results.size() - 1]))
    return finish(fail(sqlstate::program_limit_exceeded, "the query is too long"));
  backend_->replies().expect({.kind = ReplyKind::query});
  ready_ = false;
  backend_->flush();
}

void TextQuery::on_relay(std::string_view bytes) {
  bytes_ += bytes.size();
  if (bytes_ > max_bytes) {
    error_ = Error{sqlstate::program_limit_exceeded, "the answer is too large", {}, {}, 0};
    return;
  }
  rows_.take(bytes, answer_.results.back());
}

bool TextQuery::on_error(const ExpectedReply&, const postgres::ErrorFields& fields) {
  error_ = fields.to_error();
  return false;
}

bool TextQuery::on_ready(const ExpectedReply&, postgres::TransactionStatus) {
  ready_ = true;
  return false;
}

void TextQuery::on_backend_turn(Backend&) {
  if (!ready_) return;
  if (error_) return finish(std::unexpected(*error_));
  if (answer_.results.size() < queries_.size()) return send_next();
  finish({});
}

void TextQuery::on_backend_lost(Backend&, const Error& reason) {
  backend_ = nullptr;
  finish(std::unexpected(reason));
}

void TextQuery::finish(Result<void> result) {
  if (Backend* backend = std::exchange(backend_, nullptr)) {
    answer_.parameters = backend->parameters();
    if (result)
      pool_.checkin(*backend, false);
    else
      pool_.discard(*backend, "a query of the proxy failed");
  }
  Done done = std::exchange(done_, nullptr);
  if (!done) return;
  if (result)
    done(std::move(answer_));
  else
    done(std::unexpected(result.error()));
}

}  // namespace tessera::pool
