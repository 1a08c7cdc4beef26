#include "cli/conversation.h"

#include <fmt/format.h>

#include "cli/signals.h"

namespace rhapsode::cli {
namespace {

bool is_role(const OrderedJson& message, const char* role) {
  return message.at("role") == role;
}

}  // namespace

Conversation::Conversation(runtime::Session& session, generation::Params params)
    : session_(&session), params_(std::move(params)) {
  const auto& system = session.assembly().entry().system_prompt;
  if (system) set_system(system->value);
}

void Conversation::set_system(const std::string& text) {
  if (!messages_.empty() && is_role(messages_.front(), "system")) messages_.erase(messages_.begin());
  if (!text.empty()) messages_.insert(messages_.begin(), OrderedJson{{"role", "system"}, {"content", text}});
}

void Conversation::clear() {
  OrderedJson kept = OrderedJson::array();
  if (!messages_.empty() && is_role(messages_.front(), "system")) kept.push_back(messages_.front());
  messages_ = std::move(kept);
  used_tokens_ = 0;
}

runtime::GenerateResult Conversation::ask(const std::string& text,
                                          const std::function<void(const std::string&)>& on_text) {
  OrderedJson messages = messages_;
  messages.push_back({{"role", "user"}, {"content", text}});
  return answer(messages, on_text);
}

runtime::GenerateResult Conversation::ask_again(const std::function<void(const std::string&)>& on_text) {
  OrderedJson messages = messages_;
  if (!messages.empty() && is_role(messages.back(), "assistant")) messages.erase(messages.size() - 1);
  if (messages.empty() || !is_role(messages.back(), "user"))
    throw Error(ErrorKind::usage, "nothing-to-regenerate", "no question has been asked yet");
  return answer(messages, on_text);
}

runtime::GenerateResult Conversation::answer(const OrderedJson& messages,
                                             const std::function<void(const std::string&)>& on_text) {
  runtime::GenerateRequest request;
  request.prompt_ids = runtime::messages_ids(session_->assembly(), messages);
  request.params = params_;
  request.params.seed +=
      answers_;  // another answer for the same question, the same conversation for the same seed
  request.on_text = on_text;
  request.cancelled = &cancel_flag();
  request.keep_sequence = true;
  const uint64_t prompt = request.prompt_ids.size();
  if (prompt >= context_tokens())
    throw Error(ErrorKind::usage, "context-full", "the conversation is longer than the context")
        .saw(fmt::format("{} tokens with this message", prompt))
        .want(fmt::format("fewer than {}", context_tokens()))
        .hint("/clear starts anew; --set max_context=N reserves more");
  shortened_to_ = runtime::keep_within(request, context_tokens());
  runtime::validate_request(request, session_->assembly());
  runtime::GenerateResult result = runtime::generate(*session_, request);
  messages_ = messages;
  messages_.push_back({{"role", "assistant"}, {"content", result.sequences.front().text.value_or("")}});
  used_tokens_ = prompt + result.completion_tokens;
  ++answers_;
  return result;
}

}  // namespace rhapsode::cli
