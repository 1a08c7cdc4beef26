// `import-gguf`: a GGUF file becomes a Hugging Face checkpoint.
#include <fmt/format.h>

#include "checkpoint/gguf.h"
#include "cli/invocation.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/terminal.h"

namespace rhapsode::cli {
namespace {

struct ImportOptions {
  std::string file;
  std::string directory;
  std::optional<std::string> dtype;
};

Dtype dtype_of(const std::string& name) {
  if (name == "float32") return Dtype::f32;
  if (name == "float16") return Dtype::f16;
  if (name == "bfloat16") return Dtype::bf16;
  throw Error(ErrorKind::usage, "bad-value", "--dtype has a value that it does not take")
      .at("--dtype")
      .saw(excerpt(name))
      .want("float32, float16 or bfloat16");
}

int import(const Globals& globals, const ImportOptions& options) {
  const CancelScope scope;
  const std::string name = options.dtype.value_or("bfloat16");
  const Dtype dtype = dtype_of(name);
  GgufImport done;
  {
    Progress progress("importing", Progress::Unit::bytes, globals);
    done = import_gguf(options.file, options.directory, dtype,
                       [&](uint64_t n, uint64_t total) { progress.update(n, total); });
  }
  if (globals.json) {
    OrderedJson out;
    out["path"] = done.path;
    out["tensors"] = done.tensors;
    out["bytes"] = done.bytes;
    out["notes"] = done.notes;
    print_json(out);
  } else {
    print(done.path + "\n");
    for (const std::string& note : done.notes) say("note: " + note + "\n");
    if (!globals.quiet)
      say(fmt::format("{} tensors, {} as {}\n", done.tensors, bytes_text(done.bytes), name));
  }
  return 0;
}

}  // namespace

void add_import_gguf(Invocation& invocation) {
  Command command(invocation, "import-gguf", kTextGroup, "Turn a GGUF file into a checkpoint directory",
                  "  rhapsode import-gguf model.Q4_K_M.gguf model-bf16");
  const auto options = std::make_shared<ImportOptions>();
  command.argument("FILE", options->file, "the GGUF file");
  command.argument("DIR", options->directory, "the directory to write; it must not hold a checkpoint yet");
  command.option("--dtype", options->dtype, "DTYPE", "float32, float16 or bfloat16 (default: bfloat16)");
  command.action([&invocation, options] { return import(invocation.globals, *options); });
}

}  // namespace rhapsode::cli
