// What prompt lookup is worth on an answer that quotes its context, as answers over retrieved text do: greedy
// decoding with and without, in turn, and whether the ids are the same. Needs a real model: RHAPSODE_SMOLLM2
// names the directory that `./dev test real` fetches.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "models/paths.h"
#include "runtime/beam_run.h"
#include "runtime/generate.h"
#include "runtime/params.h"

namespace rhapsode {
namespace {

constexpr int kRounds = 3;

struct Question {
  const char* name;
  const char* before;
  const char* after;
};
const Question kQuestions[] = {
    {"quoting", "Copy the following text word for word and write nothing else.\n\n", ""},
    {"free", "Here is a text.\n\n", "\n\nInvent another story about a lighthouse, in your own words."},
};

std::string passage() {
  const std::string text = read_file(paths::fixtures() + "/text/harbour.txt");
  return text.substr(0, text.find("\n\n"));
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void compare(runtime::Session& session, const Question& question) {
  runtime::GenerateRequest plain;
  plain.prompt_ids =
      runtime::prompt_ids(session.assembly(), question.before + passage() + question.after, false);
  plain.params = runtime::resolve_params(session.assembly());
  runtime::GenerateRequest quick = plain;
  quick.params.prompt_lookup_num_tokens = 10;
  quick.params.max_matching_ngram_size = 3;
  std::vector<double> plain_rate, quick_rate;
  bool same = true;
  uint64_t tokens = 0;
  for (int round = 0; round < kRounds; ++round) {
    const runtime::GenerateResult a = runtime::generate(session, plain);
    const runtime::GenerateResult b = runtime::generate(session, quick);
    same = same && a.sequences.front().ids == b.sequences.front().ids;
    tokens = a.completion_tokens;
    plain_rate.push_back(static_cast<double>(a.completion_tokens - 1) * 1e3 / a.decode_ms);
    quick_rate.push_back(static_cast<double>(b.completion_tokens - 1) * 1e3 / b.decode_ms);
  }
  fmt::print("{}: {} tokens, plain {:.1f} tokens/s, lookup {:.1f} tokens/s, {:.2f} times as fast, ids {}\n",
             question.name, tokens, median(plain_rate), median(quick_rate),
             median(quick_rate) / median(plain_rate), same ? "equal" : "DIFFERENT");
}

int run(const char* directory) {
  const std::string file = (std::filesystem::temp_directory_path() / "rhapsode-lookup-bench.yaml").string();
  std::ofstream(file) << "generator:\n  active_model: m\n  models:\n    m:\n      type: huggingface\n"
                      << "      model_id: \"" << directory
                      << "\"\n      do_sample: false\n      max_new_tokens: 100\n";
  runtime::Settings settings;
  settings.config.file = file;
  const runtime::Assembly assembly = runtime::assemble(settings);
  runtime::Session session(assembly, runtime::make_plan(assembly, 1024, 1, 16), 1, nullptr);
  fmt::print("{}, {} threads, {}\n", assembly.inventory.cpu_name, assembly.threads, assembly.kernels->name);
  for (const Question& question : kQuestions) compare(session, question);
  return 0;
}

}  // namespace
}  // namespace rhapsode

int main() {
  const char* directory = std::getenv("RHAPSODE_SMOLLM2");
  if (directory != nullptr) return rhapsode::run(directory);
  fmt::print("RHAPSODE_SMOLLM2 is not set: nothing measured (./dev test real fetches the model)\n");
  return 0;
}
