// Scalars against PyYAML and sizes against accelerate: the fixtures hold what those packages answered.
#include <gtest/gtest.h>

#include <fstream>

#include "config/nearest.h"
#include "config/scalar.h"
#include "config/sizes.h"
#include "models/paths.h"

namespace rhapsode::config {
namespace {

const std::string kFolder = paths::fixtures() + "/config/";

Scalar plain(const std::string& text) {
  Node node;
  node.text = text;
  return resolve(node);
}

// Wherever we give a plain scalar a meaning, PyYAML gives the same; wherever it does not, the scalar is
// ambiguous.
TEST(ConfigScalar, NoMeaningThatPyyamlDoesNotShare) {
  std::ifstream in(kFolder + "pyyaml_scalars.txt");
  uint32_t lines = 0, ambiguous = 0;
  for (std::string text, kind; in >> text >> kind; ++lines) {
    const Scalar scalar = plain(text);
    switch (scalar.kind) {
      case Scalar::Kind::text:
        EXPECT_EQ(kind, "text") << text;
        break;
      case Scalar::Kind::null:
        EXPECT_EQ(kind, "null") << text;
        break;
      case Scalar::Kind::boolean:
        EXPECT_EQ(kind, "boolean") << text;
        break;
      case Scalar::Kind::integer:
        EXPECT_EQ(kind, "integer") << text;
        break;
      case Scalar::Kind::real:
        EXPECT_EQ(kind, scalar.text_to_pyyaml ? "text" : "real") << text;
        break;
      case Scalar::Kind::ambiguous:
        ++ambiguous;
        break;
      case Scalar::Kind::empty:
        ADD_FAILURE() << text;
    }
  }
  EXPECT_GT(lines, 120u);
  EXPECT_GT(ambiguous, 25u);
}

TEST(ConfigScalar, NumbersKeepTheirValues) {
  EXPECT_EQ(plain("9223372036854775807").integer, 9223372036854775807);
  EXPECT_EQ(plain("-9223372036854775808").integer, std::numeric_limits<int64_t>::min());
  EXPECT_EQ(plain("9223372036854775808").integer, std::nullopt);
  EXPECT_EQ(plain("+5").integer, 5);
  EXPECT_EQ(plain("1e-3").real, 1e-3);
  EXPECT_EQ(plain("-.5").real, -0.5);
  EXPECT_TRUE(plain("1e-3").text_to_pyyaml);
  EXPECT_FALSE(plain("1.0e-3").text_to_pyyaml);
}

// Two forms that Python's float() takes are not sizes here: they are more likely slips than meant.
TEST(ConfigSizes, AreAcceleratesOwn) {
  std::ifstream in(kFolder + "accelerate_sizes.txt");
  uint32_t lines = 0, sizes = 0;
  for (std::string line; std::getline(in, line); ++lines) {
    const size_t bar = line.rfind('|');
    const std::string text = line.substr(0, bar), expected = line.substr(bar + 1);
    const auto size = parse_size(text);
    if (expected == "error" || expected.size() > 18) {
      EXPECT_EQ(size, std::nullopt) << text;
      continue;
    }
    ++sizes;
    ASSERT_TRUE(size.has_value()) << text;
    EXPECT_EQ(std::to_string(size->bytes), expected) << text;
    const std::string unit = text.size() > 2 ? text.substr(text.size() - 2) : "";
    EXPECT_EQ(size->in_bits, unit == "Gb" || unit == "gb" || unit == "Mb" || unit == "Kb") << text;
  }
  EXPECT_GT(lines, 400u);
  EXPECT_GT(sizes, 150u);
  EXPECT_EQ(parse_size("1_0GB"), std::nullopt);
  EXPECT_EQ(parse_size("-0GB"), std::nullopt);
}

TEST(ConfigNearest, FindsTheKeyThatWasMeant) {
  const std::vector<std::string> known{"temperature", "top_p",          "top_k",
                                       "max_tokens",  "max_new_tokens", "repetition_penalty"};
  EXPECT_EQ(nearest("temprature", known), "temperature");
  EXPECT_EQ(nearest("tempreature", known), "temperature");
  EXPECT_EQ(nearest("Top-P", known), "top_p");
  EXPECT_EQ(nearest("max_new_token", known), "max_new_tokens");
  EXPECT_EQ(nearest("rep_penalty", known), "repetition_penalty");
  EXPECT_EQ(nearest("retriever", known), "");
  EXPECT_EQ(nearest("", known), "");
  EXPECT_EQ(nearest(std::string(5000, 't'), known), "");
}

}  // namespace
}  // namespace rhapsode::config
