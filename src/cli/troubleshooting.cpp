#include "cli/troubleshooting.h"

#include <fmt/format.h>

#include "cli/terminal.h"
#include "hub/hub.h"

namespace rhapsode::cli {
namespace {

// An effective value and who said it.
class Values {
 public:
  explicit Values(const ConfigFacts& config) : values_(config.values) {}

  double number(const char* key, double otherwise) const {
    const Json& value = value_of(key);
    return value.is_number() ? value.get<double>() : otherwise;
  }
  bool is_false(const char* key) const { return value_of(key) == Json(false); }
  bool is_given(const char* key) const { return !value_of(key).is_null(); }
  // "temperature is 0.7 (yaml)"
  std::string text(const char* key) const {
    const auto found = values_.find(key);
    return fmt::format("{} is {} ({})", key, value_of(key).dump(),
                       found == values_.end() ? "default" : found->second.source);
  }

 private:
  const Json& value_of(const char* key) const {
    static const Json nothing;
    const auto found = values_.find(key);
    return found == values_.end() ? nothing : found->second.value;
  }
  const std::map<std::string, config::Explanation>& values_;
};

std::string refusal_text(const Error& error) {
  std::string text = error.message;
  if (!error.file.empty()) text += " --> " + error.file;
  if (!error.found.empty()) text += "; found: " + error.found;
  if (!error.help.empty()) text += "; help: " + error.help;
  return text;
}

void add_plan(const PlanFacts& plan, Answer& answer) {
  if (plan.fits) {
    answer.facts.push_back(fmt::format("this config fits: it needs {}", bytes_text(plan.needed_bytes)));
    return;
  }
  answer.facts.push_back(fmt::format("this config does not fit: it needs {} and is {} short",
                                     bytes_text(plan.needed_bytes), bytes_text(plan.short_bytes)));
  if (plan.changes.empty())
    answer.facts.emplace_back("no change is known that makes it fit: choose a smaller model");
  for (const auto& [what, set] : plan.changes) {
    answer.facts.push_back("it fits with " + what);
    answer.commands.push_back("rhapsode plan -c FILE " + set);
  }
  if (!plan.changes.empty()) answer.commands.emplace_back("rhapsode plan -c FILE --emit-config fitting.yaml");
}

Answer out_of_memory(const MachineFacts& machine, const ConfigFacts& config) {
  Answer answer{"Out of Memory (OOM)", {}, {"rhapsode plan -c FILE"}};
  if (config.plan) add_plan(*config.plan, answer);
  answer.facts.push_back(fmt::format("{} can be taken now of {} of memory",
                                     bytes_text(machine.inventory.available_bytes),
                                     bytes_text(machine.inventory.ram_bytes)));
  if (machine.inventory.cgroup_limit_bytes > 0)
    answer.facts.push_back(fmt::format("a control group limits this process to {}",
                                       bytes_text(machine.inventory.cgroup_limit_bytes)));
  answer.facts.emplace_back(
      "a model that does not fit is refused before anything is loaded, with the bytes that are short and the "
      "changes that make it fit");
  answer.facts.emplace_back(
      "max_gpu_memory and max_memory are limits: a smaller one makes a model use less only by refusing it; "
      "what makes it smaller is quantization (8bit, then 4bit), layers on the cpu (a `cpu` entry in "
      "max_memory), a shorter context, a smaller model");
  const bool quantized = config.plan ? !config.plan->quantization.empty()
                                     : config.entry != nullptr && config.entry->quantization &&
                                           config.entry->quantization->value != config::Quantization::none;
  if (!quantized)
    answer.facts.emplace_back("without quantization: 8bit holds half of 16-bit weights, 4bit about 0.3");
  if (config.plan && !config.plan->fits) return answer;
  if (!quantized) answer.commands.emplace_back("rhapsode plan -c FILE --set quantization=8bit");
  answer.commands.emplace_back("rhapsode plan -c FILE --set max_context=2048");
  if (config.arguments.find("--machine") == std::string::npos)
    answer.commands.emplace_back(
        "rhapsode plan -c FILE --machine 8GB,cpu=20GB --set 'max_memory={0: 7GB, cpu: 20GB}'");
  return answer;
}

void add_speed_of_config(const MachineFacts& machine, const ConfigFacts& config, Answer& answer) {
  if (config.plan && config.plan->bytes_per_token > 0)
    answer.facts.push_back(
        fmt::format("a token of this config reads {} of weights: at most {:.1f} tokens/s on this machine",
                    bytes_text(config.plan->bytes_per_token),
                    machine.read_gb_s * 1e9 / static_cast<double>(config.plan->bytes_per_token)));
  if (config.plan && config.plan->moved_bytes > 0)
    answer.facts.push_back(
        fmt::format("{} of them lie on cpu or disk and are brought to the first device at each pass: raise "
                    "max_gpu_memory or max_memory, or quantize, until everything has room there",
                    bytes_text(config.plan->moved_bytes)));
  if (config.plan && config.plan->quantized_anew > 0)
    answer.facts.push_back(
        fmt::format("{} blocks on disk are quantized anew at each pass: packed_cache: \"on\" (or "
                    "--packed-cache on) keeps them as they are computed with",
                    config.plan->quantized_anew));
  const bool is_float32 =
      config.plan ? config.plan->is_float32 : config.entry->dtype && config.entry->dtype->value == Dtype::f32;
  if (is_float32)
    answer.facts.emplace_back("weights are float32: torch_dtype: \"bfloat16\" reads half as much");
  const Values values(config);
  if (values.number("num_beams", 1) > 1)
    answer.facts.push_back(values.text("num_beams") +
                           ": as many sequences are computed for each token; 1 is fastest");
  if (values.number("guidance_scale", 1) != 1)
    answer.facts.push_back(values.text("guidance_scale") + ": each token is computed twice");
}

Answer slow(const MachineFacts& machine, const ConfigFacts& config) {
  Answer answer{"Slow Generation", {}, {"rhapsode bench -c FILE", "rhapsode bench -c FILE --explain"}};
  if (config.entry != nullptr) add_speed_of_config(machine, config, answer);
  answer.facts.push_back(
      fmt::format("each token reads every weight once and this machine reads {:.1f} GB/s: 14 GB of weights "
                  "(7B in bfloat16) give at most {:.1f} tokens/s, 3 GB at most {:.1f}",
                  machine.read_gb_s, machine.read_gb_s / 14, machine.read_gb_s / 3));
  answer.facts.push_back(fmt::format("kernels: {}, {} threads on {} cores", machine.isa, machine.threads,
                                     machine.inventory.cores));
  if (machine.threads < machine.inventory.cores)
    answer.facts.emplace_back("--threads leaves cores idle: without it all of them compute");
  answer.facts.emplace_back("use_flash_attention_2 changes nothing here: attention is always fused");
  if (machine.huge_pages == "never")
    answer.facts.emplace_back("transparent huge pages are off: loading and reading weights are slower");
  answer.facts.emplace_back(
      "quantized weights are fewer bytes to read and more work to expand: bench tells which wins on this "
      "machine");
  return answer;
}

void add_repetition(const Values& values, Answer& answer) {
  const double penalty = values.number("repetition_penalty", 1);
  if (penalty < 1)
    answer.facts.push_back(values.text("repetition_penalty") + ": below 1 repetition is rewarded");
  else if (penalty > 1.5)
    answer.facts.push_back(values.text("repetition_penalty") +
                           ": above 1.5 it pushes needed words away, and text loses coherence");
  else if (penalty == 1 && values.number("no_repeat_ngram_size", 0) == 0)
    answer.facts.emplace_back(
        "nothing holds repetition back: neither repetition_penalty nor "
        "no_repeat_ngram_size is in force");
}

Answer poor_quality(const ConfigFacts& config) {
  Answer answer{
      "Poor Quality Output", {}, {"rhapsode check -c FILE", "rhapsode check -c FILE --explain temperature"}};
  answer.facts.emplace_back(
      "repetition: repetition_penalty 1.1 to 1.2, no_repeat_ngram_size 3; off-topic: temperature 0.5 to 0.9");
  if (config.entry == nullptr) return answer;
  const Values values(config);
  if (values.is_false("do_sample"))
    answer.facts.push_back(values.text("do_sample") +
                           ": greedy answers repeat themselves more than sampled ones");
  else if (values.number("temperature", 1) > 1.2)
    answer.facts.push_back(values.text("temperature") + ": above 1.2 words become random");
  add_repetition(values, answer);
  if (values.number("max_new_tokens", 250) < 128)
    answer.facts.push_back(values.text("max_new_tokens") +
                           ": answers end early (finish_reason `length`); 512 leaves room for whole ones");
  if (!config.plan) return answer;
  if (!config.plan->quantization.empty())
    answer.facts.push_back(fmt::format(
        "weights are in {}: 8bit is closer to the original than 4bit, no quantization is the original",
        config.plan->quantization));
  if (!config.plan->has_chat_template)
    answer.facts.emplace_back(
        "the model has no chat template: it continues text and was not taught to answer; choose an instruct "
        "or chat model for questions");
  return answer;
}

Answer deterministic(const ConfigFacts& config) {
  Answer answer{"Deterministic Output",
                {},
                {"rhapsode run -c FILE --set do_sample=true --set temperature=0.8 --prompt TEXT"}};
  answer.facts.emplace_back(
      "the same seed gives the same answer, whatever the threads; without one each request draws anew");
  if (config.entry == nullptr) return answer;
  answer.commands.emplace_back("rhapsode check -c FILE --explain do_sample");
  const Values values(config);
  const bool greedy = values.is_false("do_sample");
  if (greedy && values.number("num_beams", 1) > 1)
    answer.facts.push_back(values.text("num_beams") + " and nothing is sampled: beam search draws nothing");
  else if (values.number("temperature", 1) == 0)
    answer.facts.push_back(values.text("temperature") + ": the most likely token is always taken");
  else if (greedy)
    answer.facts.push_back(values.text("do_sample") + ": the most likely token is always taken");
  else if (values.number("top_k", 50) == 1)
    answer.facts.push_back(values.text("top_k") + ": only one token is left to draw from");
  else if (values.number("top_p", 1) == 0)
    answer.facts.push_back(values.text("top_p") + ": only one token is left to draw from");
  else if (values.is_given("seed"))
    answer.facts.push_back(values.text("seed") + ": every run draws the same; leave it out");
  else if (values.number("temperature", 1) < 0.3)
    answer.facts.push_back(values.text("temperature") + ": answers hardly vary below 0.3");
  else
    answer.facts.push_back(values.text("temperature") + " and sampling is on: each answer is drawn anew");
  return answer;
}

Answer not_loading(const hub::HubSettings& hub, const ConfigFacts& config) {
  Answer answer{"Model Not Loading", {}, {}};
  const bool local = config.entry != nullptr && hub::is_local(config.entry->model_id.value);
  const bool misspelt = config.refusal && config.refusal->kind == ErrorKind::config;
  if (!local && !misspelt) answer.commands = {"rhapsode pull ID", "rhapsode cache verify", "rhapsode login"};
  if (config.entry != nullptr) {
    answer.commands.insert(answer.commands.begin(), "rhapsode check -c FILE");
    const std::string& id = config.entry->model_id.value;
    if (config.refusal)
      answer.facts.push_back(fmt::format("{} cannot be loaded: {}", id, refusal_text(*config.refusal)));
    else if (config.plan)
      answer.facts.push_back(fmt::format("{} is on this machine and can be read", id));
    else
      answer.facts.push_back(
          fmt::format("{} is not on this machine{}", id,
                      hub.offline ? "" : ": it is fetched on first use, gigabytes for a 7B model"));
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

std::string shell_word(const std::string& text) {
  constexpr const char* kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+:@%,=";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

std::vector<Answer> troubleshooting(const MachineFacts& machine, const hub::HubSettings& hub,
                                    const ConfigFacts& config) {
  std::vector<Answer> answers = {out_of_memory(machine, config), slow(machine, config), poor_quality(config),
                                 deterministic(config), not_loading(hub, config)};
  if (config.entry == nullptr) return answers;
  // Ready to be pasted.
  const auto put = [](std::string& text, const std::string& word, const std::string& value) {
    if (const size_t at = text.find(word); at != std::string::npos) text.replace(at, word.size(), value);
  };
  for (Answer& answer : answers)
    for (std::string& command : answer.commands) {
      put(command, " -c FILE", " " + config.arguments);
      put(command, " ID", " " + shell_word(config.entry->model_id.value));
    }
  return answers;
}

}  // namespace rhapsode::cli
