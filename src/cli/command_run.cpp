// `run`: one prompt in, one answer out, streamed to stdout or whole as JSON.
#include <fmt/format.h>

#include <limits>

#include "cli/invocation.h"
#include "cli/model_source.h"
#include "cli/numbers.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "cli/text_source.h"
#include "runtime/generate.h"
#include "runtime/params.h"

namespace rhapsode::cli {
namespace {

struct RunOptions {
  std::optional<std::string> prompt, prompt_file, ids, messages, seed, trace;
  bool raw = false;
};

void check_inputs(const RunOptions& options) {
  std::string given;
  int inputs = 0;
  const std::pair<const char*, bool> all[] = {{"--prompt", options.prompt.has_value()},
                                              {"--prompt-file", options.prompt_file.has_value()},
                                              {"--ids", options.ids.has_value()},
                                              {"--messages", options.messages.has_value()}};
  for (const auto& [name, present] : all)
    if (present) ++inputs, given += (given.empty() ? "" : " and ") + std::string(name);
  if (inputs != 1)
    throw Error(ErrorKind::usage, inputs == 0 ? "missing-option" : "conflicting-options",
                "run takes one prompt")
        .saw(inputs == 0 ? "none" : given)
        .want("one of --prompt, --prompt-file, --ids, --messages");
  if (options.raw && (options.ids || options.messages))
    throw Error(ErrorKind::usage, "conflicting-options", "--raw goes with a text prompt only")
        .saw("--raw and " + given)
        .want("--raw with --prompt or --prompt-file");
}

std::vector<uint32_t> read_prompt(const runtime::Assembly& assembly, const RunOptions& options) {
  if (options.ids) return read_ids("--ids", *options.ids);
  if (options.messages) return runtime::messages_ids(assembly, read_messages(*options.messages));
  const std::string text = options.prompt ? *options.prompt : read_input(*options.prompt_file);
  return runtime::prompt_ids(assembly, text, options.raw);
}

OrderedJson pairs_json(const std::vector<std::pair<uint32_t, float>>& pairs) {
  OrderedJson out = OrderedJson::array();
  for (const auto& [id, value] : pairs) out.push_back(OrderedJson::array({id, static_cast<double>(value)}));
  return out;
}

OrderedJson steps_json(const std::vector<runtime::TraceStep>& steps) {
  OrderedJson out = OrderedJson::array();
  for (const runtime::TraceStep& step : steps)
    out.push_back({{"id", step.id}, {"top", pairs_json(step.top)}, {"probs", pairs_json(step.probs)}});
  return out;
}

OrderedJson sequences_json(const std::vector<runtime::GeneratedSequence>& sequences) {
  OrderedJson out = OrderedJson::array();
  for (const runtime::GeneratedSequence& sequence : sequences) {
    OrderedJson item;
    item["ids"] = sequence.ids;
    item["text"] = sequence.text ? OrderedJson(*sequence.text) : OrderedJson();
    item["score"] = sequence.score ? OrderedJson(*sequence.score) : OrderedJson();
    out.push_back(std::move(item));
  }
  return out;
}

// Tokens a second; null where there was no time to measure.
OrderedJson rate_json(uint64_t tokens, double ms) {
  return ms > 0 ? OrderedJson(static_cast<double>(tokens) * 1000 / ms) : OrderedJson();
}

// The first token comes out of the prompt's pass; the others are decoded.
uint64_t decoded_tokens(const runtime::GenerateResult& result) {
  return result.completion_tokens > 0 ? result.completion_tokens - 1 : 0;
}

OrderedJson result_json(const runtime::Session& session, const runtime::GenerateRequest& request,
                        const runtime::GenerateResult& result) {
  const runtime::Assembly& assembly = session.assembly();
  const OrderedJson sequences = sequences_json(result.sequences);
  OrderedJson out;
  out["model"] = assembly.config.active_model;
  out["model_id"] = assembly.entry().model_id.value;
  out["prompt_ids"] = request.prompt_ids;
  out["output_ids"] = sequences.empty() ? OrderedJson::array() : sequences[0]["ids"];
  out["text"] = sequences.empty() ? OrderedJson() : sequences[0]["text"];
  out["finish_reason"] = runtime::finish_reason_name(result.finish_reason);
  out["sequences"] = sequences;
  out["usage"] = {{"prompt_tokens", result.prompt_tokens}, {"completion_tokens", result.completion_tokens}};
  out["timings"] = {{"load_ms", session.load_ms()},
                    {"prompt_ms", result.prompt_ms},
                    {"decode_ms", result.decode_ms},
                    {"prompt_tokens_per_s", rate_json(result.prompt_tokens, result.prompt_ms)},
                    {"decode_tokens_per_s", rate_json(decoded_tokens(result), result.decode_ms)}};
  out["memory"] = memory_json(session);
  out["seed"] = request.params.seed;
  if (request.trace > 0) out["steps"] = steps_json(result.steps);
  return out;
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

void say_statistics(const runtime::Session& session, const runtime::GenerateResult& result) {
  std::string text = fmt::format("{} of {} tokens", runtime::finish_reason_name(result.finish_reason),
                                 result.completion_tokens);
  if (result.decode_ms > 0)
    text += fmt::format(" · {:.1f} tokens/s",
                        static_cast<double>(decoded_tokens(result)) * 1000 / result.decode_ms);
  text += fmt::format(" · prompt {} tokens in {} · load {} · peak {}\n", result.prompt_tokens,
                      duration_text(result.prompt_ms / 1000), duration_text(session.load_ms() / 1000),
                      short_bytes(devices::peak_resident_bytes()));
  say(text);
}

runtime::GenerateRequest make_request(const runtime::Assembly& assembly, const RunOptions& options) {
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  runtime::GenerateRequest request;
  request.prompt_ids = read_prompt(assembly, options);
  request.params = runtime::resolve_params(assembly);
  if (options.seed) request.params.seed = read_integer("--seed", *options.seed, 0, kMost);
  if (options.trace)
    request.trace = static_cast<uint32_t>(read_integer("--trace", *options.trace, 1, UINT32_MAX));
  request.cancelled = &cancel_flag();
  runtime::validate_request(request, assembly.architecture.spec);
  return request;
}

int run(const Globals& globals, const RunOptions& options) {
  check_inputs(options);
  const CancelScope scope;
  const runtime::Assembly assembly =
      open_model(globals, "run", options.ids ? TextNeed::where_present : TextNeed::required);
  runtime::GenerateRequest request = make_request(assembly, options);
  const runtime::RequestSize size = runtime::request_size(request);
  const plan::Plan plan = runtime::make_plan(assembly, size.context_tokens, size.sequences, size.logits_rows);
  runtime::Session session = load_model(globals, assembly, plan, size.sequences);
  std::string streamed;
  if (!globals.json)
    request.on_text = [&](const std::string& piece) {
      print(piece);
      streamed += piece;
    };
  const runtime::GenerateResult result = runtime::generate(session, request);
  if (globals.json) {
    print_json(result_json(session, request, result));
  } else {
    print_rest(result, streamed);
    if (!globals.quiet) say_statistics(session, result);
  }
  return interrupted() ? interrupted_exit_code() : 0;
}

}  // namespace

void add_run(Invocation& invocation) {
  Command command(invocation, "run", kModelGroup, "Answer one prompt",
                  "  rhapsode run -c rag.yaml --prompt \"Why is the sky blue?\"\n"
                  "  rhapsode run -c rag.yaml --prompt-file - --raw --set max_new_tokens=20 < text\n"
                  "  rhapsode run -c rag.yaml --ids 1,415,2936 --set do_sample=false --json");
  const auto options = std::make_shared<RunOptions>();
  command.option("--prompt", options->prompt, "T",
                 "the prompt, through the chat template where there is one");
  command.option("--prompt-file", options->prompt_file, "FILE", "the prompt is a file, as it is; - is stdin");
  command.option("--ids", options->ids, "IDS", "the prompt as token ids: 1,2,3; needs no tokenizer");
  command.option("--messages", options->messages, "FILE", "a JSON list of {role, content}; - is stdin");
  command.flag("--raw", options->raw, "no chat template: the text as it is");
  command.option("--seed", options->seed, "N", "seed of the sampler, over `seed` of the config");
  command.option("--trace", options->trace, "N",
                 "with --json: the N best logits and probabilities of each step");
  command.action([&invocation, options] { return run(invocation.globals, *options); });
}

}  // namespace rhapsode::cli
