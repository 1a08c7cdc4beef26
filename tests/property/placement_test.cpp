// A model spread over devices computes the same bits as on one, wherever its parts lie, and no device ever
// holds more than the plan says.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <thread>

#include "model/places.h"
#include "models/golden_model.h"
#include "plan/units.h"
#include "runtime/generate.h"
#include "support/scratch.h"

namespace rhapsode {
namespace {

using config::DeviceName;
using Kind = config::DeviceName::Kind;

constexpr uint64_t kContext = 64;
constexpr uint32_t kChunk = 16;

// The model of a fixture on two GPUs, a cpu and a disk.
class Spread {
 public:
  Spread(const LoadedModel& model, plan::Formats formats)
      : model_(model), pool_(2), dtype_(formats.dtype), formats_(std::move(formats)) {
    const arch::Spec& spec = model.architecture.spec;
    limits_ = {kContext, kChunk, kChunk, 2, plan::tile_shape(model.device.kernels())};
    problem_.units = plan::model_units({&spec, &model.tensors, &formats_, limits_, 1});
    problem_.devices = {{{Kind::gpu, 0}, UINT64_MAX, 0, false},
                        {{Kind::gpu, 1}, UINT64_MAX, 0, false},
                        {{Kind::cpu, 0}, UINT64_MAX, 0, true},
                        {{Kind::disk, 0}, UINT64_MAX, 0, true}};
    problem_.head_workspace_bytes = plan::workspace_bytes(spec, limits_);
    plan::StepLimits steps = limits_;
    steps.logits_rows = 0;
    problem_.step_workspace_bytes = plan::workspace_bytes(spec, steps);
    problem_.staging_slack_bytes = 4096;
  }

  size_t units() const { return problem_.units.size(); }

  // Logits of a prompt in two chunks with `home`; each device is limited to what the plan counts for it.
  // `between` is called before the last pass.
  std::vector<float> logits(const std::vector<size_t>& home, const std::vector<uint32_t>& ids,
                            size_t buffers = 2, const std::function<void()>& between = {},
                            const std::string& packed_cache = {}) {
    const plan::Placement placement = plan::account(problem_, home, buffers);
    std::vector<std::unique_ptr<devices::Device>> devices;
    for (size_t d = 0; d < 3; ++d)
      devices.push_back(std::make_unique<devices::Device>(
          placement.devices[d].name, placement.devices[d].total_bytes(), model_.device.kernels()));
    const model::Places places = model::places_of(problem_.units, placement, devices);
    const arch::Spec& spec = model_.architecture.spec;
    std::vector<float> out;
    {
      model::Weights weights =
          model::load_weights(spec, model_.tensors, model_.checkpoint, formats_, places.weights, pool_,
                              {.progress = {}, .packed_cache = packed_cache});
      model::KvCache cache(spec, dtype_, plan::kv_blocks(kContext), places.exec.layers);
      model::Decoder decoder(spec, weights, places.exec, pool_, cache, limits_);
      out = run(decoder, ids, between);
    }
    for (size_t d = 0; d < 3; ++d) {
      EXPECT_LE(devices[d]->peak_bytes(), placement.devices[d].total_bytes());
      EXPECT_EQ(devices[d]->used_bytes(), 0u);
    }
    return out;
  }

  static std::vector<float> run(model::Decoder& decoder, const std::vector<uint32_t>& ids,
                                const std::function<void()>& between = {}) {
    model::Sequence sequence;
    std::vector<float> out;
    for (const auto& [begin, count] : {std::pair<size_t, size_t>{0, 9}, {9, 1}, {10, ids.size() - 10}}) {
      if (begin == 10 && between) between();
      const model::Span span{&sequence, std::span(ids).subspan(begin, count), static_cast<uint32_t>(count),
                             ids.size()};
      decoder.forward({&span, 1});
      for (uint32_t row = 0; row < count; ++row) {
        const auto values = decoder.logits(row);
        out.insert(out.end(), values.begin(), values.end());
      }
    }
    decoder.cache().release(sequence);
    return out;
  }

 private:
  const LoadedModel& model_;
  ThreadPool pool_;
  Dtype dtype_;
  plan::Formats formats_;
  plan::StepLimits limits_;
  plan::PlacementProblem problem_;
};

TEST(Placement, BitEqualWhereverPartsLie) {
  std::mt19937 random(7);
  size_t maps = 0;
  for (const std::string& fixture : golden_fixtures()) {
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
      LoadedModel model(golden_directory(fixture), dtype, 1, kChunk, {}, kContext);
      std::vector<uint32_t> ids;
      for (uint32_t i = 0; i < 20; ++i)
        ids.push_back(static_cast<uint32_t>(random() % model.architecture.spec.vocab_size));
      const std::vector<float> alone = Spread::run(model.decoder, ids);
      Spread spread(model, model.formats);
      for (int map = 0; map < 6; ++map) {
        std::vector<size_t> home(spread.units());
        for (size_t& device : home) device = map < 2 ? 2 + (random() % 2) : random() % 4;
        if (map == 0) home.assign(spread.units(), 3);
        const size_t buffers = 1 + map % 2;
        ASSERT_TRUE(spread.logits(home, ids, buffers) == alone) << fixture << " map " << map;
        ++maps;
      }
    }
  }
  EXPECT_GE(maps, 300u);
}

TEST(Placement, QuantizedWeightsAreBitEqualWhereverTheyLie) {
  std::mt19937 random(11);
  for (const std::string& fixture : golden_fixtures()) {
    LoadedModel model(golden_directory(fixture), Dtype::bf16, 1, kChunk, {}, kContext);
    std::vector<uint32_t> ids;
    for (uint32_t i = 0; i < 20; ++i)
      ids.push_back(static_cast<uint32_t>(random() % model.architecture.spec.vocab_size));
    plan::Formats formats = plan::Formats::dense(Dtype::bf16);
    formats.skipped = {model.tensors.lm_head.parts.front().module};
    for (const auto quantization : {config::Quantization::int8, config::Quantization::nf4}) {
      formats.quantization = quantization;
      Spread spread(model, formats);
      const std::vector<float> alone = spread.logits(std::vector<size_t>(spread.units(), 0), ids);
      for (int map = 0; map < 2; ++map) {
        std::vector<size_t> home(spread.units());
        for (size_t& device : home) device = random() % 4;
        ASSERT_TRUE(spread.logits(home, ids) == alone) << fixture << " map " << map;
      }
    }
  }
}

// What happens to a file of weights on disk while they are used ends the request, never the process; and what
// happens to its name happens to nobody.
TEST(Placement, AFileThatChangesWhileItIsUsedEndsTheRequest) {
  const testing::Scratch scratch;
  const std::filesystem::path file = scratch.path() / "model.safetensors";
  const std::string whole = golden_directory("llama-gqa");
  const auto restore = [&] {
    for (const char* name : {"config.json", "model.safetensors"})
      std::filesystem::copy_file(whole + "/" + name, scratch.path() / name,
                                 std::filesystem::copy_options::overwrite_existing);
  };
  const std::vector<uint32_t> ids = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  const auto answer = [&](const std::function<void()>& between) {
    restore();
    LoadedModel model(scratch.path().string(), Dtype::f32, 1, kChunk, {}, kContext);
    Spread spread(model, plan::Formats::dense(Dtype::f32));
    return spread.logits(std::vector<size_t>(spread.units(), 3), ids, 2, between);
  };
  const std::vector<float> expected = answer({});
  const uint64_t bytes = std::filesystem::file_size(file);
  for (uint64_t left = 0; left < bytes; left += 4096) {
    const auto error = testing::error_of([&] { answer([&] { std::filesystem::resize_file(file, left); }); });
    ASSERT_TRUE(error) << "cut at " << left;
    EXPECT_EQ(error->kind, ErrorKind::integrity) << "cut at " << left;
    EXPECT_EQ(error->file, file.string());
  }
  const auto written_over = testing::error_of([&] {
    answer([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));  // file systems keep time in coarse steps
      std::fstream out(file, std::ios::in | std::ios::out | std::ios::binary);
      out.seekp(static_cast<std::streamoff>(bytes - 4));
      out.write("abcd", 4);
    });
  });
  ASSERT_TRUE(written_over);
  EXPECT_EQ(written_over->code, "checkpoint-changed");
  EXPECT_EQ(answer([&] { std::filesystem::remove(file); }), expected);
  EXPECT_EQ(answer([&] {
              std::filesystem::rename(file, scratch.path() / "old");
              std::ofstream(file) << "another file";
            }),
            expected);
}

// The one kind of file that is mapped: weights that were quantized once.
TEST(Placement, APackedCacheThatIsCutShortWhileItIsUsedEndsTheRequest) {
  const testing::Scratch scratch;
  const std::string packed = scratch.file("packed");
  runtime::Settings settings;
  settings.config.file =
      scratch.put("rag.yaml", "generator:\n  active_model: tiny\n  models:\n    tiny:\n      model_id: \"" +
                                  golden_directory("llama-gqa") + "\"\n      quantization: 4bit\n");
  settings.packed_cache = [&](const config::ModelEntry&) { return packed; };
  settings.tokenizer = false;
  runtime::GenerateRequest request;
  request.prompt_ids = {1, 2, 3, 4, 5};
  request.params.do_sample = false;
  request.params.max_new_tokens = request.params.min_new_tokens = 6;
  std::vector<uint32_t> expected;
  for (int start = 0; start < 3; ++start) {  // packed, mapped and cut short, packed anew
    const runtime::Assembly assembly = runtime::assemble(settings);
    runtime::Session session(assembly, runtime::make_plan(assembly, kContext), 1, nullptr);
    const auto answer = [&] { return runtime::generate(session, request).sequences.front().ids; };
    if (start == 0) expected = answer();
    ASSERT_EQ(answer(), expected) << "start " << start;
    if (start != 1) continue;
    for (const auto& file : std::filesystem::directory_iterator(packed))
      std::filesystem::resize_file(file.path(), 4096);
    for (int again = 0; again < 2; ++again) {
      const auto error = testing::error_of(answer);
      ASSERT_TRUE(error);
      EXPECT_EQ(error->code, "file-truncated");
      EXPECT_EQ(error->kind, ErrorKind::integrity);
    }
  }
}

// Blocks that are quantized lie in the packed cache, where there is one, a file each: they are quantized
// once.
class KeptBlocks : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"config.json", "model.safetensors"})
      std::filesystem::copy_file(golden_directory("llama-gqa") + "/" + name, scratch_.path() / name);
    model_ = std::make_unique<LoadedModel>(scratch_.path().string(), Dtype::bf16, 1, kChunk,
                                           std::string_view{}, kContext);
    formats_ = plan::Formats::dense(Dtype::bf16);
    formats_.skipped = {model_->tensors.lm_head.parts.front().module};
    formats_.quantization = config::Quantization::nf4;
  }
  // Of a model whose units lie on this device: 2 is the cpu, 3 the disk. With one buffer each pass brings all
  // blocks anew.
  std::vector<float> answer(size_t home, const std::function<void()>& between = {}, size_t buffers = 2) {
    Spread spread(*model_, formats_);
    std::vector<size_t> homes(spread.units(), home);
    homes.back() = 0;  // so that a GPU computes
    return spread.logits(homes, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, buffers, between, packed_);
  }
  std::vector<float> plain() {
    Spread spread(*model_, formats_);
    return spread.logits(std::vector<size_t>(spread.units(), 0), {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  }
  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> out;
    for (const auto& file : std::filesystem::directory_iterator(packed_)) out.push_back(file.path());
    std::sort(out.begin(), out.end());
    return out;
  }
  static std::string bytes_of(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::vector<std::string> contents() const {
    std::vector<std::string> out;
    for (const auto& file : files()) out.push_back(bytes_of(file));
    return out;
  }
  static void flip_last_byte(const std::filesystem::path& file) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(-1, std::ios::end);
    const char byte = static_cast<char>(stream.get() ^ 1);
    stream.seekp(-1, std::ios::end);
    stream.put(byte);
  }
  // The blocks of the checkpoint become zeros, and nobody can tell by its name, size and time.
  void empty_blocks_unseen() const {
    const std::filesystem::path file = scratch_.path() / "model.safetensors";
    const auto time = std::filesystem::last_write_time(file);
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    for (const auto& [name, tensor] : model_->checkpoint.tensors()) {
      if (name.find(".layers.") == std::string::npos) continue;
      stream.seekp(static_cast<std::streamoff>(tensor.offset_bytes));
      stream << std::string(tensor.length_bytes, '\0');
    }
    stream.close();
    std::filesystem::last_write_time(file, time);
  }

  testing::Scratch scratch_;
  std::string packed_ = scratch_.file("packed");
  std::unique_ptr<LoadedModel> model_;
  plan::Formats formats_;
};

TEST_F(KeptBlocks, AreReadInsteadOfTheCheckpoint) {
  const std::vector<float> expected = plain();
  ASSERT_EQ(answer(3), expected);
  EXPECT_EQ(files().size(), model_->tensors.layers.size());
  ASSERT_EQ(answer(3), expected);
  ASSERT_EQ(answer(2), expected) << "a block on the cpu is the same as on disk";
  EXPECT_EQ(files().size(), model_->tensors.layers.size());
  empty_blocks_unseen();
  EXPECT_EQ(answer(2), expected);
  EXPECT_EQ(answer(3), expected);
  packed_.clear();
  EXPECT_NE(answer(3), expected) << "blocks of zeros";
}

TEST_F(KeptBlocks, DamageIsNoticedAndMadeAnew) {
  const std::vector<float> expected = answer(3);
  const std::vector<std::filesystem::path> kept = files();
  const std::vector<std::string> before = contents();
  const auto expect_whole = [&](const char* what) {
    ASSERT_EQ(files(), kept) << what;
    EXPECT_TRUE(contents() == before) << what;
  };
  for (const size_t home : {2, 3}) {
    for (const auto& file : kept) flip_last_byte(file);
    EXPECT_EQ(answer(home), expected);
    expect_whole("a byte");
    for (const auto& file : kept) std::filesystem::resize_file(file, 5000);
    EXPECT_EQ(answer(home), expected);
    expect_whole("cut");
  }
}

TEST_F(KeptBlocks, MayChangeWhileTheyAreUsed) {
  const std::vector<float> expected = answer(3);
  const std::vector<std::string> before = contents();
  const auto after = [&](const std::function<void(const std::filesystem::path&)>& change) {
    const auto change_all = [&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));  // file systems keep time in coarse steps
      for (const auto& file : files()) change(file);
    };
    return answer(3, change_all, 1);
  };
  EXPECT_EQ(after([](const auto& file) { flip_last_byte(file); }), expected);
  EXPECT_TRUE(contents() == before) << "a byte";
  EXPECT_EQ(after([](const auto& file) { std::filesystem::resize_file(file, 4096); }), expected);
  EXPECT_TRUE(contents() == before) << "cut";
  EXPECT_EQ(after([](const auto& file) { std::filesystem::resize_file(file, 0); }), expected);
  EXPECT_TRUE(contents() == before) << "empty";
  EXPECT_EQ(after([](const auto& file) { std::filesystem::remove(file); }), expected);
  EXPECT_TRUE(files().empty()) << "what was opened is still read";
}

}  // namespace
}  // namespace rhapsode
