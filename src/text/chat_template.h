// A checkpoint's own chat template, rendered as transformers renders it. User text can never produce a
// control id: spans of the rendered text that came from message contents are encoded with special tokens off.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/tokenizer.h"

namespace rhapsode::text {

struct RenderOptions {
  bool add_generation_prompt = true;
  OrderedJson tools;      // null or a list; the order of keys is kept, templates print it
  OrderedJson documents;  // null or a list
  OrderedJson extra;      // more template variables (an object), or null
};

class ChatTemplate {
 public:
  // chat_template.jinja, else chat_template.json, else "chat_template" of tokenizer_config.json (a string, or
  // a list with a "default" entry); nullopt where the checkpoint has none.
  static std::optional<ChatTemplate> load(const std::string& directory, const Tokenizer& tokenizer);
  static ChatTemplate from_source(std::string source, const std::string& file, const Tokenizer& tokenizer);

  // `messages`: a JSON list of {role, content, …}. Errors of the template (raise_exception, undefined filter,
  // fuel, depth, output size) are ErrorKind::usage / integrity with file and line of the template.
  std::string render(const OrderedJson& messages, const RenderOptions& options) const;
  // Rendered and encoded (add_special off). Equal to tokenizer.encode(render(...), {parse_special: true})
  // where no content holds a special token's text. A message that spells a control token gets its plain
  // text's ids; where that cannot be had: usage "control-token-in-message".
  std::vector<uint32_t> encode(const OrderedJson& messages, const RenderOptions& options,
                               std::string* rendered = nullptr) const;

  const std::string& source() const { return source_; }

 private:
  ChatTemplate() = default;
  const std::string& source_for(const RenderOptions& options) const;
  std::string variables(const OrderedJson& messages, const RenderOptions& options) const;

  std::string source_;
  std::string
      tool_source_;  // the checkpoint's "tool_use" template, used where tools are given; empty: source_
  std::string file_;
  const Tokenizer* tokenizer_ = nullptr;  // not owned; outlives the template
};

}  // namespace rhapsode::text
