// The matrix: a request alone == in a batch == in chunks == speculated, on any number of threads, in every
// family and weight format. Each cell compares the ids and the logits of every step with those of the request
// alone on one thread, bit for bit; the number of cells is printed.
#include <gtest/gtest.h>

#include <cstring>

#include "models/golden_model.h"
#include "models/made_checkpoint.h"
#include "support/scratch.h"

namespace rhapsode {
namespace {

constexpr uint32_t kSteps = 6;
constexpr uint32_t kChunk = 64;

std::vector<uint32_t> some_ids(size_t count, uint64_t vocab, uint64_t seed) {
  std::vector<uint32_t> ids;
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    ids.push_back(static_cast<uint32_t>((seed >> 33) % vocab));
  }
  return ids;
}

// What a request gives: the id of each step, and the row it was chosen from.
struct Answer {
  std::vector<uint32_t> ids;
  std::vector<float> rows;

  void add(std::span<const float> row) {
    ids.push_back(static_cast<uint32_t>(std::max_element(row.begin(), row.end()) - row.begin()));
    rows.insert(rows.end(), row.begin(), row.end());
  }
  bool same_bits(const Answer& other) const {
    return ids == other.ids && rows.size() == other.rows.size() &&
           std::memcmp(rows.data(), other.rows.data(), rows.size() * sizeof(float)) == 0;
  }
};

// One request, its prompt in passes of at most `chunk` tokens.
Answer alone(LoadedModel& model, std::span<const uint32_t> prompt, size_t chunk) {
  model::Sequence sequence;
  Answer answer;
  for (size_t done = 0; done < prompt.size(); done += chunk) {
    const size_t count = std::min(chunk, prompt.size() - done);
    const model::Span span{&sequence, prompt.subspan(done, count), 1, prompt.size()};
    model.decoder.forward({&span, 1});
  }
  for (answer.add(model.decoder.logits(0)); answer.ids.size() < kSteps; answer.add(model.decoder.logits(0))) {
    const uint32_t last = answer.ids.back();
    const model::Span span{&sequence, {&last, 1}, 1};
    model.decoder.forward({&span, 1});
  }
  model.cache.release(sequence);
  return answer;
}

std::vector<Answer> batched(LoadedModel& model, const std::vector<std::vector<uint32_t>>& prompts) {
  std::vector<model::Sequence> sequences(prompts.size());
  std::vector<Answer> answers(prompts.size());
  std::vector<uint32_t> last(prompts.size());
  for (uint32_t step = 0; step < kSteps; ++step) {
    std::vector<model::Span> spans;
    for (size_t i = 0; i < prompts.size(); ++i)
      spans.push_back({&sequences[i], step == 0 ? std::span(prompts[i]) : std::span(&last[i], 1), 1});
    model.decoder.forward(spans);
    for (uint32_t i = 0; i < prompts.size(); ++i) {
      answers[i].add(model.decoder.logits(i));
      last[i] = answers[i].ids.back();
    }
  }
  for (model::Sequence& sequence : sequences) model.cache.release(sequence);
  return answers;
}

// Three guesses a pass, the last of them wrong: what follows it is dropped, as after prompt lookup.
Answer speculated(LoadedModel& model, std::span<const uint32_t> prompt, const std::vector<uint32_t>& known) {
  model::Sequence sequence;
  model.decoder.prefill(sequence, prompt);
  Answer answer;
  answer.add(model.decoder.logits(0));
  const uint64_t vocab = model.architecture.spec.vocab_size;
  while (answer.ids.size() < kSteps) {
    std::vector<uint32_t> pass{answer.ids.back()};
    for (size_t i = answer.ids.size(); i < known.size() && pass.size() < 3; ++i) pass.push_back(known[i]);
    pass.push_back(static_cast<uint32_t>(
        (known.at(std::min<size_t>(answer.ids.size() + pass.size() - 1, known.size() - 1)) + 1) % vocab));
    const model::Span span{&sequence, pass, static_cast<uint32_t>(pass.size()), 0, true};
    model.decoder.forward({&span, 1});
    for (uint32_t r = 0; r < pass.size() && answer.ids.size() < kSteps; ++r) {
      if (r > 0 && pass[r] != answer.ids.back()) break;
      answer.add(model.decoder.logits(r));
    }
    model.cache.truncate(sequence, prompt.size() + answer.ids.size() - 1);
  }
  model.cache.release(sequence);
  return answer;
}

struct FormatCase {
  std::string name;
  plan::Formats formats;
  // Outlier columns found in a whole call depend on what the call holds, by bitsandbytes' rule.
  bool chunks = true;
};

FormatCase quantized(std::string name, Dtype dtype, config::Quantization kind) {
  FormatCase out{std::move(name), plan::Formats::dense(dtype)};
  out.formats.quantization = kind;
  return out;
}

std::vector<FormatCase> dense_cases() {
  std::vector<FormatCase> cases{{"float32", plan::Formats::dense(Dtype::f32)},
                                {"bfloat16", plan::Formats::dense(Dtype::bf16)},
                                quantized("int8 row", Dtype::bf16, config::Quantization::int8),
                                quantized("int8 call", Dtype::f16, config::Quantization::int8),
                                quantized("nf4", Dtype::bf16, config::Quantization::nf4),
                                quantized("fp4 exact", Dtype::bf16, config::Quantization::fp4),
                                quantized("nf4 int8", Dtype::bf16, config::Quantization::nf4)};
  cases.push_back({"bfloat16, 8-bit cache", plan::Formats::dense(Dtype::bf16)});
  cases.back().formats.kv_dtype = Dtype::i8;
  cases[2].formats.int8_row_outliers = true;
  cases[3].chunks = false;
  cases[5].formats.exact = true;
  cases[6].formats.bytes = true;
  for (const Dtype compute : {Dtype::f16, Dtype::f32}) {
    cases.push_back(
        quantized("nf4 exact, in another dtype than the model's", Dtype::bf16, config::Quantization::nf4));
    cases.back().formats.exact = true;
    cases.back().formats.compute = compute;
  }
  return cases;
}

std::vector<FormatCase> ternary_cases(Dtype dtype) {
  std::vector<FormatCase> cases{{"ternary fast", plan::Formats::dense(dtype)},
                                {"ternary exact", plan::Formats::dense(dtype)}};
  cases[1].formats.exact = true;
  return cases;
}

class Matrix {
 public:
  void run(const std::string& model, const std::string& directory, const std::vector<FormatCase>& formats) {
    for (const FormatCase& format : formats) {
      what_ = model + ", " + format.name;
      run(directory, format);
    }
  }
  size_t cells() const { return cells_; }

 private:
  void run(const std::string& directory, const FormatCase& format) {
    std::vector<std::vector<uint32_t>> prompts;
    std::vector<Answer> expected;
    for (uint32_t threads = 1; threads <= 3; ++threads) {
      LoadedModel model(directory, format.formats, threads, kChunk, {}, 64);
      if (prompts.empty())
        for (const size_t length : {21, 4})
          prompts.push_back(some_ids(length, model.architecture.spec.vocab_size, length));
      for (size_t i = 0; i < prompts.size(); ++i) {
        const Answer answer = alone(model, prompts[i], kChunk);
        if (threads == 1)
          expected.push_back(answer);
        else
          compare(answer, expected[i], threads, "alone");
        if (threads == 3) continue;  // more threads than most machines' cores: slow, and little to tell
        compare(speculated(model, prompts[i], expected[i].ids), expected[i], threads, "speculated");
        if (!format.chunks) continue;
        compare(alone(model, prompts[i], 7), expected[i], threads, "chunks of 7");
      }
      const std::vector<Answer> together = batched(model, prompts);
      for (size_t i = 0; i < prompts.size(); ++i) compare(together[i], expected[i], threads, "batched");
    }
  }

  void compare(const Answer& found, const Answer& expected, uint32_t threads, const char* way) {
    ++cells_;
    EXPECT_TRUE(found.same_bits(expected)) << what_ << ", " << threads << " threads, " << way;
  }

  std::string what_;
  size_t cells_ = 0;
};

// One fixture a family, the first without a rotary table that depends on the length; all of BitNet's.
std::vector<std::string> fixtures() {
  std::vector<std::string> chosen;
  std::string family;
  for (const std::string& name : golden_fixtures()) {
    const std::string its = name.substr(0, name.find('-'));
    if (its == family && its != "bitnet") continue;
    chosen.push_back(name);
    family = its;
  }
  return chosen;
}

// Columns in whole blocks of 64: four bits by fixed point, which the fixtures' odd shapes never reach; and
// more of them than a step takes in any format.
const std::string kBlocks = R"({"model_type":"llama","hidden_size":128,"num_hidden_layers":2,
  "num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":1088,"vocab_size":211,"hidden_act":"silu",
  "rms_norm_eps":1e-5,"max_position_embeddings":512})";
const std::string kBlocksWithWindows = R"({"model_type":"gemma2","hidden_size":64,"num_hidden_layers":2,
  "num_attention_heads":4,"num_key_value_heads":1,"head_dim":32,"intermediate_size":256,"vocab_size":131,
  "hidden_activation":"gelu_pytorch_tanh","rms_norm_eps":1e-6,"max_position_embeddings":512,"sliding_window":8,
  "query_pre_attn_scalar":32,"attn_logit_softcapping":50.0,"final_logit_softcapping":30.0})";

TEST(InvarianceMatrix, EveryCellHasTheSameBits) {
  Matrix matrix;
  for (const std::string& name : fixtures()) {
    const arch::Architecture architecture = arch::read_architecture(golden_directory(name));
    const bool ternary = architecture.spec.linear != arch::LinearKind::dense;
    matrix.run(name, golden_directory(name),
               ternary ? ternary_cases(architecture.spec.dtype.value_or(Dtype::f32)) : dense_cases());
  }
  for (const std::string& config : {kBlocks, kBlocksWithWindows}) {
    const testing::Scratch scratch;
    testing::make_checkpoint(scratch.path().string(), config, 3);
    matrix.run(config.substr(0, 24), scratch.path().string(), dense_cases());
  }
  std::printf("counted: %zu cells bit for bit the same: the invariance matrix\n", matrix.cells());
  EXPECT_GE(matrix.cells(), 200u);
}

}  // namespace
}  // namespace rhapsode
