#include "parser/fingerprint.hpp"

#include <array>
#include <cstring>
#include <limits>
#include <random>

#include "parser/character.hpp"
#include "parser/lexer.hpp"

namespace tessera::parser {

namespace {

// Four secret numbers of this process. Odd multipliers with random bits above them.
const std::array<std::uint64_t, 4>& secrets() {
  static const std::array<std::uint64_t, 4> values = [] {
    std::random_device device;
    std::array<std::uint64_t, 4> drawn{};
    for (auto& value : drawn) value = (std::uint64_t{device()} << 32 | device()) | 1;
    return drawn;
  }();
  return values;
}

std::uint64_t multiply_fold(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// Up to eight bytes, the rest zero.
std::uint64_t load(const char* at, std::size_t count, const char* last) {
  std::uint64_t word = 0;
  if (last - at >= 8) {  // the usual case: one load, then the bytes of the next tokens are masked away
    std::memcpy(&word, at, 8);
    return count >= 8 ? word : word & ((std::uint64_t{1} << (8 * count)) - 1);
  }
  std::memcpy(&word, at, count < 8 ? count : 8);
  return word;
}

// ASCII letters of all eight bytes to lower case.
std::uint64_t lower(std::uint64_t word) {
  constexpr std::uint64_t ones = 0x0101010101010101, high = 0x8080808080808080;
  const std::uint64_t ascii = word & ~high;
  const std::uint64_t from_a = ascii + ones * (0x80 - 'A');
  const std::uint64_t above_z = ascii + ones * (0x80 - 'Z' - 1);
  return word | ((from_a & ~above_z & ~word & high) >> 2);
}

// The stream of words that is hashed can be read back in one way only, so that different token lists give different
// streams: a token is its bytes in words of eight, and a last word of at most seven bytes with the kind on top. A kind
// is less than any byte an unquoted token has; quoted names, which hold any byte, come with their length before them.
class Hash {
public:
  Hash() : keys_(secrets()), a_(keys_[2]), b_(keys_[3]) {}

  void add(std::uint64_t word) {
    a_ = multiply_fold(a_ ^ word, keys_[0]);
    b_ = multiply_fold(b_ + (word << 32 | word >> 32), keys_[1]);
  }
  void add_mark(TokenKind kind) { add(tag(kind)); }
  void add_token(TokenKind kind, const char* at, std::size_t size, const char* last) {
    const bool fold = kind == TokenKind::word;
    while (size > 7) {
      const std::uint64_t word = load(at, 8, last);
      add(fold ? lower(word) : word);
      at += 8;
      size -= 8;
    }
    const std::uint64_t word = load(at, size, last);
    add((fold ? lower(word) : word) | tag(kind));
  }
  void add_quoted(TokenKind kind, const char* at, std::size_t size, const char* last) {
    add(tag(kind) | size);
    for (std::size_t done = 0; done < size; done += 8) add(load(at + done, size - done, last));
  }

  std::uint64_t high() const { return multiply_fold(a_ ^ keys_[3], keys_[1] ^ b_); }
  std::uint64_t low() const { return multiply_fold(b_ + keys_[2], keys_[0] ^ (a_ << 1)); }

private:
  static std::uint64_t tag(TokenKind kind) { return static_cast<std::uint64_t>(kind) << 56; }

  const std::array<std::uint64_t, 4>& keys_;
  std::uint64_t a_;
  std::uint64_t b_;
};

void find_hint(std::string_view sql, Fingerprint& out) {
  constexpr std::string_view prefix = "tessera:";
  std::string_view text = Lexer::leading_comment(sql);
  const auto trim = [&text] {
    while (!text.empty() && has_class(text.front(), blank_class)) text.remove_prefix(1);
    while (!text.empty() && has_class(text.back(), blank_class)) text.remove_suffix(1);
  };
  trim();
  if (!text.starts_with(prefix)) return;
  text.remove_prefix(prefix.size());
  trim();
  out.hint_begin = static_cast<std::uint32_t>(text.data() - sql.data());
  out.hint_end = out.hint_begin + static_cast<std::uint32_t>(text.size());
}

// The number in float(24), which says whether the type is real or double precision. (Those of other types say only how
// the value is cut or rounded.)
class FloatPrecision {
public:
  // Whether `token`, which stands at `at`, is such a number.
  bool next(const Token& token, const char* at) {
    const bool here = state_ == State::open && token.kind == TokenKind::integer;
    const bool opens = state_ == State::word && token.kind == TokenKind::symbol && *at == '(';
    state_ = is_float(token, at) ? State::word : opens ? State::open : State::none;
    return here;
  }

private:
  enum class State { none, word, open };
  static bool is_float(const Token& token, const char* at) {
    constexpr std::size_t length = 5;
    if (token.kind != TokenKind::word || token.end - token.begin != length) return false;
    std::uint64_t word = 0;
    std::uint64_t name = 0;
    std::memcpy(&word, at, length);
    std::memcpy(&name, "float", length);
    return lower(word) == name;
  }

  State state_ = State::none;
};

void reset(Fingerprint& out) {
  out.high = out.low = 0;
  out.exact = true;
  out.multiple = false;
  out.hint_begin = out.hint_end = 0;
  out.slots.clear();
}

}  // namespace

void fingerprint(std::string_view sql, LexerMode mode, Fingerprint& out) {
  reset(out);
  if (sql.size() >= std::numeric_limits<std::uint32_t>::max()) {
    out.exact = false;
    return;
  }
  find_hint(sql, out);
  const char* const text = sql.data();
  const char* const last = text + sql.size();
  Lexer lexer(sql, mode);
  Hash hash;
  bool semicolon = false;  // seen, and hashed only if something follows
  bool quote = false;      // the token before was quoted with ': a second one may continue it on the next line
  FloatPrecision precision;
  for (Token token = lexer.next(); token.kind != TokenKind::end; token = lexer.next()) {
    const char* at = text + token.begin;
    const std::size_t size = token.end - token.begin;
    const bool names_type = precision.next(token, at);
    if (token.kind == TokenKind::symbol && *at == ';') {
      semicolon = true;
      quote = false;
      continue;
    }
    if (semicolon) {
      out.multiple = true;
      semicolon = false;
      static constexpr std::string_view text_of_semicolon = ";";
      hash.add_token(TokenKind::symbol, text_of_semicolon.data(), 1, text_of_semicolon.data() + 1);
    }
    if (is_literal(token.kind)) {
      if (quote && *at == '\'') out.exact = false;
      quote = !is_number(token.kind);
      out.slots.push_back({token.begin, token.end, literal_kind(token.kind)});
      if (names_type) hash.add_quoted(token.kind, at, size, last);
      hash.add_mark(token.kind);
      continue;
    }
    quote = false;
    switch (token.kind) {
      case TokenKind::quoted_identifier:
        hash.add_quoted(token.kind, at, size, last);
        break;
      case TokenKind::national_prefix:
        hash.add_mark(token.kind);
        break;
      // A UESCAPE behind it would change the name from inside a slot.
      case TokenKind::unicode_identifier:
        [[fallthrough]];
      case TokenKind::bad:
        out.exact = false;
        return;
      default:
        hash.add_token(token.kind, at, size, last);
        break;
    }
  }
  out.high = hash.high();
  out.low = hash.low();
}

}  // namespace tessera::parser
