#include "router/array.hpp"

#include "router/text.hpp"

namespace tessera::router {

ArrayReader::ArrayReader(std::string_view value, bool binary) : binary_(binary), reader_(value), text_(value) {
  if (binary) {
    const std::uint32_t dimensions = reader_.u32();
    reader_.u32();  // whether there are nulls
    element_oid_ = reader_.u32();
    if (dimensions == 1) {
      left_ = reader_.u32();
      reader_.u32();  // lower bound
    }
    bad_ = !reader_.ok() || dimensions > 1;
    return;
  }
  text_ = trim_space(text_);
  bad_ = text_.size() < 2 || text_.front() != '{' || text_.back() != '}';
  if (!bad_) text_ = text_.substr(1, text_.size() - 2);
}

ArrayReader::Item ArrayReader::next(std::string& scratch, std::string_view& element) {
  if (bad_) return Item::malformed;
  const Item item = binary_ ? next_binary(element) : next_text(scratch, element);
  if (item == Item::malformed) bad_ = true;
  return item;
}

ArrayReader::Item ArrayReader::next_binary(std::string_view& element) {
  if (left_ == 0) return reader_.finished() ? Item::end : Item::malformed;
  --left_;
  const std::uint32_t length = reader_.u32();
  if (reader_.ok() && length == ~0u) return Item::null;
  element = reader_.bytes(length);
  return reader_.ok() ? Item::element : Item::malformed;
}

void ArrayReader::skip_space() {
  while (!text_.empty() && is_space(text_.front())) text_.remove_prefix(1);
}

ArrayReader::Item ArrayReader::next_text(std::string& scratch, std::string_view& element) {
  skip_space();
  if (text_.empty()) return Item::end;
  if (!first_) {
    if (text_.front() != ',') return Item::malformed;
    text_.remove_prefix(1);
    skip_space();
  }
  first_ = false;
  if (text_.starts_with('"')) return quoted(scratch, element);
  const std::size_t end = text_.find(',');
  const std::string_view raw = trim_space(text_.substr(0, end));
  text_.remove_prefix(std::min(end, text_.size()));
  if (raw.empty() || raw.find_first_of("{}\"\\") != std::string_view::npos) return Item::malformed;
  if (equal_ignoring_case(raw, "null")) return Item::null;
  element = raw;
  return Item::element;
}

ArrayReader::Item ArrayReader::quoted(std::string& scratch, std::string_view& element) {
  text_.remove_prefix(1);
  scratch.clear();
  while (!text_.empty() && text_.front() != '"') {
    if (text_.front() == '\\') text_.remove_prefix(1);
    if (text_.empty()) return Item::malformed;
    scratch += text_.front();
    text_.remove_prefix(1);
  }
  if (text_.empty()) return Item::malformed;
  text_.remove_prefix(1);
  skip_space();
  if (!text_.empty() && text_.front() != ',') return Item::malformed;
  element = scratch;
  return Item::element;
}

}  // namespace tessera::router
