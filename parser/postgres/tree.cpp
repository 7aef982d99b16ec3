#include "parser/postgres/tree.hpp"

#include <cstring>
#include <new>
#include <pg_query.h>

namespace tessera::parser::postgres {

namespace {

void* allocate(void* arena, std::size_t size) {
  try {
    return static_cast<std::pmr::monotonic_buffer_resource*>(arena)->allocate(size, alignof(std::max_align_t));
  } catch (const std::bad_alloc&) {
    return nullptr;  // protobuf-c gives up and the parse is an error; an exception must not pass through C
  }
}

void release(void*, void*) {}  // the arena frees everything at once

struct ParseResult {
  PgQueryProtobufParseResult value;
  explicit ParseResult(const char* sql) : value(pg_query_parse_protobuf(sql)) {}
  ~ParseResult() { pg_query_free_protobuf_parse_result(value); }
  ParseResult(const ParseResult&) = delete;
  ParseResult& operator=(const ParseResult&) = delete;
};

// The library keeps the server's message and position, but not its SQLSTATE.
Error grammar_error(const PgQueryError& error) {
  const std::string_view message = error.message == nullptr ? "syntax error" : error.message;
  const auto says = [message](std::string_view words) { return message.find(words) != std::string_view::npos; };
  SqlState code = sqlstate::syntax_error;
  if (says("memory exhausted") || says("stack depth limit")) code = SqlState("54001");
  if (says("not yet implemented") || says("is not supported")) code = sqlstate::feature_not_supported;
  return {code, std::string(message), {}, {}, error.cursorpos > 0 ? error.cursorpos : 0};
}

const Message* message_at(const Message& message, const ProtobufCFieldDescriptor& field) {
  const Message* child = nullptr;
  std::memcpy(&child, reinterpret_cast<const char*>(&message) + field.offset, sizeof child);
  return child;
}

template <typename F>
void children_of(const Message& message, F&& visit) {
  const auto emit = [&visit](const Message* child) {
    if (child == nullptr) return;
    if (child->descriptor == &pg_query__node__descriptor) child = content(reinterpret_cast<const Node*>(child));
    if (child != nullptr) visit(*child);
  };
  const ProtobufCMessageDescriptor& type = *message.descriptor;
  for (unsigned i = 0; i < type.n_fields; ++i) {
    const ProtobufCFieldDescriptor& field = type.fields[i];
    if (field.type != PROTOBUF_C_TYPE_MESSAGE) continue;
    const char* base = reinterpret_cast<const char*>(&message);
    if ((field.flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
      std::uint32_t which = 0;
      std::memcpy(&which, base + field.quantifier_offset, sizeof which);
      if (which == field.id) emit(message_at(message, field));
    } else if (field.label == PROTOBUF_C_LABEL_REPEATED) {
      std::size_t count = 0;
      const Message* const* items = nullptr;
      std::memcpy(&count, base + field.quantifier_offset, sizeof count);
      std::memcpy(&items, base + field.offset, sizeof items);
      for (std::size_t k = 0; k < count; ++k) emit(items[k]);
    } else {
      emit(message_at(message, field));
    }
  }
}

int smaller(int a, int b) {
  return a < 0 ? b : (b < 0 || a < b ? a : b);
}

}  // namespace

const Message* content(const Node* node) {
  if (node == nullptr || node->node_case == PG_QUERY__NODE__NODE__NOT_SET) return nullptr;
  return &node->alias->base;  // every member of the union is a pointer to a message
}

void tree_detail::children(const Message& message, Visit visit, void* context) {
  children_of(message, [visit, context](const Message& child) { visit(context, child); });
}

std::vector<std::string> strings(NodeList names) {
  std::vector<std::string> result;
  for (const Node* node : names) {
    const auto* name = as<PgQuery__String>(node);
    if (name == nullptr) return {};
    result.emplace_back(name->sval);
  }
  return result;
}

std::string builtin_name(NodeList names) {
  std::vector<std::string> parts = strings(names);
  if (parts.empty() || parts.size() > 2 || (parts.size() == 2 && parts[0] != "pg_catalog")) return {};
  return parts.back();
}

int leftmost(const Message& message) {
  int found = -1;
  if (const auto* field = protobuf_c_message_descriptor_get_field_by_name(message.descriptor, "location")) {
    std::int32_t location = -1;
    std::memcpy(&location, reinterpret_cast<const char*>(&message) + field->offset, sizeof location);
    found = location;
  }
  for_each_child(message, [&found](const Message& child) {
    if (as<PgQuery__TypeName>(child) == nullptr) found = smaller(found, leftmost(child));
  });
  return found;
}

int leftmost(NodeList nodes) {
  int found = -1;
  for (const Node* node : nodes) {
    if (const Message* inside = content(node)) found = smaller(found, leftmost(*inside));
  }
  return found;
}

Result<Tree> Tree::parse(const std::string& sql) {
  const ParseResult parsed(sql.c_str());
  if (parsed.value.error != nullptr) return std::unexpected(grammar_error(*parsed.value.error));
  Tree tree;
  ProtobufCAllocator allocator{allocate, release, tree.arena_.get()};
  tree.root_ = pg_query__parse_result__unpack(&allocator, parsed.value.parse_tree.len,
                                              reinterpret_cast<const std::uint8_t*>(parsed.value.parse_tree.data));
  if (tree.root_ == nullptr) return fail(sqlstate::internal_error, "the syntax tree could not be read");
  return tree;
}

}  // namespace tessera::parser::postgres
