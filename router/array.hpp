// The elements of an array value, in text ('{1,2,NULL,"a b"}') or binary form, one after another. Borrows the value.
// Only arrays of one dimension (or none) with the usual lower bound in text; anything else is `malformed`, which means
// no more than "left to the server".
#pragma once

#include <string>
#include <string_view>

#include "base/byte_reader.hpp"
#include "router/key.hpp"

namespace tessera::router {

class ArrayReader {
public:
  enum class Item { element, null, end, malformed };

  ArrayReader(std::string_view value, bool binary);

  // The next element's text or binary form; `scratch` backs it when it had to be unescaped.
  Item next(std::string& scratch, std::string_view& element);
  // The type that a binary array says its elements have; 0 for text.
  TypeOid element_oid() const { return element_oid_; }

private:
  Item next_binary(std::string_view& element);
  Item next_text(std::string& scratch, std::string_view& element);
  Item quoted(std::string& scratch, std::string_view& element);
  void skip_space();

  bool binary_;
  bool bad_ = false;
  bool first_ = true;
  TypeOid element_oid_ = 0;
  std::uint32_t left_ = 0;  // binary: elements to come
  ByteReader reader_;
  std::string_view text_;
};

}  // namespace tessera::router
