#include "cli/troubleshooting.h"

#include <fmt/format.h>

#include "cli/terminal.h"
#include "hub/hub.h"

namespace rhapsode::cli {
namespace {

using config::ModelEntry;

// In quotes where a shell would take it apart.
std::string shell_word(const std::string& text) {
  constexpr const char* kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+:@%,=";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

void add_plan(const PlanFacts& plan, Answer& answer) {
  if (!plan.refusal.empty()) {
    answer.facts.push_back("this config cannot be planned: " + plan.refusal);
  } else if (plan.fits) {
    answer.facts.push_back(fmt::format("this config fits: it needs {}", bytes_text(plan.needed_bytes)));
  } else {
    answer.facts.push_back(fmt::format("this config does not fit: it needs {} and is {} short",
                                       bytes_text(plan.needed_bytes), bytes_text(plan.short_bytes)));
    answer.facts.push_back(plan.change.empty()
                               ? "no change is known that makes it fit: choose a smaller model"
                               : "it fits with " + plan.change);
  }
}

Answer out_of_memory(const MachineFacts& machine, const ConfigFacts& config) {
  Answer answer{"Out of Memory (OOM)", {}, {}};
  const ModelEntry* entry = config.entry;
  if (config.plan) add_plan(*config.plan, answer);
  answer.facts.push_back(fmt::format("{} can be taken now of {} of memory",
                                     bytes_text(machine.inventory.available_bytes),
                                     bytes_text(machine.inventory.ram_bytes)));
  if (machine.inventory.cgroup_limit_bytes > 0)
    answer.facts.push_back(fmt::format("a control group limits this process to {}",
                                       bytes_text(machine.inventory.cgroup_limit_bytes)));
  answer.facts.emplace_back(
      "a model that does not fit is refused before anything is loaded, with the bytes that are short and the "
      "changes "
      "that make it fit");
  answer.facts.emplace_back(
      "max_gpu_memory and max_memory are limits: a smaller one makes a model use less only by refusing it; "
      "what "
      "makes it smaller is quantization (8bit, then 4bit), layers on the cpu (a `cpu` entry in max_memory), "
      "a "
      "shorter context, a smaller model");
  if (entry != nullptr && !entry->quantization)
    answer.facts.emplace_back("quantization is not set: 8bit holds half of 16-bit weights, 4bit about 0.3");
  answer.commands = {"rhapsode plan -c FILE", "rhapsode plan -c FILE --emit-config fitting.yaml",
                     "rhapsode plan -c FILE --set quantization=8bit",
                     "rhapsode plan -c FILE --set max_context=2048",
                     "rhapsode plan -c FILE --machine 8GB,cpu=20GB --set 'max_memory={0: 7GB, cpu: 20GB}'"};
  return answer;
}

Answer slow(const MachineFacts& machine, const ConfigFacts& config) {
  Answer answer{"Slow Generation", {}, {"rhapsode bench -c FILE", "rhapsode bench -c FILE --explain"}};
  const ModelEntry* entry = config.entry;
  if (config.plan && config.plan->bytes_per_token > 0)
    answer.facts.push_back(
        fmt::format("a token of this config reads {} of weights: at most {:.1f} tokens/s on this machine",
                    bytes_text(config.plan->bytes_per_token),
                    machine.read_gb_s * 1e9 / static_cast<double>(config.plan->bytes_per_token)));
  answer.facts.push_back(
      fmt::format("each token reads every weight once and this machine reads {:.1f} GB/s: 14 GB of weights "
                  "(7B in bfloat16) give at "
                  "most {:.1f} tokens/s, 3 GB at most {:.1f}",
                  machine.read_gb_s, machine.read_gb_s / 14, machine.read_gb_s / 3));
  answer.facts.push_back(fmt::format("kernels: {}, {} cores", machine.isa, machine.inventory.cores));
  answer.facts.emplace_back("use_flash_attention_2 changes nothing here: attention is always fused");
  if (machine.huge_pages == "never")
    answer.facts.emplace_back("transparent huge pages are off: loading and reading weights are slower");
  answer.facts.emplace_back(
      "quantized weights are fewer bytes to read and more work to expand: bench tells which wins on this "
      "machine");
  if (entry == nullptr) return answer;
  const auto& generation = entry->generation;
  if (generation.num_beams && generation.num_beams->value > 1)
    answer.facts.push_back(
        fmt::format("num_beams is {}: each token costs as many forward passes", generation.num_beams->value));
  if (!entry->dtype)
    answer.facts.emplace_back(
        "torch_dtype follows the checkpoint: a float32 one reads twice as much as bfloat16");
  if (entry->dtype && entry->dtype->value == Dtype::f32)
    answer.facts.emplace_back("torch_dtype is float32: bfloat16 reads half as much");
  if (!entry->max_memory.empty() || entry->device_map)
    answer.facts.emplace_back(
        "device_map or max_memory is set: layers that are moved from another device wait for it");
  return answer;
}

Answer poor_quality(const ModelEntry* entry) {
  Answer answer{
      "Poor Quality Output", {}, {"rhapsode check -c FILE", "rhapsode check -c FILE --explain temperature"}};
  answer.facts.emplace_back(
      "repetition: repetition_penalty 1.1 to 1.2, no_repeat_ngram_size 3; off-topic: temperature 0.5 to 0.9");
  if (entry == nullptr) return answer;
  const auto& generation = entry->generation;
  if (generation.temperature && generation.temperature->value > 1.2)
    answer.facts.push_back(
        fmt::format("temperature is {}: above 1.2 words become random", generation.temperature->value));
  if (generation.do_sample && !generation.do_sample->value)
    answer.facts.emplace_back("do_sample is false: greedy answers repeat themselves more than sampled ones");
  if (!generation.repetition_penalty && !generation.no_repeat_ngram_size)
    answer.facts.emplace_back("neither repetition_penalty nor no_repeat_ngram_size is set");
  if (generation.max_new_tokens && generation.max_new_tokens->value < 128)
    answer.facts.push_back(
        fmt::format("max_new_tokens is {}: answers end early", generation.max_new_tokens->value));
  if (entry->quantization)
    answer.facts.emplace_back(
        "quantization is set: 8bit is closer to the original than 4bit, null is the original");
  return answer;
}

Answer deterministic(const ModelEntry* entry) {
  Answer answer{"Deterministic Output",
                {},
                {"rhapsode run -c FILE --set do_sample=true --set temperature=0.8 --prompt TEXT"}};
  answer.facts.emplace_back(
      "the same seed gives the same answer, whatever the threads; without one each request draws anew");
  if (entry == nullptr) return answer;
  const auto& generation = entry->generation;
  if (generation.do_sample && !generation.do_sample->value)
    answer.facts.emplace_back("do_sample is false: the most likely token is always taken");
  if (generation.temperature && generation.temperature->value == 0)
    answer.facts.emplace_back("temperature is 0: the most likely token is always taken");
  if (generation.top_k && generation.top_k->value == 1)
    answer.facts.emplace_back("top_k is 1: only one token is left to draw from");
  if (generation.seed) answer.facts.emplace_back("a seed is set: every run draws the same");
  return answer;
}

Answer not_loading(const hub::HubSettings& hub, const ConfigFacts& config) {
  Answer answer{"Model Not Loading", {}, {}};
  const bool local = config.entry != nullptr && hub::is_local(config.entry->model_id.value);
  if (!local) answer.commands = {"rhapsode pull ID", "rhapsode cache verify", "rhapsode login"};
  if (config.entry != nullptr) {
    answer.commands.insert(answer.commands.begin(), "rhapsode check -c FILE");
    const char* where = config.plan ? "on this machine"
                        : local     ? "a directory without a whole checkpoint"
                        : hub.offline
                            ? "not on this machine"
                            : "not on this machine: it is fetched on first use, gigabytes for a 7B model";
    answer.facts.push_back(fmt::format("{} is {}", config.entry->model_id.value, where));
    if (config.plan && !config.plan->refusal.empty()) answer.facts.push_back(config.plan->refusal);
  }
  answer.facts.push_back(hub.offline ? "offline: nothing is fetched"
                                     : fmt::format("models come from {}", hub.endpoint));
  answer.facts.push_back(hub.token.value.empty() ? "no token: gated and private models need rhapsode login"
                                                 : fmt::format("a token comes from {}", hub.token.origin));
  answer.facts.emplace_back(
      "trust_remote_code is not needed: code of a repository is never run, known models are built in");
  return answer;
}

}  // namespace

std::vector<Answer> troubleshooting(const MachineFacts& machine, const hub::HubSettings& hub,
                                    const ConfigFacts& config) {
  std::vector<Answer> answers = {out_of_memory(machine, config), slow(machine, config),
                                 poor_quality(config.entry), deterministic(config.entry),
                                 not_loading(hub, config)};
  if (config.entry == nullptr) return answers;
  // Ready to be pasted.
  const auto put = [](std::string& text, const std::string& word, const std::string& value) {
    if (const size_t at = text.find(word); at != std::string::npos) text.replace(at, word.size(), value);
  };
  for (Answer& answer : answers)
    for (std::string& command : answer.commands) {
      put(command, " FILE", " " + shell_word(config.file));
      put(command, " ID", " " + config.entry->model_id.value);
    }
  return answers;
}

}  // namespace rhapsode::cli
