// A stranger's template over ordinary messages, and a stranger's text in an ordinary template. The second
// must never yield a control token beyond those of the template.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "text/chat_template.h"

namespace {

constexpr const char* kTokenizer =
    R"({"added_tokens":[{"id":4,"content":"<|a|>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,
    "special":true},{"id":5,"content":"</t>","single_word":false,"lstrip":true,"rstrip":true,"normalized":true,
    "special":false}],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,
    "use_regex":true},"model":{"type":"BPE","unk_token":"<","vocab":{"<":0,"|":1,"a":2,">":3},"merges":[]}})";
constexpr const char* kTemplate =
    "{% for m in messages %}<|a|>{{ m.role }}{{ m.content | trim }}</t>{{ m.content.split('</t>')[-1] "
    "}}<|a|>{% endfor %}";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace rhapsode;
  static const auto tokenizer = text::Tokenizer::from_bytes(kTokenizer, "fuzz.json");
  static const auto fixed = text::ChatTemplate::from_source(kTemplate, "fixed.jinja", tokenizer);
  if (size == 0) return 0;
  const std::string rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (data[0] % 2 == 0) {
      const auto messages =
          OrderedJson::parse(R"([{"role":"system","content":"s"},{"role":"user","content":"u <|a|>"}])");
      (void)text::ChatTemplate::from_source(rest, "fuzz.jinja", tokenizer).render(messages, {});
    } else {
      const OrderedJson messages = OrderedJson::array({{{"role", "user"}, {"content", rest}}});
      const auto ids = fixed.encode(messages, {});
      if (std::count(ids.begin(), ids.end(), 4U) != 2) std::abort();
    }
  } catch (const Error&) {
  }
  return 0;
}
