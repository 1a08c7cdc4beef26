// A conversation with a loaded model: what was said, and the next answer. Prints nothing.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/json.h"
#include "runtime/generate.h"

namespace rhapsode::cli {

class Conversation {
 public:
  // The model's system prompt of the config opens the conversation. The session must outlive it.
  Conversation(runtime::Session& session, generation::Params params);

  void set_system(const std::string& text);  // empty: none
  void clear();                              // all but the system prompt
  // The answer to `text` joins the conversation. Throws Error(usage, "context-full") where it no longer fits;
  // then, and where anything else is thrown, the conversation is as before.
  runtime::GenerateResult ask(const std::string& text,
                              const std::function<void(const std::string&)>& on_text);
  // Another answer to the last question; usage error where there is none.
  runtime::GenerateResult ask_again(const std::function<void(const std::string&)>& on_text);

  const OrderedJson& messages() const { return messages_; }
  uint64_t context_tokens() const { return session_->plan().limits.context_tokens; }
  uint64_t used_tokens() const { return used_tokens_; }
  uint64_t seed() const { return params_.seed; }  // with it the same questions get the same answers
  // Tokens that the last answer could have at most, where the context left fewer than the config asks for.
  std::optional<uint64_t> shortened_to() const { return shortened_to_; }

 private:
  runtime::GenerateResult answer(const OrderedJson& messages,
                                 const std::function<void(const std::string&)>& on_text);

  runtime::Session* session_;
  generation::Params params_;
  OrderedJson messages_ = OrderedJson::array();
  uint64_t used_tokens_ = 0;
  uint64_t answers_ = 0;
  std::optional<uint64_t> shortened_to_;
};

}  // namespace rhapsode::cli
