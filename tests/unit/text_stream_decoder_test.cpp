// Streaming: what is emitted is the decoding of all ids, in pieces that are never half a character or half a
// stop string.
#include <gtest/gtest.h>

#include <ctime>
#include <random>

#include "base/error.h"
#include "models/paths.h"
#include "text/stream_decoder.h"

namespace rhapsode::text {
namespace {

const std::string kFixtures = paths::fixtures() + "/text/";

class Streaming : public testing::TestWithParam<const char*> {
 protected:
  Tokenizer tokenizer_ = Tokenizer::load(kFixtures + GetParam());
  std::mt19937 random_{11};
  uint32_t any_id() { return static_cast<uint32_t>(random_() % tokenizer_.vocab_size()); }
};

bool is_whole_utf8(const std::string& text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (size_t k = 1; k < length; ++k)
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
    i += length;
  }
  return true;
}

TEST_P(Streaming, WholeEqualsDecodingAllAtOnce) {
  for (int round = 0; round < 400; ++round) {
    std::vector<uint32_t> ids(1 + random_() % 120);
    const bool bytes_only = round % 4 == 0;  // the hardest: mostly halves of characters
    for (uint32_t& id : ids) id = bytes_only ? static_cast<uint32_t>(random_() % 259) : any_id();
    for (const bool skip : {true, false}) {
      StreamDecoder stream(tokenizer_, {}, skip);
      std::string all;
      for (uint32_t id : ids) {
        const std::string piece = stream.push(id);
        EXPECT_TRUE(is_whole_utf8(piece));
        all += piece;
      }
      all += stream.finish();
      ASSERT_EQ(all, tokenizer_.decode(ids, skip)) << "round " << round;
      EXPECT_EQ(all, stream.text());
    }
  }
}

TEST_P(Streaming, TextComesBack) {
  for (const std::string text :
       {"Hello, world", "東京 🙂🙃 👩‍👩‍👧‍👦", "naïve\n\n  two  spaces", "x"}) {
    StreamDecoder stream(tokenizer_, {});
    std::string all;
    const auto ids = tokenizer_.encode(text, {}).ids;
    for (uint32_t id : ids) all += stream.push(id);
    all += stream.finish();
    EXPECT_EQ(all, tokenizer_.decode(ids, true));
  }
}

TEST_P(Streaming, StopsBeforeTheFirstCompleteStopString) {
  const std::string text = "The fox runs. The lazy dog sleeps until the fire is ash.";
  for (int round = 0; round < 200; ++round) {
    const size_t at = random_() % (text.size() - 8);
    const std::string stop = text.substr(at, 1 + random_() % 7);
    StreamDecoder stream(tokenizer_, {stop, "never there"});
    std::string all;
    for (uint32_t id : tokenizer_.encode(text, {}).ids) {
      const std::string piece = stream.push(id);
      if (stream.stopped()) {
        EXPECT_EQ(stream.stop_string(), stop);
      }
      all += piece;
    }
    all += stream.finish();
    EXPECT_TRUE(stream.stopped());
    EXPECT_EQ(all, text.substr(0, text.find(stop)));
    EXPECT_EQ(stream.push(3), "");
  }
}

TEST_P(Streaming, APartOfAStopStringIsHeldBackThenReleased) {
  StreamDecoder stream(tokenizer_, {"dog!"});
  std::string all;
  for (uint32_t id : tokenizer_.encode("The lazy dog", {}).ids) {
    all += stream.push(id);
    EXPECT_EQ(all.find("d"), std::string::npos);
  }
  EXPECT_EQ(all + stream.finish(), "The lazy dog");
  EXPECT_FALSE(stream.stopped());
}

TEST_P(Streaming, HalfCharactersForeverCostNoMoreThanTheirNumber) {
  const auto first = tokenizer_.encode("東", {}).ids.front();
  const auto work = [&](size_t count) {
    const std::clock_t start = std::clock();  // processor time: other work on the machine must not decide
    StreamDecoder stream(tokenizer_, {});
    for (size_t i = 0; i < count; ++i) stream.push(first);
    const std::string rest = stream.finish();
    EXPECT_EQ(stream.text(), tokenizer_.decode(std::vector<uint32_t>(count, first), true));
    return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  };
  const double small = work(4'000);
  EXPECT_LT(work(16'000),
            16 * small + 0.2);  // four times the ids; a quadratic decoder takes sixteen times as long
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Streaming, testing::Values("byte_level", "metaspace", "prepend"));

// As in transformers, a stop string may be a special token, or reach into one; the text shows neither.
TEST(StreamDecoder, StopStringsMayHoldSpecialTokens) {
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "byte_level");
  const auto run = [&](const std::vector<std::string>& stops, std::string& text) {
    StreamDecoder stream(tokenizer, stops);
    size_t pushed = 0;
    std::vector<uint32_t> ids = tokenizer.encode("Hello dog", {}).ids;
    ids.push_back(*tokenizer.id_of("<|end|>"));
    for (const uint32_t id : tokenizer.encode(" and cat", {}).ids) ids.push_back(id);
    text.clear();
    for (; pushed < ids.size() && !stream.stopped(); ++pushed) text += stream.push(ids[pushed]);
    text += stream.finish();
    EXPECT_EQ(text, stream.text());
    return stream.stopped() ? stream.stop_string() : "";
  };
  std::string text;
  EXPECT_EQ(run({"<|end|>"}, text), "<|end|>");
  EXPECT_EQ(text, "Hello dog");
  EXPECT_EQ(run({"dog<|end|>"}, text), "dog<|end|>");
  EXPECT_EQ(text, "Hello ");
  EXPECT_EQ(run({"g<|end|> an"}, text), "g<|end|> an");
  EXPECT_EQ(text, "Hello do");
  EXPECT_EQ(run({"<|end|>!", "never"}, text), "");
  EXPECT_EQ(text, "Hello dog and cat");
  EXPECT_EQ(run({"dog and"}, text), "");
  EXPECT_EQ(text, "Hello dog and cat");
}

TEST(StreamDecoder, RefusesAnEmptyStopStringAndUnknownIds) {
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "byte_level");
  EXPECT_THROW(StreamDecoder(tokenizer, {""}), Error);
  StreamDecoder stream(tokenizer, {});
  EXPECT_THROW(stream.push(4'000'000), Error);
}

}  // namespace
}  // namespace rhapsode::text
