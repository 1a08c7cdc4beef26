// `quantize`: a model's checkpoint written anew in 8 or 4 bits, for transformers and bitsandbytes too; or
// formats chosen for it, matrix by matrix, that fit into a number of bytes.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "cli/emit_config.h"
#include "cli/fit_view.h"
#include "cli/invocation.h"
#include "cli/model_source.h"
#include "cli/numbers.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "config/sizes.h"
#include "runtime/calibration_text.h"
#include "runtime/fit.h"
#include "runtime/quantize.h"

namespace rhapsode::cli {
namespace {

constexpr uint64_t kFitWindow = 512;    // tokens of one context
constexpr uint64_t kLeastTokens = 16;   // fewer say nothing of a model
constexpr uint64_t kMostTokens = 4096;  // each is held with the whole distribution after it

struct QuantizeOptions {
  std::optional<std::string> out, shard;
  std::optional<std::string> fit, text, ids, emit;
  bool portable = false;
};

// A number alone is bytes, as in the config.
uint64_t read_size(const std::string& option, const std::string& text) {
  if (!text.empty() && text.find_first_not_of("0123456789") == std::string::npos)
    return read_integer(option, text, 1, INT64_MAX);
  const std::optional<config::Size> size = config::parse_size(text);
  if (size && size->bytes > 0) return size->bytes;
  throw Error(ErrorKind::usage, "bad-value", option + " has a value that it does not take")
      .at(option)
      .saw(excerpt(text))
      .want("bytes, or a size such as 5GB");
}

void refuse(const char* option, const char* with) {
  throw Error(ErrorKind::usage, "conflicting-options", std::string(option) + " belongs to " + with)
      .at(option)
      .hint("rhapsode quantize --help");
}

void check_options(const QuantizeOptions& options) {
  if (options.out.has_value() == options.fit.has_value())
    throw Error(ErrorKind::usage, options.out ? "conflicting-options" : "missing-option",
                "`quantize` writes a checkpoint or chooses formats")
        .saw(options.out ? "--out and --fit" : "neither --out nor --fit")
        .want("--out DIR or --fit SIZE")
        .hint("rhapsode quantize -c rag.yaml --out DIR");
  if (options.fit && options.shard) refuse("--max-shard-size", "--out");
  if (options.out && options.text) refuse("--text", "--fit");
  if (options.out && options.ids) refuse("--ids", "--fit");
  if (options.out && options.emit) refuse("--emit-config", "--fit");
  if (options.out && options.portable) refuse("--portable", "--fit");
  if (options.text && options.ids)
    throw Error(ErrorKind::usage, "conflicting-options", "--fit measures on one input")
        .saw("--text and --ids")
        .want("--text FILE or --ids FILE, or neither");
}

std::vector<uint32_t> fit_tokens(const runtime::Assembly& assembly, const QuantizeOptions& options) {
  std::vector<uint32_t> ids;
  if (options.ids)
    ids = read_ids(*options.ids == "-" ? "stdin" : *options.ids, read_input(*options.ids));
  else
    ids = assembly.tokenizer
              ->encode(options.text ? read_input(*options.text) : std::string(runtime::kCalibrationText),
                       {false, true})
              .ids;
  if (ids.size() < kLeastTokens || ids.size() > kMostTokens)
    throw Error(ErrorKind::usage, "bad-text", "the text to measure on is too short or too long")
        .saw(fmt::format("{} tokens", ids.size()))
        .want(fmt::format("{} to {} tokens", kLeastTokens, kMostTokens));
  const uint64_t vocab_size = assembly.architecture.spec.vocab_size;
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] >= vocab_size)
      throw Error(ErrorKind::usage, "id-out-of-range", "a token id is outside of the vocabulary")
          .at(fmt::format("/{}", i))
          .saw(fmt::format("{}", ids[i]))
          .want(fmt::format("ids below {}", vocab_size));
  return ids;
}

// Written only where it says what was chosen: the same formats, by the same planner.
void emit(const Globals& globals, const std::string& file, runtime::Assembly& assembly,
          const runtime::Fit& fit, const FitView& view) {
  std::vector<std::string> sets;
  for (const auto& [key, value] : view.keys) sets.push_back(key + "=" + value);
  const std::string text = config_with(globals, assembly, sets);
  if (runtime::module_formats(assembly) != fit.formats) throw cannot_edit(assembly.config.file);
  write_file_atomically(file, text);
}

int fit(const Globals& globals, const QuantizeOptions& options) {
  runtime::FitRequest request;
  request.budget_bytes = read_size("--fit", *options.fit);
  request.portable = options.portable;
  const CancelScope scope;
  runtime::Assembly assembly =
      open_model(globals, "quantize", options.ids ? TextNeed::where_present : TextNeed::required);
  request.ids = fit_tokens(assembly, options);
  request.window = std::min<uint64_t>(kFitWindow, assembly.architecture.spec.max_position_embeddings);
  const config::ModelEntry before = assembly.entry();
  runtime::Fit chosen;
  {
    Progress progress("measuring", Progress::Unit::tokens, globals);
    request.progress = [&](uint64_t n, uint64_t total) { progress.update(n, total); };
    chosen = runtime::fit(assembly, request);
  }
  const FitView view{request.budget_bytes, request.ids.size(), runtime::recipe_keys(chosen.recipe, before)};
  if (options.emit) emit(globals, *options.emit, assembly, chosen, view);
  if (globals.json) {
    OrderedJson out;
    out["path"] = options.emit ? OrderedJson(*options.emit) : OrderedJson(nullptr);
    out.update(fit_json(chosen, view));
    print_json(out);
    return 0;
  }
  print(fit_text(chosen, view, stdout_style(globals)));
  if (options.emit && !globals.quiet) say(fmt::format("wrote {}\n", *options.emit));
  return 0;
}

int quantize(const Globals& globals, const QuantizeOptions& options) {
  check_options(options);
  if (options.fit) return fit(globals, options);
  runtime::QuantizeRequest request;
  request.directory = *options.out;
  if (options.shard) request.max_shard_bytes = read_size("--max-shard-size", *options.shard);
  const CancelScope scope;
  const runtime::Assembly assembly = open_model(globals, "quantize", TextNeed::none);
  runtime::Quantized done;
  {
    Progress progress("quantizing", Progress::Unit::bytes, globals);
    request.progress = [&](uint64_t n, uint64_t total) { progress.update(n, total); };
    done = runtime::quantize(assembly, request);
  }
  if (globals.json) {
    OrderedJson out;
    out["path"] = done.path;
    out["bytes"] = done.bytes;
    out["formats"] = done.formats;
    print_json(out);
    return 0;
  }
  print(done.path + "\n");
  if (globals.quiet) return 0;
  std::map<std::string, size_t> counts;
  for (const auto& [module, format] : done.formats) ++counts[format];
  for (const auto& [format, count] : counts) say(fmt::format("{} matrices as {}\n", count, format));
  say(bytes_text(done.bytes) + "\n");
  return 0;
}

}  // namespace

void add_quantize(Invocation& invocation) {
  Command command(invocation, "quantize", kModelGroup,
                  "Write the model's checkpoint in 8 or 4 bits, or choose formats that fit",
                  "  rhapsode quantize -c rag.yaml --out model-nf4\n"
                  "  rhapsode quantize -c rag.yaml --set quantization=8bit --out model-int8 --json\n"
                  "  rhapsode quantize -c rag.yaml --fit 3.8GB --emit-config fitting.yaml");
  const auto options = std::make_shared<QuantizeOptions>();
  command.option("--out", options->out, "DIR", "the directory to write; it must not exist, or be empty");
  command.option("--max-shard-size", options->shard, "SIZE", "size of one weights file (default: 5GB)");
  command.option("--fit", options->fit, "SIZE",
                 "choose formats, matrix by matrix, so that all that `plan` counts stays below SIZE");
  command.option("--text", options->text, "FILE",
                 "--fit: measure on this text; - is stdin (default: a built-in one)");
  command.option("--ids", options->ids, "FILE", "--fit: measure on these token ids; - is stdin");
  command.flag("--portable", options->portable,
               "--fit: one format and a list of modules left as they are, which transformers reads too");
  command.option("--emit-config", options->emit, "FILE", "--fit: write the config with what was chosen");
  command.action([&invocation, options] { return quantize(invocation.globals, *options); });
}

}  // namespace rhapsode::cli
