// Maps that a user wrote: the longest prefix wins, nothing is left out, no block is split, every device is
// there.
#include <gtest/gtest.h>

#include <algorithm>

#include "arch/registry.h"
#include "models/golden_model.h"
#include "plan/device_map.h"
#include "plan/units.h"
#include "support/scratch.h"

namespace rhapsode::plan {
namespace {

using config::DeviceName;
using Kind = DeviceName::Kind;
using Written = std::vector<std::pair<std::string, DeviceName>>;

const DeviceName kFirst{Kind::gpu, 0}, kSecond{Kind::gpu, 1}, kCpu{Kind::cpu, 0}, kDisk{Kind::disk, 0};

struct Mapped {
  std::vector<size_t> homes;  // embedding, blocks, norm, head; 0 and 1 are GPUs, 2 the cpu, 3 the disk
  std::vector<Downgrade> notes;
};

Mapped mapped(const std::string& fixture, config::DeviceMap map) {
  arch::Architecture architecture = arch::read_architecture(golden_directory(fixture));
  const Checkpoint checkpoint = Checkpoint::open(golden_directory(fixture));
  const arch::ModelTensors tensors = arch::bind_tensors(architecture, checkpoint);
  const Formats formats = Formats::dense(Dtype::f32);
  PlacementProblem problem;
  problem.units = model_units({&architecture.spec, &tensors, &formats, {64, 16, 1, 1, 1}, 1});
  for (const DeviceName& name : {kFirst, kSecond, kCpu, kDisk})
    problem.devices.push_back({name, 1 << 30, 0, false});
  config::ModelEntry entry;
  entry.device_map = config::Value<config::DeviceMap>{std::move(map), {"rag.yaml", 7, 3, ""}};
  Mapped out;
  out.homes = mapped_homes(entry, architecture.spec, tensors, problem, out.notes);
  return out;
}

Error refusal(const std::string& fixture, config::DeviceMap map) {
  const auto error = testing::error_of([&] { mapped(fixture, map); });
  EXPECT_TRUE(error);
  return error.value_or(Error(ErrorKind::runtime, "", ""));
}

TEST(DeviceMap, OneDeviceTakesEverything) {
  const Mapped all = mapped("llama-mqa", kSecond);
  EXPECT_EQ(all.homes, std::vector<size_t>(all.homes.size(), 1));
}

TEST(DeviceMap, TheLongestPrefixWinsAndTheEmptyOneCoversTheRest) {
  const Mapped map =
      mapped("llama-mqa",
             Written{{"", kFirst}, {"model.layers", kCpu}, {"model.layers.1", kDisk}, {"lm_head", kSecond}});
  EXPECT_EQ(map.homes, (std::vector<size_t>{0, 2, 3, 2, 0, 1}));
  EXPECT_TRUE(map.notes.empty());
}

TEST(DeviceMap, APrefixEndsAtADot) {
  const Error error = refusal("llama-mqa", Written{{"model.embed_tokens", kFirst},
                                                   {"model.layers.0", kFirst},
                                                   {"model.layers.1", kFirst},
                                                   {"model.layer", kFirst},
                                                   {"model.norm", kFirst},
                                                   {"lm_head", kFirst}});
  EXPECT_EQ(error.kind, ErrorKind::config);
  EXPECT_EQ(error.code, "device-map-incomplete");
  EXPECT_NE(error.found.find("model.layers.2."), std::string::npos) << error.found;
  EXPECT_EQ(error.line, 7u);
}

TEST(DeviceMap, ABlockIsNotSplit) {
  const Error error = refusal("llama-mqa", Written{{"", kFirst}, {"model.layers.1.mlp", kCpu}});
  EXPECT_EQ(error.kind, ErrorKind::unsupported);
  EXPECT_EQ(error.code, "block-split");
  EXPECT_EQ(error.path, "device_map.model.layers.1");
}

TEST(DeviceMap, DevicesThatAreNotThereAreRefused) {
  const Error error = refusal("llama-mqa", Written{{"", kFirst}, {"lm_head", {Kind::gpu, 2}}});
  EXPECT_EQ(error.kind, ErrorKind::does_not_fit);
  EXPECT_EQ(error.code, "no-such-device");
  EXPECT_EQ(error.path, "device_map.lm_head");
  EXPECT_EQ(refusal("llama-mqa", DeviceName{Kind::gpu, 9}).code, "no-such-device");
}

TEST(DeviceMap, WhatHasNoEffectIsNoted) {
  const Mapped unknown = mapped("llama-mqa", Written{{"", kFirst}, {"model.vision", kCpu}});
  ASSERT_EQ(unknown.notes.size(), 1u);
  EXPECT_EQ(unknown.notes[0].what, "device_map.model.vision");
  EXPECT_EQ(unknown.notes[0].to, "ignored");
  const Mapped tied = mapped("llama-tied", Written{{"", kFirst}, {"lm_head", kCpu}});
  EXPECT_EQ(tied.homes.front(), 0u);
  ASSERT_EQ(tied.notes.size(), 1u);
  EXPECT_EQ(tied.notes[0].what, "device_map.lm_head");
}

}  // namespace
}  // namespace rhapsode::plan
