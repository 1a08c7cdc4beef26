// Alone == batched == chunked == on any number of threads == on any kernel set, bit for bit.
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "models/golden_model.h"

namespace rhapsode {
namespace {

std::vector<uint32_t> some_ids(size_t count, uint64_t vocab, uint64_t seed) {
  std::vector<uint32_t> ids;
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    ids.push_back(static_cast<uint32_t>((seed >> 33) % vocab));
  }
  return ids;
}

// By bitsandbytes' own rule, outlier columns are those of a whole call: chunks and batches would differ.
constexpr bool kRowOutliers = true;

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class Invariance : public testing::TestWithParam<std::string> {
 protected:
  std::vector<float> run(Dtype dtype, uint32_t threads, uint32_t chunk, std::string_view isa = {}) {
    LoadedModel model(golden_directory(GetParam()), dtype, threads, chunk, isa, 128, true, kRowOutliers);
    return model.logits(some_ids(90, model.architecture.spec.vocab_size, 7));
  }
};

TEST_P(Invariance, ThreadsAndChunks) {
  struct Cell {
    uint32_t threads, chunk;
  };
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    const std::vector<float> whole = run(dtype, 1, 256);
    for (const Cell cell : {Cell{2, 256}, Cell{1, 1}, Cell{3, 7}, Cell{2, 64}})
      EXPECT_TRUE(same_bits(run(dtype, cell.threads, cell.chunk), whole))
          << torch_name(dtype) << " threads " << cell.threads << " chunk " << cell.chunk;
  }
}

// So many tokens are multiplied in parts, one for each thread; those of int8 share their outlier columns.
void expect_parts_of_the_whole(const std::string& fixture, std::string_view isa) {
  for (const config::Quantization kind :
       {config::Quantization::none, config::Quantization::int8, config::Quantization::nf4}) {
    plan::Formats formats = plan::Formats::dense(Dtype::bf16);
    formats.quantization = kind;
    const auto run_on = [&](uint32_t threads) {
      LoadedModel model(golden_directory(fixture), formats, threads, 320, isa, 320);
      return model.logits(some_ids(311, model.architecture.spec.vocab_size, 3));
    };
    const std::vector<float> alone = run_on(1);
    for (const uint32_t threads : {2u, 3u})
      EXPECT_TRUE(same_bits(run_on(threads), alone)) << static_cast<int>(kind) << " threads " << threads;
  }
}

TEST_P(Invariance, PartsOfLongPrompts) {
  expect_parts_of_the_whole(GetParam(), {});
}

// In scalar code, so of one family.
TEST(InvarianceOfTiles, PartsOfLongPrompts) {
  expect_parts_of_the_whole(golden_fixtures().front(), "reference-amx");
}

// The reference of a set.
std::string_view reference_of(const kernels::Kernels& kernels) {
  return kernels.matrix != nullptr ? "reference-amx" : "reference";
}

TEST_P(Invariance, KernelSets) {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
    std::map<std::string_view, std::vector<float>> references;
    for (const std::string_view name : {"reference", "reference-amx"})
      references[name] = run(dtype, 1, 64, name);
    for (const kernels::KernelSet& set : kernels::kernel_sets()) {
      if (!set.supported || references.contains(set.kernels->name)) continue;
      EXPECT_TRUE(same_bits(run(dtype, 2, 64, set.kernels->name), references[reference_of(*set.kernels)]))
          << torch_name(dtype) << " " << set.kernels->name;
    }
  }
}

TEST_P(Invariance, KernelSetsWithAnEightBitCache) {
  const auto run_with = [&](std::string_view isa, uint32_t chunk) {
    plan::Formats formats = plan::Formats::dense(Dtype::bf16);
    formats.kv_dtype = Dtype::i8;
    formats.int8_row_outliers = kRowOutliers;
    LoadedModel model(golden_directory(GetParam()), formats, 2, chunk, isa, 128);
    return model.logits(some_ids(90, model.architecture.spec.vocab_size, 7));
  };
  std::map<std::string_view, std::vector<float>> references;
  for (const std::string_view name : {"reference", "reference-amx"}) references[name] = run_with(name, 64);
  for (const kernels::KernelSet& set : kernels::kernel_sets()) {
    if (!set.supported) continue;
    EXPECT_TRUE(same_bits(run_with(set.kernels->name, 16), references[reference_of(*set.kernels)]))
        << set.kernels->name;
  }
}

TEST_P(Invariance, Batch) {
  LoadedModel model(golden_directory(GetParam()), Dtype::bf16, 2, 64, {}, 512, true, kRowOutliers);
  const uint64_t vocab = model.architecture.spec.vocab_size;
  const std::vector<uint32_t> prompts[] = {some_ids(5, vocab, 1), some_ids(17, vocab, 2),
                                           some_ids(1, vocab, 3)};
  std::vector<std::vector<float>> alone;
  for (const auto& ids : prompts) alone.push_back(model.logits(ids));
  model::Sequence sequences[3];
  std::vector<model::Span> spans;
  for (size_t i = 0; i < 3; ++i)
    spans.push_back({&sequences[i], prompts[i], static_cast<uint32_t>(prompts[i].size())});
  model.decoder.forward(spans);
  uint32_t row = 0;
  for (size_t i = 0; i < 3; ++i) {
    std::vector<float> batched;
    for (size_t t = 0; t < prompts[i].size(); ++t, ++row) {
      const auto values = model.decoder.logits(row);
      batched.insert(batched.end(), values.begin(), values.end());
    }
    EXPECT_TRUE(same_bits(batched, alone[i])) << "member " << i;
    model.cache.release(sequences[i]);
  }
}

TEST_P(Invariance, LongContextDecodesAsItPrefills) {
  LoadedModel model(golden_directory(GetParam()), Dtype::f32, 2, 256, {}, 1100, true, kRowOutliers);
  if (model::depends_on_length(model.architecture.spec.rope_tables.front()))
    GTEST_SKIP() << "keys keep their step's base";
  const std::vector<uint32_t> ids = some_ids(1060, model.architecture.spec.vocab_size, 11);
  const std::vector<float> whole = model.logits(ids);
  model::Sequence sequence;
  model.decoder.prefill(sequence, std::span(ids).first(1055));
  const size_t vocab = model.architecture.spec.vocab_size;
  for (size_t i = 1055; i < ids.size(); ++i) {
    const model::Span span{&sequence, std::span(ids).subspan(i, 1), 1};
    model.decoder.forward({&span, 1});
    ASSERT_EQ(std::memcmp(model.decoder.logits(0).data(), &whole[i * vocab], vocab * sizeof(float)), 0) << i;
  }
}

TEST_P(Invariance, ForkedSequencesDoNotDisturbEachOther) {
  LoadedModel model(golden_directory(GetParam()), Dtype::f32, 2, 64, {}, 512, true, kRowOutliers);
  const uint64_t vocab = model.architecture.spec.vocab_size;
  const std::vector<uint32_t> prompt = some_ids(70, vocab, 5), tail_a = some_ids(9, vocab, 6),
                              tail_b = some_ids(9, vocab, 8);
  const auto continue_with = [&](model::Sequence& sequence, const std::vector<uint32_t>& tail) {
    const model::Span span{&sequence, tail, 1};
    model.decoder.forward({&span, 1});
    const auto row = model.decoder.logits(0);
    return std::vector<float>(row.begin(), row.end());
  };
  model::Sequence a;
  model.decoder.prefill(a, prompt);
  model::Sequence b = model.cache.fork(a);
  const std::vector<float> of_a = continue_with(a, tail_a), of_b = continue_with(b, tail_b);
  model.cache.truncate(a, prompt.size());
  EXPECT_TRUE(same_bits(continue_with(a, tail_b), of_b));
  model.cache.truncate(b, prompt.size());
  EXPECT_TRUE(same_bits(continue_with(b, tail_a), of_a));
  model.cache.release(a);
  model.cache.release(b);
  EXPECT_EQ(model.cache.free_blocks(), 8 * plan::kv_blocks(512));
}

std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(Families, Invariance, testing::ValuesIn(golden_fixtures()), test_name);

}  // namespace
}  // namespace rhapsode
