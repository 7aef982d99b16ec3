// No builder ever writes a length that is not the length of what follows: what does not fit is refused whole.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <vector>

#include "wire/postgres/backend.hpp"
#include "wire/postgres/frontend.hpp"
#include "wire/postgres/startup.hpp"

namespace tessera::postgres {
namespace {

// More than 4 GB of zero bytes of address space, of which no page is ever touched.
class Huge : public ::testing::Test {
protected:
  static constexpr std::size_t mapped = (std::size_t{1} << 32) + 4'096;
  void SetUp() override {
    memory_ = mmap(nullptr, mapped, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(memory_, MAP_FAILED);
  }
  void TearDown() override { munmap(memory_, mapped); }
  std::string_view bytes(std::size_t size) const { return {static_cast<const char*>(memory_), size}; }

  std::string out_ = "before";

private:
  void* memory_ = nullptr;
};

constexpr std::size_t too_large[] = {max_message_length - 3, max_message_length,         (std::size_t{1} << 31) - 1,
                                     std::size_t{1} << 31,   (std::size_t{1} << 31) + 1, (std::size_t{1} << 32) - 1,
                                     std::size_t{1} << 32,   (std::size_t{1} << 32) + 10};

TEST_F(Huge, OpaqueBodiesAreRefusedWhole) {
  for (const std::size_t size : too_large) {
    EXPECT_FALSE(append_copy_data(out_, bytes(size))) << size;
    EXPECT_FALSE(append_sasl_response(out_, bytes(size))) << size;
    EXPECT_FALSE(append_sasl_initial(out_, {"m", bytes(size)})) << size;
    EXPECT_FALSE(append_authentication_sasl_continue(out_, bytes(size))) << size;
    EXPECT_FALSE(append_authentication_sasl_final(out_, bytes(size))) << size;
  }
  EXPECT_EQ(out_, "before");
}

TEST_F(Huge, ValuesAreRefusedWhole) {
  for (const std::size_t size : too_large) {
    const std::vector<Value> values = {"small", bytes(size)};
    EXPECT_FALSE(append_bind(out_, "", "s", values)) << size;
    EXPECT_FALSE(append_data_row(out_, values)) << size;
    EXPECT_FALSE(append_function_call_response(out_, bytes(size))) << size;
    EXPECT_FALSE(append_function_call(out_, {1, {}, values, 0})) << size;
  }
  EXPECT_EQ(out_, "before");
}

TEST_F(Huge, TheSumCountsNotOnlyEachValue) {
  constexpr std::size_t small = 8u << 20;
  const std::string value(small, 'x');
  const std::vector<Value> values = {value, bytes(max_message_length - small)};
  EXPECT_FALSE(append_bind(out_, "", "s", values));
  EXPECT_FALSE(append_data_row(out_, values));
  EXPECT_EQ(out_, "before");
}

TEST_F(Huge, ErrorsThatAreTooLongAreReplaced) {
  const std::vector<ErrorField> fields = {{'M', bytes(max_message_length)}};
  EXPECT_FALSE(append_error_fields(out_, 'E', fields));
  EXPECT_EQ(out_, "before");
}

TEST(Limits, CountsThatDoNotFitAreRefused) {
  std::string out = "before";
  const std::vector<Value> values(65'536);
  const std::vector<std::int16_t> formats(65'536);
  const std::vector<Oid> types(65'536);
  const std::vector<FieldView> fields(65'536);
  EXPECT_FALSE(append_bind(out, "", "", values));
  EXPECT_FALSE(append_bind(out, "", "", {}, {formats, {}}));
  EXPECT_FALSE(append_bind(out, "", "", {}, {{}, formats}));
  EXPECT_FALSE(append_data_row(out, values));
  EXPECT_FALSE(append_parse(out, "", "", types));
  EXPECT_FALSE(append_parameter_description(out, types));
  EXPECT_FALSE(append_row_description(out, fields));
  EXPECT_FALSE(append_copy_response(out, 'G', {0, formats}));
  EXPECT_EQ(out, "before");
  EXPECT_TRUE(append_bind(out, "", "", std::span(values).first(65'535)));
  BindView bind;
  ASSERT_TRUE(parse_bind(std::string_view(out).substr(6 + frame_header_size), bind));
  EXPECT_EQ(bind.parameters.size(), 65'535u);
}

TEST(Limits, ZeroBytesInTextsAreRefused) {
  using namespace std::string_view_literals;
  constexpr std::string_view evil = "a\0Q"sv;
  std::string out = "before";
  EXPECT_FALSE(append_query(out, evil));
  EXPECT_FALSE(append_parse(out, evil, "q"));
  EXPECT_FALSE(append_parse(out, "s", evil));
  EXPECT_FALSE(append_bind(out, evil, "s", {}));
  EXPECT_FALSE(append_bind(out, "p", evil, {}));
  EXPECT_FALSE(append_describe(out, 'S', evil));
  EXPECT_FALSE(append_close(out, 'S', evil));
  EXPECT_FALSE(append_execute(out, evil));
  EXPECT_FALSE(append_copy_fail(out, evil));
  EXPECT_FALSE(append_password(out, evil));
  EXPECT_FALSE(append_sasl_initial(out, {evil, {}}));
  EXPECT_FALSE(append_parameter_status(out, evil, "v"));
  EXPECT_FALSE(append_parameter_status(out, "n", evil));
  EXPECT_FALSE(append_notification(out, {1, evil, ""}));
  EXPECT_FALSE(append_notification(out, {1, "", evil}));
  EXPECT_FALSE(append_command_complete(out, evil));
  const std::vector<FieldView> fields = {{evil, 0, 0, 0, 0, -1, 0}};
  EXPECT_FALSE(append_row_description(out, fields));
  const std::vector<std::string_view> names = {evil};
  EXPECT_FALSE(append_authentication_sasl(out, names));
  EXPECT_FALSE(append_negotiate_protocol_version(out, 0, names));
  const std::vector<std::string_view> empty_name = {""};
  EXPECT_FALSE(append_authentication_sasl(out, empty_name));
  const std::vector<ErrorField> errors = {{'M', evil}};
  EXPECT_FALSE(append_error_fields(out, 'E', errors));
  const std::vector<ErrorField> no_letter = {{'\0', "x"}};
  EXPECT_FALSE(append_error_fields(out, 'E', no_letter));
  StartupMessage startup;
  startup.user = evil;
  EXPECT_FALSE(append_startup(out, startup));
  startup.user = "u";
  startup.parameters = {{"", "hides what follows"}};
  EXPECT_FALSE(append_startup(out, startup));
  EXPECT_EQ(out, "before");
}

TEST(Limits, FixedSizes) {
  std::string out = "before";
  EXPECT_FALSE(append_authentication_md5(out, "abc"));
  EXPECT_FALSE(append_authentication_md5(out, "abcde"));
  EXPECT_FALSE(append_backend_key_data(out, 1, "abc"));
  EXPECT_FALSE(append_backend_key_data(out, 1, std::string(257, 'k')));
  EXPECT_FALSE(append_cancel_request(out, 1, "abc"));
  EXPECT_FALSE(append_cancel_request(out, 1, std::string(257, 'k')));
  EXPECT_EQ(out, "before");
}

}  // namespace
}  // namespace tessera::postgres
