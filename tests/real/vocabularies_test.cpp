// Real vocabularies of the families against what transformers does with the same files: ids of hard texts,
// decoded text, chats, streaming. `./dev test real` fetches them and names their folder in
// RHAPSODE_VOCABULARIES.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "base/json.h"
#include "models/paths.h"
#include "text/chat_template.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"

namespace rhapsode::text {
namespace {

using Ids = std::vector<uint32_t>;

const OrderedJson& golden() {
  static const OrderedJson json =
      OrderedJson::parse(read_file(paths::fixtures() + "/golden/vocabularies.json"));
  return json;
}

class Vocabulary : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const char* root = std::getenv("RHAPSODE_VOCABULARIES");
    if (root == nullptr) GTEST_SKIP() << "./dev test real fetches the vocabularies where there is npm";
    directory_ = std::string(root) + "/" + GetParam();
    tokenizer_.emplace(Tokenizer::load(directory_));
  }
  const OrderedJson& texts() const { return golden().at(GetParam()).at("texts"); }

  std::string directory_;
  std::optional<Tokenizer> tokenizer_;
};

TEST_P(Vocabulary, TextsGiveTheSameIds) {
  for (const auto& [name, record] : texts().items()) {
    const std::string text = record.at("text").get<std::string>();
    EXPECT_EQ(tokenizer_->encode(text, {false, false}).ids, record.at("plain").at("ids").get<Ids>()) << name;
    EXPECT_EQ(tokenizer_->encode(text, {true, false}).ids, record.at("special").at("ids").get<Ids>()) << name;
    EXPECT_EQ(tokenizer_->encode(text, {true, true}).ids, record.at("added").get<Ids>()) << name;
  }
}

TEST_P(Vocabulary, IdsGiveTheSameText) {
  for (const auto& [name, record] : texts().items()) {
    for (const char* kind : {"plain", "special"}) {
      const OrderedJson& expected = record.at(kind);
      const Ids ids = expected.at("ids").get<Ids>();
      EXPECT_EQ(tokenizer_->decode(ids, false), expected.at("decoded").get<std::string>()) << name;
      EXPECT_EQ(tokenizer_->decode(ids, true), expected.at("decoded_without_special").get<std::string>())
          << name;
    }
  }
}

TEST_P(Vocabulary, StreamedTextIsTheWholeText) {
  for (const auto& [name, record] : texts().items()) {
    for (const bool skip : {false, true}) {
      const Ids ids = record.at("added").get<Ids>();
      StreamDecoder stream(*tokenizer_, {}, skip);
      std::string text;
      for (const uint32_t id : ids) text += stream.push(id);
      text += stream.finish();
      EXPECT_EQ(text, tokenizer_->decode(ids, skip)) << name;
    }
  }
}

// A message may spell any token: its ids are those of plain text, or it is refused.
TEST_P(Vocabulary, UserTextNeverBecomesAControlId) {
  for (const auto& [name, record] : texts().items())
    for (const uint32_t id : tokenizer_->encode(record.at("text").get<std::string>(), {}).ids)
      EXPECT_FALSE(tokenizer_->is_special(id)) << name << " " << id;
  const auto chat = ChatTemplate::load(directory_, *tokenizer_);
  if (!chat) return;
  const auto count_special = [&](const std::string& content) {
    size_t count = 0;
    for (const uint32_t id : chat->encode({{{"role", "user"}, {"content", content}}}, {}))
      count += tokenizer_->is_special(id);
    return count;
  };
  const size_t usual = count_special("hello");
  size_t encoded = 0;
  for (const auto& [name, record] : texts().items()) {
    try {
      EXPECT_EQ(count_special(record.at("text").get<std::string>()), usual) << name;
      ++encoded;
    } catch (const Error& error) {
      EXPECT_EQ(error.code, "control-token-in-message") << name;
    }
  }
  EXPECT_GE(encoded * 10, texts().size() * 9);
}

TEST_P(Vocabulary, ChatsRenderTheSame) {
  const OrderedJson& chats = golden().at(GetParam()).at("chats");
  const auto chat = ChatTemplate::load(directory_, *tokenizer_);
  EXPECT_EQ(chat.has_value(), !chats.empty());
  for (const auto& [name, record] : chats.items()) {
    std::string rendered;
    if (record.contains("refusal")) {
      EXPECT_THROW(chat->encode(record.at("messages"), {}), Error) << name;
      continue;
    }
    EXPECT_EQ(chat->encode(record.at("messages"), {}, &rendered), record.at("ids").get<Ids>()) << name;
    EXPECT_EQ(rendered, record.at("rendered").get<std::string>()) << name;
  }
}

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const auto& [name, record] : golden().items()) out.push_back(name);
  return out;
}

INSTANTIATE_TEST_SUITE_P(Families, Vocabulary, testing::ValuesIn(names()), [](const auto& info) {
  std::string name = info.param;
  for (char& c : name)
    if (c == '-') c = '_';
  return name;
});

}  // namespace
}  // namespace rhapsode::text
