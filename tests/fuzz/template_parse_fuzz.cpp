// The source of a chat template from a stranger: parsed or refused.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tokenizer = rhapsode::text::Tokenizer::from_bytes(
      R"({"added_tokens":[],"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})", "fuzz.json");
  try {
    (void)rhapsode::text::ChatTemplate::from_source(std::string(reinterpret_cast<const char*>(data), size),
                                                    "fuzz.jinja", tokenizer);
  } catch (const rhapsode::Error&) {
  }
  return 0;
}
