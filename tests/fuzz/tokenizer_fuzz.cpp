// tokenizer.json from a stranger: an error or a tokenizer that encodes and decodes, nothing else. The first
// byte chooses between the input as it is and a good tokenizer with the input put in one place of it.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"

namespace {

const char* const kParts[] = {"/normalizer",     "/pre_tokenizer", "/post_processor", "/decoder",
                              "/added_tokens",   "/model",         "/model/vocab",    "/model/merges",
                              "/added_tokens/0", "/truncation",    "/model/unk_token"};

std::string placed(uint8_t choice, const std::string& part) {
  static const rhapsode::Json whole = rhapsode::Json::parse(
      R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":3,"content":"<s>","single_word":false,
      "lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":null,"pre_tokenizer":null,
      "post_processor":null,"decoder":null,"model":{"type":"BPE","dropout":null,"unk_token":null,
      "continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,
      "vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}})");
  rhapsode::Json broken = whole;
  const rhapsode::Json value = rhapsode::Json::parse(part, nullptr, false);
  if (value.is_discarded()) return part;
  broken[rhapsode::Json::json_pointer(kParts[choice % std::size(kParts)])] = value;
  return broken.dump(-1, ' ', false, rhapsode::Json::error_handler_t::replace);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    const auto tokenizer =
        rhapsode::text::Tokenizer::from_bytes(data[0] < 64 ? rest : placed(data[0], rest), "fuzz.json");
    const auto encoding =
        tokenizer.encode("ab <s> a\xC3\xA9\n", {.parse_special = true, .add_special = true});
    (void)tokenizer.decode(encoding.ids, true);
    rhapsode::text::StreamDecoder stream(tokenizer, {"a"});
    for (uint32_t id : encoding.ids) (void)stream.push(id);
    (void)stream.finish();
  } catch (const rhapsode::Error&) {
  }
  return 0;
}
