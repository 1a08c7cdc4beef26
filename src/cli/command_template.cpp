// `template`: a conversation as the model's own chat template writes it.
#include "cli/environment.h"
#include "cli/invocation.h"
#include "cli/numbers.h"
#include "cli/terminal.h"
#include "cli/text_source.h"

namespace rhapsode::cli {
namespace {

struct TemplateOptions {
  std::optional<std::string> tokenizer, messages, tools;
  bool no_generation_prompt = false;
};

OrderedJson read_tools(const std::string& file) {
  const std::string text = read_input(file);
  const Json tools = parse_json(text, file, ErrorKind::usage);
  if (tools.is_array()) return OrderedJson::parse(text);  // checked above; this one keeps the order of keys
  throw Error(ErrorKind::usage, "bad-tools", "the tools are not a list")
      .in(file)
      .saw(tools.type_name())
      .want("a list of tools");
}

int render(const Globals& globals, const TemplateOptions& options) {
  if (!options.messages)
    throw Error(ErrorKind::usage, "missing-option", "template needs a conversation").want("--messages FILE");
  const runtime::TextFiles files = open_text(globals, options.tokenizer, "template");
  if (!files.chat_template)
    throw Error(ErrorKind::not_found, "no-chat-template", "the tokenizer has no chat template")
        .saw("neither chat_template.jinja nor chat_template in tokenizer_config.json")
        .want("a checkpoint with a chat template, or chat_template in the model entry")
        .hint("a base model has none: run --raw gives it the text as it is");
  text::RenderOptions how;
  how.add_generation_prompt = !options.no_generation_prompt;
  if (options.tools) how.tools = read_tools(*options.tools);
  std::string text;
  const std::vector<uint32_t> ids = files.chat_template->encode(read_messages(*options.messages), how, &text);
  if (globals.json) {
    OrderedJson out;
    out["text"] = text;
    out["ids"] = ids;
    print_json(out);
  } else {
    print(text.ends_with('\n') ? text : text + "\n");
  }
  return 0;
}

}  // namespace

void add_template(Invocation& invocation) {
  Command command(
      invocation, "template", kTextGroup, "A conversation as the chat template writes it",
      "  rhapsode template -c rag.yaml --messages chat.json\n"
      "  echo '[{\"role\":\"user\",\"content\":\"Hi\"}]' | rhapsode template -c rag.yaml --messages -");
  const auto options = std::make_shared<TemplateOptions>();
  command.option("--tokenizer", options->tokenizer, "DIR", "a directory with tokenizer.json, instead of -c");
  command.option("--messages", options->messages, "FILE", "a JSON list of {role, content}; - is stdin");
  command.flag("--no-generation-prompt", options->no_generation_prompt, "end after the last message");
  command.option("--tools", options->tools, "FILE", "a JSON list of tools for the template");
  command.action([&invocation, options] { return render(invocation.globals, *options); });
}

}  // namespace rhapsode::cli
