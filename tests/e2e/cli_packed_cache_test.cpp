// --packed-cache: what was quantized once is mapped the next time, and never where it is not what it says.
#include <filesystem>
#include <fstream>

#include "program.h"

namespace rhapsode::testing {
namespace {

namespace fs = std::filesystem;

// The entry of tiny_yaml in another dtype.
std::string yaml_in(const std::string& dtype, const std::string& checkpoint,
                    const std::vector<std::string>& keys) {
  std::string text = tiny_yaml(checkpoint, keys);
  const size_t at = text.find("torch_dtype:"), end = text.find('\n', at);
  return text.replace(at, end - at, "torch_dtype: " + dtype);
}

class CliPackedCache : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(scratch_.path() / "model");
    for (const char* file : {"config.json", "model.safetensors"})
      fs::copy_file(fixture("golden/llama-mqa/" + std::string(file)), scratch_.path() / "model" / file);
    config_ = scratch_.put(
        "tiny.yaml", yaml_in("bfloat16", (scratch_.path() / "model").string(), {"quantization: \"4bit\""}));
    std::string ids;
    for (int i = 0; i < 40; ++i) ids += std::to_string(3 + i * 7 % 80) + " ";
    ids_ = scratch_.put("ids.txt", ids);
  }
  Outcome ppl(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"ppl", "-c", config_, "--ids", ids_, "--json", "-q"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return rhapsode(arguments);
  }
  Outcome cached() const { return ppl({"--packed-cache", directory()}); }
  std::string directory() const { return (scratch_.path() / "packed").string(); }
  std::vector<fs::path> files() const {
    std::vector<fs::path> out;
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(directory(), code)) out.push_back(entry.path());
    return out;
  }
  static void flip_byte(const fs::path& file, uint64_t at) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(static_cast<std::streamoff>(at));
    const char byte = static_cast<char>(stream.get() ^ 1);
    stream.seekp(static_cast<std::streamoff>(at));
    stream.put(byte);
  }

  Scratch scratch_;
  std::string config_, ids_;
};

TEST_F(CliPackedCache, ASecondStartGivesTheSame) {
  const std::string plain = ppl().out;
  EXPECT_TRUE(files().empty());
  EXPECT_EQ(cached().out, plain);
  ASSERT_EQ(files().size(), 1u);
  const auto written = fs::last_write_time(files()[0]);
  EXPECT_EQ(cached().out, plain);
  ASSERT_EQ(files().size(), 1u);
  EXPECT_EQ(fs::last_write_time(files()[0]), written);
}

// Blocks that lie on disk have files of their own, and the plan says so where they have not.
TEST_F(CliPackedCache, BlocksOnDiskAreQuantizedOnce) {
  const std::vector<std::string> on_disk = {"--machine", "1GB,disk=1GB", "--set",
                                            "device_map={\"\": 0, model.layers: disk}"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), on_disk.begin(), on_disk.end());
    return more;
  };
  const auto quantized_anew = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = with({"plan", "-c", config_, "--json", "-q"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Json plan = Json::parse(rhapsode(arguments).out);
    for (const Json& downgrade : plan.at("downgrades"))
      if (downgrade.at("what") == "quantization") return true;
    return false;
  };
  EXPECT_TRUE(quantized_anew({}));
  EXPECT_FALSE(quantized_anew({"--packed-cache", directory()}));
  EXPECT_FALSE(quantized_anew({"--set", "quantization=null"}));
  const std::string plain = ppl().out;
  EXPECT_EQ(ppl(with({})).out, plain);
  EXPECT_TRUE(files().empty());
  for (int start = 0; start < 2; ++start) {
    EXPECT_EQ(ppl(with({"--packed-cache", directory()})).out, plain);
    EXPECT_EQ(files().size(), 3u) << "one of each block";
  }
}

TEST_F(CliPackedCache, DamageIsNoticedAndMadeAnew) {
  const std::string plain = cached().out;
  ASSERT_EQ(files().size(), 1u);
  const fs::path file = files()[0];
  const uint64_t size = fs::file_size(file);
  for (const uint64_t at : {uint64_t{3}, uint64_t{20}, uint64_t{4100}, size - 1, size - 5000}) {
    flip_byte(file, at);
    EXPECT_EQ(cached().out, plain) << at;
    ASSERT_EQ(files().size(), 1u) << at;
  }
  for (const uint64_t length : {uint64_t{0}, uint64_t{40}, uint64_t{4096}, size - 1}) {
    fs::resize_file(file, length);
    EXPECT_EQ(cached().out, plain) << length;
    EXPECT_EQ(fs::file_size(file), size) << length;
  }
}

TEST_F(CliPackedCache, AnotherCheckpointOrFormatIsAnotherFile) {
  cached();
  ppl({"--packed-cache", directory(), "--set", "quantization=8bit"});
  EXPECT_EQ(files().size(), 2u);
  // Of a model that is not quantized, nothing is kept.
  ppl({"--packed-cache", directory(), "--set", "quantization=null"});
  EXPECT_EQ(files().size(), 2u);
  const std::string before = ppl().out;
  // The checkpoint changes in place: one weight byte.
  flip_byte(scratch_.path() / "model" / "model.safetensors",
            fs::file_size(scratch_.path() / "model" / "model.safetensors") - 1);
  const std::string after = ppl().out;
  EXPECT_NE(after, before);
  EXPECT_EQ(cached().out, after);
}

TEST_F(CliPackedCache, CacheListsAndRemovesThem) {
  cached();
  const Json listed = rhapsode({"cache", "ls", "--packed-cache", directory(), "--json"}).json();
  ASSERT_EQ(listed.at("packed").size(), 1u);
  EXPECT_EQ(listed.at("packed")[0].at("current"), true);
  EXPECT_EQ(listed.at("packed")[0].at("bytes"), fs::file_size(files()[0]));
  rhapsode({"cache", "prune", "--packed-cache", directory()});
  EXPECT_EQ(files().size(), 1u);
  flip_byte(scratch_.path() / "model" / "model.safetensors",
            fs::file_size(scratch_.path() / "model" / "model.safetensors") - 1);
  const Json pruned = rhapsode({"cache", "prune", "--packed-cache", directory(), "--json"}).json();
  EXPECT_EQ(pruned.at("removed").size(), 1u);
  EXPECT_TRUE(files().empty());
  cached();
  EXPECT_EQ(rhapsode({"cache", "rm", "--packed", "--packed-cache", directory()}).code, 0);
  EXPECT_TRUE(files().empty());
}

TEST_F(CliPackedCache, APlaceThatCannotBeIsAnError) {
  const std::string file = scratch_.put("taken", "x");
  const Outcome outcome = ppl({"--packed-cache", file});
  EXPECT_EQ(outcome.code, 1) << outcome.out;
}

// The write fails in the middle: an error, nothing under a final name, nothing beside it.
TEST_F(CliPackedCache, AFileThatCannotGrowIsAnErrorAndLeavesNothing) {
  const std::string plain = ppl().out;
  Launch launch;
  launch.arguments = {"ppl", "-c", config_, "--ids", ids_, "--json", "-q", "--packed-cache", directory()};
  launch.file_limit_bytes = 64 << 10;
  const Outcome outcome = run_program(launch);
  EXPECT_EQ(outcome.code, 1) << outcome.err;
  EXPECT_EQ(outcome.error_code(), "write-failed");
  EXPECT_TRUE(files().empty());
  EXPECT_EQ(cached().out, plain);
  EXPECT_EQ(files().size(), 1u);
}

// --packed-cache, then the YAML, then the variable.
TEST_F(CliPackedCache, TheConfigMayNameIt) {
  const std::string elsewhere = scratch_.file("elsewhere");
  const auto count = [&](const std::string& at) {
    std::error_code code;
    return std::distance(fs::directory_iterator(at, code), fs::directory_iterator());
  };
  ppl({"--set", "packed_cache=" + directory(), "--packed-cache", "off"});
  EXPECT_TRUE(files().empty());
  ppl({"--set", "packed_cache=" + directory(), "--packed-cache", elsewhere});
  EXPECT_TRUE(files().empty());
  EXPECT_EQ(count(elsewhere), 1);
  const std::string named = scratch_.put(
      "named.yaml", yaml_in("bfloat16", (scratch_.path() / "model").string(),
                            {"quantization: \"4bit\"", "packed_cache: \"" + directory() + "\""}));
  Launch launch;
  launch.arguments = {"ppl", "-c", named, "--ids", ids_, "--json", "-q"};
  launch.environment["RHAPSODE_PACKED_CACHE"] = elsewhere + "2";
  EXPECT_EQ(run_program(launch).out, ppl().out);
  EXPECT_EQ(files().size(), 1u);
  EXPECT_EQ(count(elsewhere + "2"), 0);
  launch.arguments = {"ppl", "-c", config_, "--ids", ids_, "--json", "-q", "--set", "packed_cache=\"on\""};
  launch.environment["XDG_CACHE_HOME"] = scratch_.file("xdg");
  EXPECT_EQ(run_program(launch).code, 0);
  EXPECT_EQ(count(scratch_.file("xdg") + "/rhapsode/packed"), 1);
  const Json said = rhapsode({"check", "-c", named, "--explain", "packed_cache", "--json"}).json();
  EXPECT_EQ(said.at("source"), "yaml");
  EXPECT_EQ(said.at("value"), directory());
  EXPECT_EQ(rhapsode({"check", "-c", config_, "--explain", "packed_cache", "--json"}).json().at("value"),
            "off");
}

// low_cpu_mem_usage: false reads whole shards and computes the same.
TEST_F(CliPackedCache, WholeShardsGiveTheSameWeights) {
  for (const char* quantization : {"4bit", "8bit", "null"})
    EXPECT_EQ(
        ppl({"--set", std::string("quantization=") + quantization}).out,
        ppl({"--set", std::string("quantization=") + quantization, "--set", "low_cpu_mem_usage=false"}).out);
}

}  // namespace
}  // namespace rhapsode::testing
