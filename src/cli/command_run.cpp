// `run`: one prompt in, one answer out, streamed to stdout or whole as JSON.
#include <fmt/format.h>

#include <limits>
#include <span>

#include "cli/invocation.h"
#include "cli/model_source.h"
#include "cli/numbers.h"
#include "cli/prompts_file.h"
#include "cli/run_json.h"
#include "cli/seed.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "cli/text_source.h"
#include "runtime/generate.h"
#include "runtime/params.h"

namespace rhapsode::cli {
namespace {

struct RunOptions {
  std::optional<std::string> prompt, prompt_file, prompts_file, ids, messages, seed, trace, batch;
  bool raw = false;
};

void check_inputs(const RunOptions& options) {
  std::string given;
  int inputs = 0;
  const std::pair<const char*, bool> all[] = {{"--prompt", options.prompt.has_value()},
                                              {"--prompt-file", options.prompt_file.has_value()},
                                              {"--prompts-file", options.prompts_file.has_value()},
                                              {"--ids", options.ids.has_value()},
                                              {"--messages", options.messages.has_value()}};
  for (const auto& [name, present] : all)
    if (present) ++inputs, given += (given.empty() ? "" : " and ") + std::string(name);
  if (inputs != 1)
    throw Error(ErrorKind::usage, inputs == 0 ? "missing-option" : "conflicting-options",
                "run takes one prompt")
        .saw(inputs == 0 ? "none" : given)
        .want("one of --prompt, --prompt-file, --prompts-file, --ids, --messages");
  if (options.raw && (options.ids || options.messages))
    throw Error(ErrorKind::usage, "conflicting-options", "--raw goes with a text prompt only")
        .saw("--raw and " + given)
        .want("--raw with --prompt, --prompt-file or --prompts-file");
  if (options.batch && !options.prompts_file)
    throw Error(ErrorKind::usage, "conflicting-options", "--batch goes with --prompts-file")
        .saw("--batch and " + given);
}

std::vector<uint32_t> read_prompt(const runtime::Assembly& assembly, const RunOptions& options) {
  if (options.ids) return read_ids("--ids", *options.ids);
  if (options.messages) return runtime::messages_ids(assembly, read_messages(*options.messages));
  const std::string text = options.prompt ? *options.prompt : read_input(*options.prompt_file);
  return runtime::prompt_ids(assembly, text, options.raw);
}

std::string sequence_text(const runtime::GeneratedSequence& sequence) {
  return sequence.text ? *sequence.text : fmt::format("{}", fmt::join(sequence.ids, ","));
}

// The rest of the answer after what was streamed: all of it where nothing was.
void print_rest(const runtime::GenerateResult& result, const std::string& streamed) {
  if (result.sequences.empty()) return;
  const std::string first = sequence_text(result.sequences.front());
  std::string out = streamed.empty() ? first : "";
  const std::string& shown = streamed.empty() ? first : streamed;
  if (!shown.ends_with('\n')) out += '\n';
  for (size_t i = 1; i < result.sequences.size(); ++i)
    out += "---\n" + sequence_text(result.sequences[i]) + "\n";
  print(out);
}

// What ended an answer that ran into a limit.
const char* limit_of(const runtime::Session& session, const runtime::GenerateRequest& request) {
  const auto prompt = static_cast<int64_t>(request.prompt_ids.size());
  const auto& context = session.assembly().entry().max_context;
  if (context && prompt + request.params.max_new_tokens == context->value) return "max_context";
  const auto& length = request.params.max_length;
  return length && *length - prompt < request.params.max_new_tokens ? "max_length" : "max_new_tokens";
}

void say_statistics(const runtime::Session& session, const runtime::GenerateRequest& request,
                    const runtime::GenerateResult& result) {
  std::string text = fmt::format("{} after {} tokens", runtime::finish_reason_name(result.finish_reason),
                                 result.completion_tokens);
  if (result.finish_reason == runtime::FinishReason::length)
    text += fmt::format(" ({})", limit_of(session, request));
  if (result.decode_ms > 0)
    text += fmt::format(" · {:.1f} tokens/s",
                        static_cast<double>(decoded_tokens(result)) * 1000 / result.decode_ms);
  text += fmt::format(" · prompt {} tokens in {} · load {} · peak {}", result.prompt_tokens,
                      duration_text(result.prompt_ms / 1000), duration_text(session.load_ms() / 1000),
                      short_bytes(devices::peak_resident_bytes()));
  if (request.params.do_sample) text += fmt::format(" · seed {}", request.params.seed);
  say(text + "\n");
}

// max_context is what the user reserves, so no request takes more: the answer ends there, and that is said.
void keep_within_context(const Globals& globals, const config::Value<int64_t>& context,
                         runtime::GenerateRequest& request) {
  const uint64_t tokens = static_cast<uint64_t>(context.value), prompt = request.prompt_ids.size();
  if (prompt >= tokens)
    throw Error(ErrorKind::usage, "context-full", "the prompt is longer than the context")
        .in(context.origin.file, context.origin.line, context.origin.column)
        .at("max_context")
        .saw(fmt::format("{} tokens", prompt))
        .want(fmt::format("fewer than {}", tokens))
        .hint("raise max_context, or shorten the prompt");
  const auto room = runtime::keep_within(request, tokens);
  if (room && !globals.quiet && !globals.json)
    say(fmt::format("max_context of {} leaves room for {} tokens of an answer\n", tokens, *room));
}

runtime::GenerateRequest make_request(const Globals& globals, const runtime::Assembly& assembly,
                                      const RunOptions& options, std::vector<uint32_t> prompt_ids) {
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  runtime::GenerateRequest request;
  request.prompt_ids = std::move(prompt_ids);
  request.params = runtime::resolve_params(assembly);
  draw_seed(assembly.entry(), request.params);
  if (options.seed) request.params.seed = read_integer("--seed", *options.seed, 0, kMost);
  if (options.trace)
    request.trace = static_cast<uint32_t>(read_integer("--trace", *options.trace, 1, UINT32_MAX));
  request.cancelled = &cancel_flag();
  if (assembly.entry().max_context) keep_within_context(globals, *assembly.entry().max_context, request);
  runtime::validate_request(request, assembly);
  return request;
}

// Prints each answer as it is finished.
void answer_all(runtime::Session& session, std::span<const runtime::GenerateRequest> requests,
                size_t together, ResultsPrinter* json) {
  for (size_t first = 0; first < requests.size() && !interrupted(); first += together) {
    const auto group = requests.subspan(first, std::min(together, requests.size() - first));
    const std::vector<runtime::GenerateResult> some = runtime::generate_batch(session, group);
    for (size_t i = 0; i < some.size(); ++i) {
      if (json != nullptr)
        json->add(group[i], some[i]);
      else
        print((first + i > 0 ? "---\n" : "") + sequence_text(some[i].sequences.front()) + "\n");
    }
  }
}

// The largest of all groups that run together.
runtime::RequestSize size_of_groups(std::span<const runtime::GenerateRequest> requests, size_t together,
                                    uint64_t vocab_size) {
  runtime::RequestSize size{0, 0, 0};
  for (size_t first = 0; first < requests.size(); first += together) {
    const auto group = requests.subspan(first, std::min(together, requests.size() - first));
    const runtime::RequestSize one = runtime::batch_size(group, vocab_size);
    size = {std::max(size.context_tokens, one.context_tokens), std::max(size.sequences, one.sequences),
            std::max(size.logits_rows, one.logits_rows), std::max(size.choice_bytes, one.choice_bytes)};
  }
  return size;
}

// Every prompt of a file, so many at a time; the answers as they would be one by one.
int run_all(const Globals& globals, const RunOptions& options) {
  const CancelScope scope;
  const PromptsFile file(*options.prompts_file);
  const runtime::Assembly assembly =
      open_model(globals, "run", file.has_text() ? TextNeed::required : TextNeed::where_present);
  const size_t together = read_integer("--batch", options.batch.value_or("8"), 1, 256);
  std::vector<runtime::GenerateRequest> requests;
  for (std::vector<uint32_t>& ids : file.prompt_ids(assembly, options.raw))
    requests.push_back(make_request(globals, assembly, options, std::move(ids)));
  const runtime::RequestSize size = size_of_groups(requests, together, assembly.architecture.spec.vocab_size);
  const plan::Plan plan = runtime::make_plan(assembly, size.context_tokens, size.sequences, size.logits_rows,
                                             std::nullopt, size.choice_bytes);
  runtime::Session session = load_model(globals, assembly, plan, size.sequences);
  std::optional<ResultsPrinter> json;
  if (globals.json) json.emplace(session);
  try {
    answer_all(session, requests, together, json ? &*json : nullptr);
  } catch (...) {
    if (!json) throw;
    const Error error = current_error();
    interrupted() ? json->end() : json->end(error);
    return interrupted() ? interrupted_exit_code() : exit_code(error.kind);
  }
  if (json) json->end();
  return interrupted() ? interrupted_exit_code() : 0;
}

int run(const Globals& globals, const RunOptions& options) {
  check_inputs(options);
  if (options.prompts_file) return run_all(globals, options);
  const CancelScope scope;
  const runtime::Assembly assembly =
      open_model(globals, "run", options.ids ? TextNeed::where_present : TextNeed::required);
  runtime::GenerateRequest request = make_request(globals, assembly, options, read_prompt(assembly, options));
  const runtime::RequestSize size = runtime::request_size(request, assembly.architecture.spec.vocab_size);
  const plan::Plan plan = runtime::make_plan(assembly, size.context_tokens, size.sequences, size.logits_rows,
                                             std::nullopt, size.choice_bytes);
  runtime::Session session = load_model(globals, assembly, plan, size.sequences);
  std::string streamed;
  if (!globals.json)
    request.on_text = [&](const std::string& piece) {
      print(piece);
      streamed += piece;
    };
  const runtime::GenerateResult result = runtime::generate(session, request);
  if (globals.json) {
    print_result(session, request, result);
  } else {
    print_rest(result, streamed);
    if (!globals.quiet) say_statistics(session, request, result);
  }
  return interrupted() ? interrupted_exit_code() : 0;
}

}  // namespace

void add_run(Invocation& invocation) {
  Command command(invocation, "run", kModelGroup, "Answer one prompt",
                  "  rhapsode run -c rag.yaml --prompt \"Why is the sky blue?\"\n"
                  "  rhapsode run -c rag.yaml --prompt-file - --raw --set max_new_tokens=20 < text\n"
                  "  rhapsode run -c rag.yaml --prompts-file questions.jsonl --json\n"
                  "  rhapsode run -c rag.yaml --ids 1,415,2936 --set do_sample=false --json");
  const auto options = std::make_shared<RunOptions>();
  command.option("--prompt", options->prompt, "T",
                 "the prompt, through the chat template where there is one");
  command.option("--prompt-file", options->prompt_file, "FILE", "the prompt is a file, as it is; - is stdin");
  command.option("--prompts-file", options->prompts_file, "FILE",
                 "a prompt a line, in JSON: text, or an object with prompt, messages or ids; - is stdin");
  command.option("--batch", options->batch, "N", "with --prompts-file: so many at a time (default 8)");
  command.option("--ids", options->ids, "IDS", "the prompt as token ids: 1,2,3; needs no tokenizer");
  command.option("--messages", options->messages, "FILE", "a JSON list of {role, content}; - is stdin");
  command.flag("--raw", options->raw, "no chat template: the text as it is");
  command.option("--seed", options->seed, "N", "seed of the sampler, over `seed` of the config");
  command.option("--trace", options->trace, "N",
                 "with --json: the N best logits and probabilities of each step");
  command.action([&invocation, options] { return run(invocation.globals, *options); });
}

}  // namespace rhapsode::cli
