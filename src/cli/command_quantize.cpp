// `quantize`: a model's checkpoint written anew in 8 or 4 bits, for transformers and bitsandbytes too.
#include <fmt/format.h>

#include <map>

#include "cli/invocation.h"
#include "cli/model_source.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "config/sizes.h"
#include "runtime/quantize.h"

namespace rhapsode::cli {
namespace {

struct QuantizeOptions {
  std::optional<std::string> out;
  std::optional<std::string> shard;
};

uint64_t shard_bytes(const std::string& text) {
  const std::optional<config::Size> size = config::parse_size(text);
  if (size && size->bytes > 0) return size->bytes;
  throw Error(ErrorKind::usage, "bad-value", "--max-shard-size has a value that it does not take")
      .at("--max-shard-size")
      .saw(excerpt(text))
      .want("a size such as 5GB");
}

int quantize(const Globals& globals, const QuantizeOptions& options) {
  if (!options.out)
    throw Error(ErrorKind::usage, "missing-option", "`quantize` needs a directory to write to")
        .want("--out DIR")
        .hint("rhapsode quantize -c rag.yaml --out DIR");
  runtime::QuantizeRequest request;
  request.directory = *options.out;
  if (options.shard) request.max_shard_bytes = shard_bytes(*options.shard);
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
  Command command(invocation, "quantize", kModelGroup, "Write the model's checkpoint in 8 or 4 bits",
                  "  rhapsode quantize -c rag.yaml --out model-nf4\n"
                  "  rhapsode quantize -c rag.yaml --set quantization=8bit --out model-int8 --json");
  const auto options = std::make_shared<QuantizeOptions>();
  command.option("--out", options->out, "DIR", "the directory to write; it must not exist, or be empty");
  command.option("--max-shard-size", options->shard, "SIZE", "size of one weights file (default: 5GB)");
  command.action([&invocation, options] { return quantize(invocation.globals, *options); });
}

}  // namespace rhapsode::cli
