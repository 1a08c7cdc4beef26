// `ppl`: perplexity of a text or of token ids.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "cli/invocation.h"
#include "cli/model_source.h"
#include "cli/numbers.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "runtime/perplexity.h"

namespace rhapsode::cli {
namespace {

constexpr uint64_t kDefaultWindow = 512;
constexpr uint64_t kLongestWindow = uint64_t{1}
                                    << 31;  // beyond the model's positions, as transformers has it
constexpr uint64_t kLogitsRows = 64;        // positions of a pass, and so logits that are held at a time

struct PplOptions {
  std::optional<std::string> text, ids, window, stride;
};

std::vector<uint32_t> read_tokens(const runtime::Assembly& assembly, const PplOptions& options) {
  if (options.ids) return read_ids(*options.ids == "-" ? "stdin" : *options.ids, read_input(*options.ids));
  return assembly.tokenizer->encode(read_input(*options.text), {false, true}).ids;
}

void check_tokens(const std::vector<uint32_t>& ids, uint64_t vocab_size) {
  if (ids.size() < 2)
    throw Error(ErrorKind::usage, "too-few-tokens", "perplexity needs at least two tokens")
        .saw(fmt::format("{}", ids.size()));
  const auto bad = std::find_if(ids.begin(), ids.end(), [&](uint32_t id) { return id >= vocab_size; });
  if (bad != ids.end())
    throw Error(ErrorKind::usage, "id-out-of-range", "a token id is outside of the vocabulary")
        .at(fmt::format("/{}", bad - ids.begin()))
        .saw(fmt::format("{}", *bad))
        .want(fmt::format("ids below {}", vocab_size));
}

int ppl(const Globals& globals, const PplOptions& options) {
  if (options.text.has_value() == options.ids.has_value())
    throw Error(ErrorKind::usage, options.text ? "conflicting-options" : "missing-option",
                "ppl takes one input")
        .saw(options.text ? "--text and --ids" : "neither --text nor --ids")
        .want("--text FILE or --ids FILE");
  const CancelScope scope;
  const runtime::Assembly assembly =
      open_model(globals, "ppl", options.ids ? TextNeed::none : TextNeed::required);
  const arch::Spec& spec = assembly.architecture.spec;
  const uint64_t longest = spec.max_position_embeddings;
  const uint64_t window = options.window ? read_integer("--window", *options.window, 2, kLongestWindow)
                                         : std::min<uint64_t>(kDefaultWindow, longest);
  const uint64_t stride = options.stride ? read_integer("--stride", *options.stride, 1, window) : window;
  const std::vector<uint32_t> ids = read_tokens(assembly, options);
  check_tokens(ids, spec.vocab_size);
  const uint64_t context = std::min<uint64_t>(window, ids.size());
  // transformers computes a window in one pass, and int8 finds its outlier columns in that.
  const auto& numerics = assembly.entry().numerics;
  const bool whole = numerics && numerics->value == "hf-exact";
  const auto rows = static_cast<uint32_t>(whole ? context : std::min(context, kLogitsRows));
  const plan::Plan plan = runtime::make_plan(assembly, context, 1, rows);
  runtime::Session session = load_model(globals, assembly, plan, 1);
  runtime::Perplexity result;
  {
    Progress progress("scoring", Progress::Unit::tokens, globals);
    result = runtime::perplexity(session, ids, window, stride,
                                 [&](uint64_t done, uint64_t total) { progress.update(done, total); });
  }
  if (globals.json) {
    OrderedJson out;
    out["tokens"] = result.tokens;
    out["nll"] = result.nll;
    out["ppl"] = result.ppl;
    out["window"] = window;
    out["stride"] = stride;
    print_json(out);
  } else {
    print(fmt::format("{}\n", result.ppl));
    if (!globals.quiet)
      say(fmt::format("perplexity of {} tokens, mean nll {}, window {}, stride {}\n", result.tokens,
                      result.nll, window, stride));
  }
  return 0;
}

}  // namespace

void add_ppl(Invocation& invocation) {
  Command command(invocation, "ppl", kModelGroup, "Perplexity of a text",
                  "  rhapsode ppl -c rag.yaml --text wiki.txt --window 1024 --stride 512");
  const auto options = std::make_shared<PplOptions>();
  command.option("--text", options->text, "FILE",
                 "a text; bos and the like are added once in front; - is stdin");
  command.option("--ids", options->ids, "FILE", "token ids, whitespace or commas between; - is stdin");
  command.option("--window", options->window, "N",
                 "tokens of one context (default: 512, less for a model with less)");
  command.option("--stride", options->stride, "N",
                 "tokens from one context to the next (default: the window)");
  command.action([&invocation, options] { return ppl(invocation.globals, *options); });
}

}  // namespace rhapsode::cli
