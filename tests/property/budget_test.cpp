// Budgets from far too small to ample: a request either runs within every device's limit and gives the answer
// that it gives without limits, or is refused at once, with limits and changes that do.
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "models/golden_model.h"
#include "runtime/generate.h"
#include "support/scratch.h"

namespace rhapsode {
namespace {

constexpr uint64_t kAnswerTokens = 6;
constexpr double kMostRefusalSeconds = 1.0;

enum class Topology { cpu, gpu, two_gpus, gpu_and_cpu, two_gpus_cpu_and_disk, cpu_and_disk };

struct Case {
  std::string fixture;
  std::string format;  // lines of the entry
  Topology topology;
  std::string strategy;
};

// A machine with about so many bytes; each device that computes needs a workspace of its own, which is most
// of a tiny model.
config::Machine machine_of(Topology topology, uint64_t bytes) {
  switch (topology) {
    case Topology::cpu:
    case Topology::cpu_and_disk:
      return {{}, bytes, std::nullopt};
    case Topology::gpu:
      return {{bytes}, bytes, std::nullopt};
    case Topology::two_gpus:
      return {{bytes * 3 / 4, bytes * 4 / 5}, bytes, std::nullopt};
    case Topology::gpu_and_cpu:
      return {{bytes * 9 / 10}, bytes / 3 + 1, std::nullopt};
    case Topology::two_gpus_cpu_and_disk:
      return {{bytes * 3 / 4, bytes * 3 / 4}, bytes / 8 + 1, std::nullopt};
  }
  return {};
}

std::vector<std::string> listed_lines(Topology topology, const config::Machine& machine) {
  std::string lines = "max_memory: {";
  for (size_t i = 0; i < machine.gpu_bytes.size(); ++i)
    lines += std::to_string(i) + ": " + std::to_string(machine.gpu_bytes[i]) + ", ";
  lines += "cpu: " + std::to_string(*machine.cpu_bytes);
  const bool disk = topology == Topology::two_gpus_cpu_and_disk || topology == Topology::cpu_and_disk;
  const bool spills = disk || topology == Topology::gpu_and_cpu;
  if (!spills) return {};
  return {lines + (disk ? ", disk: \"1000GB\"}" : "}")};
}

// The product's own path on a tiny model: config, plan, session, answer.
class Served {
 public:
  Served(const Case& asked, const std::vector<std::string>& lines, const config::Machine& machine,
         const std::vector<std::string>& sets = {}) {
    std::string yaml = "generator:\n  active_model: tiny\n  models:\n    tiny:\n      model_id: \"" +
                       golden_directory(asked.fixture) + "\"\n      device_map: " + asked.strategy + "\n" +
                       asked.format;
    for (const std::string& line : lines) yaml += "      " + line + "\n";
    runtime::Settings settings;
    settings.config.file = scratch_.put("rag.yaml", yaml);
    settings.config.sets = sets;
    settings.machine = machine;
    settings.threads = 2;
    settings.tokenizer = false;
    assembly_ = std::make_unique<runtime::Assembly>(runtime::assemble(settings));
    request_.params.max_new_tokens = kAnswerTokens;
    request_.params.min_new_tokens = kAnswerTokens;
    for (uint32_t i = 0; i < 24; ++i)
      request_.prompt_ids.push_back(
          static_cast<uint32_t>(i * 7919 % assembly_->architecture.spec.vocab_size));
    const runtime::RequestSize size =
        runtime::request_size(request_, assembly_->architecture.spec.vocab_size);
    plan_ = runtime::make_plan(*assembly_, size.context_tokens, size.sequences, size.logits_rows,
                               std::nullopt, size.choice_bytes);
  }

  const plan::Plan& plan() const { return plan_; }

  // The answer; every device stays within what the plan says.
  std::vector<uint32_t> answer() const {
    runtime::Session session(*assembly_, plan_, 1, nullptr);
    const std::vector<uint32_t> ids = runtime::generate(session, request_).sequences.front().ids;
    for (size_t d = 0; d < session.devices().size(); ++d) {
      EXPECT_LE(session.devices()[d]->peak_bytes(), plan_.devices[d].total_bytes());
      EXPECT_LE(plan_.devices[d].total_bytes(), plan_.devices[d].limit_bytes);
    }
    return ids;
  }

 private:
  testing::Scratch scratch_;
  std::unique_ptr<runtime::Assembly> assembly_;
  runtime::GenerateRequest request_;
  plan::Plan plan_;
};

// Everything on a cpu without limits.
Served unlimited(const Case& asked) {
  return {{asked.fixture, asked.format, Topology::cpu, "auto"}, {}, {{}, 1'000'000'000'000, std::nullopt}};
}

// What a refusal offers holds: the limits that it names, and the first change that it says to fit.
void expect_workable(const Case& asked, const Served& refused, const config::Machine& machine,
                     const std::vector<uint32_t>& expected, const std::string& what) {
  ASSERT_FALSE(refused.plan().workable_limits.empty()) << what;
  config::Machine larger = machine;
  for (const auto& [device, bytes] : refused.plan().workable_limits) {
    if (device == "cpu")
      larger.cpu_bytes = bytes;
    else
      larger.gpu_bytes.at(std::stoul(device)) = bytes;
  }
  const Served enough(asked, listed_lines(asked.topology, larger), larger);
  ASSERT_TRUE(enough.plan().fits) << what;
  EXPECT_EQ(enough.answer(), expected) << what;
  for (const plan::Change& change : refused.plan().changes) {
    if (!change.fits) continue;
    const Served changed(asked, listed_lines(asked.topology, machine), machine, change.set);
    ASSERT_TRUE(changed.plan().fits) << what << ": " << change.what;
    EXPECT_EQ(plan::total_bytes(changed.plan()), change.total_bytes) << what << ": " << change.what;
    changed.answer();
    break;
  }
}

TEST(Budgets, EachRunsWithinItsLimitsOrIsRefusedAtOnceWithOnesThatDo) {
  constexpr int kBudgets = 200;
  const std::vector<std::string> fixtures = golden_fixtures();
  const std::vector<std::string> formats = {"      torch_dtype: float32\n", "      torch_dtype: bfloat16\n",
                                            "      quantization: 8bit\n", "      quantization: 4bit\n"};
  const std::vector<std::string> strategies = {"auto", "sequential", "balanced_low_0"};
  std::mt19937 random(29);
  int ran = 0, refused = 0;
  double slowest = 0;
  for (int i = 0; i < kBudgets; ++i) {
    Case asked;
    asked.fixture = fixtures[random() % fixtures.size()];
    // Checkpoints that hold their own format take no other.
    const bool stored = asked.fixture.starts_with("bitnet") || asked.fixture.starts_with("llama-bnb") ||
                        asked.fixture.starts_with("llama-gptq") || asked.fixture.starts_with("llama-awq");
    asked.format = formats[random() % (stored ? 2 : 4)];
    asked.topology = static_cast<Topology>(i % 6);
    asked.strategy = strategies[random() % strategies.size()];
    const double share = 0.3 + 1.2 * i / (kBudgets - 1);
    const Served free = unlimited(asked);
    const auto need = static_cast<double>(plan::total_bytes(free.plan()));
    const config::Machine machine = machine_of(asked.topology, static_cast<uint64_t>(share * need));
    const std::string what = asked.fixture + asked.format + " budget " + std::to_string(i);
    const auto start = std::chrono::steady_clock::now();
    const Served limited(asked, listed_lines(asked.topology, machine), machine);
    if (limited.plan().fits) {
      ++ran;
      ASSERT_EQ(limited.answer(), free.answer()) << what;
      continue;
    }
    ++refused;
    const auto error = testing::error_of([&] { plan::require_fit(limited.plan()); });
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    slowest = std::max(slowest, took.count());
    ASSERT_TRUE(error && error->kind == ErrorKind::does_not_fit) << what;
    EXPECT_LT(took.count(), kMostRefusalSeconds) << what;
    expect_workable(asked, limited, machine, free.answer(), what);
    if (HasFatalFailure()) return;
  }
  EXPECT_GE(ran, 50);
  EXPECT_GE(refused, 50);
  RecordProperty("ran", ran);
  RecordProperty("refused", refused);
  std::cout << ran << " ran within their limits, " << refused << " were refused, the slowest in "
            << slowest * 1e3 << " ms\n";
}

}  // namespace
}  // namespace rhapsode
