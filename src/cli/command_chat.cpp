// `chat`: a conversation on the terminal, or one prompt a line from a pipe.
#include <fmt/format.h>
#include <unistd.h>

#include "cli/conversation.h"
#include "cli/environment.h"
#include "cli/invocation.h"
#include "cli/line_reader.h"
#include "cli/model_source.h"
#include "cli/seed.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "runtime/params.h"

namespace rhapsode::cli {
namespace {

constexpr const char* kHelp =
    "  /help          this help\n"
    "  /clear         forget the conversation, keep the system prompt\n"
    "  /system TEXT   another system prompt; without TEXT: none\n"
    "  /regenerate    another answer to the last question\n"
    "  /stats         speed of the last answer, tokens in the context\n"
    "  /save FILE     the conversation as JSON, for run --messages\n"
    "  /quit          leave (also Ctrl-D); Ctrl-C stops an answer\n";

class Chat {
 public:
  Chat(const Globals& globals, runtime::Session& session, generation::Params params, bool interactive)
      : globals_(globals), conversation_(session, std::move(params)), interactive_(interactive) {}

  int talk();

 private:
  bool obey(const std::string& line);  // false: leave
  void show(
      const std::function<runtime::GenerateResult(const std::function<void(const std::string&)>&)>& ask);
  void say_statistics() const;
  void save(const std::string& file) const;

  const Globals& globals_;
  Conversation conversation_;
  bool interactive_;
  std::optional<runtime::GenerateResult> last_;
};

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t") + 1 - first);
}

OrderedJson turn_json(const runtime::GenerateResult& result, const std::string& text, uint64_t seed) {
  OrderedJson out;
  out["text"] = text;
  out["output_ids"] = result.sequences.front().ids;
  out["finish_reason"] = runtime::finish_reason_name(result.finish_reason);
  out["usage"] = {{"prompt_tokens", result.prompt_tokens},
                  {"reused_tokens", result.reused_tokens},
                  {"completion_tokens", result.completion_tokens}};
  out["timings"] = {{"prompt_ms", result.prompt_ms}, {"decode_ms", result.decode_ms}};
  out["seed"] = seed;
  return out;
}

void Chat::show(
    const std::function<runtime::GenerateResult(const std::function<void(const std::string&)>&)>& ask) {
  std::string streamed;
  const auto on_text = [&](const std::string& piece) {
    if (!globals_.json) print(piece);
    streamed += piece;
  };
  last_ = ask(on_text);
  const std::string text = last_->sequences.front().text.value_or("");
  if (globals_.json)
    print_json(turn_json(*last_, text, conversation_.seed()));
  else
    print((streamed.empty() ? text : "") + "\n");
  if (last_->finish_reason == runtime::FinishReason::cancelled) say("[stopped]\n");
  if (conversation_.shortened_to() && last_->finish_reason == runtime::FinishReason::length)
    say(fmt::format(
        "[the context is full: {} tokens; /clear starts anew, --set max_context=N reserves more]\n",
        conversation_.context_tokens()));
}

void Chat::say_statistics() const {
  if (last_) {
    const double seconds = last_->decode_ms / 1000;
    say(fmt::format(
        "last answer: {} tokens in {}{}, prompt {} tokens in {}\n", last_->completion_tokens,
        duration_text(seconds),
        seconds > 0 && last_->completion_tokens > 1
            ? fmt::format(" ({:.1f} tokens/s)", static_cast<double>(last_->completion_tokens - 1) / seconds)
            : "",
        last_->prompt_tokens, duration_text(last_->prompt_ms / 1000)));
  }
  say(fmt::format("context: {} of {} tokens; memory: {} at its peak\n", conversation_.used_tokens(),
                  conversation_.context_tokens(), bytes_text(devices::peak_resident_bytes())));
}

void Chat::save(const std::string& file) const {
  if (file.empty()) throw Error(ErrorKind::usage, "missing-argument", "/save needs a file's name");
  write_file_atomically(
      file, conversation_.messages().dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
  say(fmt::format("{} messages in {}\n", conversation_.messages().size(), file));
}

bool Chat::obey(const std::string& line) {
  const size_t space = line.find(' ');
  const std::string name = line.substr(0, space);
  const std::string rest = space == std::string::npos ? "" : trimmed(line.substr(space));
  if (name == "/quit" || name == "/exit") return false;
  if (name == "/help") {
    say(kHelp);
  } else if (name == "/clear") {
    conversation_.clear();
    say("the conversation is empty\n");
  } else if (name == "/system") {
    conversation_.set_system(rest);
    say(rest.empty() ? "no system prompt\n" : "the system prompt is set\n");
  } else if (name == "/stats") {
    say_statistics();
  } else if (name == "/save") {
    save(rest);
  } else if (name == "/regenerate") {
    show([&](const auto& on_text) { return conversation_.ask_again(on_text); });
  } else {
    throw Error(ErrorKind::usage, "unknown-command", fmt::format("there is no command {}", excerpt(name)))
        .hint("/help lists them; a space in front sends the line as it is");
  }
  return true;
}

int Chat::talk() {
  LineReader reader(interactive_, "> ", interactive_ ? history_file() : "");
  std::string line;
  for (;;) {
    const LineReader::Event event = reader.next(line);
    if (event == LineReader::Event::interrupted) {
      if (!interactive_ || terminated()) return interrupted_exit_code();
      forget_interrupt();
      say("\n(Ctrl-D or /quit leaves)\n");
      continue;
    }
    if (event == LineReader::Event::end) {
      if (interactive_) say("\n");
      return 0;
    }
    if (trimmed(line).empty()) continue;
    try {
      if (line.starts_with('/')) {
        if (!obey(line)) return 0;
      } else {
        show([&](const auto& on_text) { return conversation_.ask(trimmed(line), on_text); });
      }
    } catch (const Error& error) {
      if (!interactive_) throw;
      say(error_text(error, stderr_style(globals_)));
    }
    if (!interrupted()) continue;
    if (!interactive_ || terminated()) return interrupted_exit_code();
    forget_interrupt();
  }
}

int chat(const Globals& globals) {
  const CancelScope scope;
  const runtime::Assembly assembly = open_model(globals, "chat", TextNeed::required);
  if (!assembly.chat_template)
    throw Error(ErrorKind::not_found, "no-chat-template",
                "the model has no chat template, so it cannot hold a conversation")
        .in(assembly.directory)
        .hint(
            "a base model continues text: rhapsode run --raw; chat_template in the model entry gives it a "
            "template");
  generation::Params params = runtime::resolve_params(assembly);
  draw_seed(assembly.entry(), params);
  runtime::GenerateRequest typical;
  typical.params = params;
  const runtime::RequestSize size = runtime::request_size(typical, assembly.architecture.spec.vocab_size);
  const plan::Plan plan = runtime::make_plan(assembly, std::nullopt, size.sequences, size.logits_rows,
                                             std::nullopt, size.choice_bytes);
  runtime::Session session = load_model(globals, assembly, plan, size.sequences);
  const bool interactive = ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1;
  if (interactive && !globals.quiet)
    say(fmt::format("{} is ready ({} tokens of context). /help lists the commands.\n",
                    assembly.config.active_model, plan.limits.context_tokens));
  return Chat(globals, session, params, interactive).talk();
}

}  // namespace

void add_chat(Invocation& invocation) {
  Command(invocation, "chat", kModelGroup, "Talk with a model",
          "  rhapsode chat -c rag.yaml\n"
          "  printf 'Hello\\nAnd in French?\\n' | rhapsode chat -c rag.yaml")
      .action([&invocation] { return chat(invocation.globals); });
}

}  // namespace rhapsode::cli
