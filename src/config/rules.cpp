// What keys say together: contradictions (errors), keys without effect, and places where transformers'
// meaning differs from the guide's wording (notes). Few and precise: a finding is here only if the user would
// want to change the file or would otherwise be surprised by the answer. Decides on the YAML alone.
#include <fmt/format.h>

#include <algorithm>

#include "config/entry.h"
#include "config/machine.h"
#include "config/skip_entry.h"
#include "config/table.h"

namespace rhapsode::config {
namespace {

class Rules {
 public:
  Rules(const ReadEntry& read, Report& report)
      : read_(read), e_(read.entry), g_(read.entry.generation), report_(report) {}

  void loading();
  void quantization();
  void module_lists();
  void sampling();
  void extremes();
  void beams();
  void lengths();
  void tokens();

 private:
  Finding& at_key(Severity severity, const char* code, std::string_view key, std::string message) {
    return report_.add(severity, code, read_.keys.at(std::string(key)), read_.path + "." + std::string(key),
                       std::move(message));
  }
  Finding& at_value(Severity severity, const char* code, std::string_view key, std::string message) {
    return report_.add(severity, code, read_.values.at(std::string(key)), read_.path + "." + std::string(key),
                       std::move(message));
  }
  // Of two keys that are both written, the one that comes later.
  std::string_view later(std::string_view a, std::string_view b) const {
    return before(read_.keys.at(std::string(a)), read_.keys.at(std::string(b))) ? b : a;
  }
  void no_effect(const Key& key, const char* code, std::string because, std::string fix) {
    Finding& f =
        at_key(Severity::note, code, key.name, fmt::format("`{}` has no effect: {}", key.name, because));
    f.found = slot_value(e_, key).dump();
    f.why = "a value that changes nothing is often one that was meant to";
    f.fix = std::move(fix);
  }
  int64_t width() const { return g_.num_beams ? g_.num_beams->value : 1; }
  bool zero_temperature() const { return g_.temperature && g_.temperature->value == 0; }
  // The YAML itself turns sampling off (a checkpoint or a default may still do so where it says nothing).
  bool sampling_off() const { return g_.do_sample ? !g_.do_sample->value : width() > 1; }

  const ReadEntry& read_;
  const ModelEntry& e_;
  const Generation& g_;
  Report& report_;
};

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

void Rules::loading() {
  const std::string id = lower(e_.model_id.value);
  const bool overflows = has(id, "gemma-2-") || has(id, "gemma-3") || has(id, "phi-2");
  if (e_.dtype && e_.dtype->value == Dtype::f16 && overflows) {
    const char* key = "torch_dtype";
    Finding& f = at_value(
        Severity::note, "float16-overflow", key,
        fmt::format("{} was trained in another precision and can overflow in float16", e_.model_id.value));
    f.found = "float16";
    f.why = "its activations leave the range of float16 (65504) and turn into infinities";
    f.fix = "use torch_dtype: \"bfloat16\", which needs the same memory";
  }
  if (e_.trust_remote_code && e_.trust_remote_code->value) {
    Finding& f = at_value(Severity::note, "trust-remote-code", "trust_remote_code",
                          "code of a repository is never executed, whatever this says");
    f.why = "families are implemented natively and load with or without it; others are refused by name";
    f.fix = "it can be removed";
  }
  if (e_.use_flash_attention_2) {
    const bool asked = e_.use_flash_attention_2->value;
    Finding& f = at_value(Severity::note, "flash-attention", "use_flash_attention_2",
                          asked ? "this chooses the built-in fused attention kernel"
                                : "`false` does not switch fused attention off: it is the only kernel here");
    f.why = asked ? "the guide asks for the flash-attn package and a recent GPU; here neither is needed, and "
                    "every device has it"
                  : "it computes what eager attention computes, and holds no score matrix";
    f.fix = asked ? "nothing to do: the plan names the kernel in use" : "it can be removed";
  }
  if (std::string problem; e_.devices && !parse_machine(e_.devices->value, problem)) {
    Finding& f = at_value(Severity::error, "bad-machine", "devices", "these are no devices: " + problem);
    f.found = e_.devices->value;
    f.expected = kMachineForm;
    f.fix = "write the sizes of the GPUs, and cpu= where layers may go to the CPU";
  }
  const auto is_gpu = [](const auto& row) { return row.first.kind == DeviceName::Kind::gpu; };
  if (e_.max_gpu_memory && std::any_of(e_.max_memory.begin(), e_.max_memory.end(), is_gpu)) {
    Finding& f = at_key(Severity::warning, "max-gpu-memory-overridden", later("max_gpu_memory", "max_memory"),
                        "max_memory wins over max_gpu_memory for the devices that it names");
    f.why = "both limit GPUs";
    f.fix = "keep one of them";
  }
  const auto is_cpu = [](const auto& row) { return row.first.kind == DeviceName::Kind::cpu; };
  const bool placed_by_plan = !e_.device_map || std::holds_alternative<Strategy>(e_.device_map->value);
  if (placed_by_plan && !e_.max_memory.empty() &&
      std::none_of(e_.max_memory.begin(), e_.max_memory.end(), is_cpu)) {
    Finding& f = at_value(Severity::note, "no-cpu-entry", "max_memory",
                          "max_memory has no `cpu` entry, so nothing may be offloaded to the CPU");
    f.why = "a model that does not fit on the devices listed is refused, never spilled silently";
    f.fix = "add \"cpu\": \"20GB\" (for example) if offloading is wanted";
  }
}

void Rules::quantization() {
  const Quantization q = e_.quantization ? e_.quantization->value : Quantization::none;
  const bool four = q == Quantization::nf4 || q == Quantization::fp4;
  const auto& mixed = e_.quantization_config.load_in_8bit_modules;
  const bool eight = q == Quantization::int8 || (four && mixed && !mixed->value.empty());
  if (q != Quantization::none && has(lower(e_.model_id.value), "bitnet")) {
    const char* key = read_.given("quantization")   ? "quantization"
                      : read_.given("load_in_8bit") ? "load_in_8bit"
                      : read_.given("load_in_4bit") ? "load_in_4bit"
                                                    : "quantization_config";
    Finding& f =
        at_value(Severity::warning, "quantization-on-bitnet", key,
                 "BitNet weights are ternary already: quantizing them again costs quality and saves nothing");
    f.fix = "write quantization: null";
  }
  for (const Key& key : quantization_keys()) {
    const Json value = slot_value(e_, key);
    if (value.is_null()) continue;
    const std::string name = "quantization_config." + std::string(key.name);
    std::string because;
    if (key.name == "load_in_8bit" || key.name == "load_in_4bit") continue;
    if (!four && !eight)
      because = "no quantization is asked for (of a checkpoint that is quantized already it may count)";
    else if (key.knob == Knob::four_bit && !four)
      because = "it belongs to 4bit, and quantization is 8bit";
    else if (key.knob == Knob::eight_bit && !eight)
      because = "it belongs to 8bit, and quantization is 4bit";
    else if (key.name == "llm_int8_has_fp16_weight" && value == true)
      because = "it concerns training only";
    else if (key.name == "llm_int8_enable_fp32_cpu_offload" && value == true)
      because = "quantized layers run on every device, so none is kept in float32 for the CPU";
    if (because.empty()) continue;
    Finding& f = at_key(Severity::note, "dead-quantization-key", name,
                        fmt::format("`{}` has no effect: {}", key.name, because));
    f.found = value.dump();
    f.fix = !four && !eight ? "add quantization: \"4bit\" or \"8bit\", or remove it" : "remove it";
  }
}

void Rules::module_lists() {
  const QuantizationConfig& q = e_.quantization_config;
  const auto check = [&](const char* name, const auto& list) {
    if (!list) return;
    for (const std::string& entry : list->value) {
      const std::optional<std::string> problem = skip_entry_problem(entry);
      if (!problem) continue;
      Finding& f = at_value(Severity::error, "bad-skip-entry", fmt::format("quantization_config.{}", name),
                            "an entry is no regular expression that can be matched: " + *problem);
      f.found = fmt::format("\"{}\"", entry);
      f.expected = "a module's name, its last part, or a regular expression from the start of the name";
      f.why = "entries are matched as transformers matches them";
      f.fix = "escape signs that stand for themselves with a backslash";
    }
  };
  check("llm_int8_skip_modules", q.llm_int8_skip_modules);
  check("load_in_8bit_modules", q.load_in_8bit_modules);
  const bool four = e_.quantization && (e_.quantization->value == Quantization::nf4 ||
                                        e_.quantization->value == Quantization::fp4);
  if (!four || !q.load_in_8bit_modules || q.load_in_8bit_modules->value.empty() || !e_.accounting ||
      e_.accounting->value != "weights")
    return;
  const std::string key = "quantization_config.load_in_8bit_modules";
  Finding& f = at_key(Severity::error, "conflict", later("accounting", key),
                      "accounting: weights counts one format, and two are asked for");
  f.found = "load_in_8bit_modules beside accounting: weights";
  f.expected = "one of them";
  f.why = "what mirrors transformers' own planner has no place for a format that transformers does not know";
  f.fix = "remove accounting: limits then cover everything, in every format";
}

// Values that are allowed and that explain what the guide's troubleshooting chapter complains about.
void Rules::extremes() {
  const bool draws = !sampling_off() && !zero_temperature();
  const auto note = [&](const char* code, const char* key, std::string message, const char* why,
                        const char* fix) {
    Finding& f = at_value(Severity::note, code, key, std::move(message));
    f.found = slot_value(e_, *find_entry_key(key)).dump();
    f.why = why;
    f.fix = fix;
  };
  if (draws && g_.temperature && g_.temperature->value > 2)
    note("high-temperature", "temperature", "a temperature above 2 makes words nearly random",
         "the guide's scale ends at 2.0", "answers to questions want 0.5 to 0.9");
  const char* single = g_.top_k && g_.top_k->value == 1   ? "top_k"
                       : g_.top_p && g_.top_p->value == 0 ? "top_p"
                                                          : nullptr;
  if (draws && single != nullptr)
    note("one-candidate", single,
         fmt::format("`{}` leaves one token to draw from: every answer is the same", single),
         "sampling is on, and what it draws is always the most probable token",
         "write do_sample: false if that is meant, else raise it");
  if (!g_.repetition_penalty) return;
  const double penalty = g_.repetition_penalty->value;
  if (penalty < 1)
    note("repetition-rewarded", "repetition_penalty", "a repetition_penalty below 1 rewards repetition",
         "tokens that have appeared become more probable",
         "1.1 to 1.2 holds repetition back, 1.0 does nothing");
  if (penalty > 1.5)
    note("strong-repetition-penalty", "repetition_penalty",
         "a repetition_penalty above 1.5 makes text incoherent",
         "words that a sentence needs again are pushed away", "1.1 to 1.2 is enough for most texts");
}

void Rules::sampling() {
  if (sampling_off()) {
    const bool by_beams = !g_.do_sample;
    for (const Key& key : generation_keys()) {
      if (key.knob != Knob::sampling || !slot_origin(e_, key)) continue;
      const Json value = slot_value(e_, key);
      // Values that would do nothing anyway, and temperature 0 (greedy is what it asks for), are not worth a
      // word.
      if (value == default_of(key, true) || (key.name == "temperature" && value == 0.0)) continue;
      no_effect(key, "dead-sampling-key",
                by_beams ? "num_beams above 1 searches without sampling" : "do_sample is false",
                by_beams ? "remove it, or write do_sample: true to sample within beams"
                         : fmt::format("remove `{}`, or write do_sample: true", key.name));
    }
  }
  if (g_.top_p && g_.top_k && g_.top_p->value < 1 && g_.top_k->value > 0 && !sampling_off() &&
      !zero_temperature()) {
    Finding& f = at_key(Severity::note, "top-p-and-top-k", later("top_p", "top_k"),
                        "top_k and top_p both filter: top_k first, then top_p on what is left");
    f.why = "the guide recommends one of them, not both";
    f.fix = "remove one, or set top_k: 0";
  }
  if (g_.repetition_penalty && g_.repetition_penalty->value != 1) {
    Finding& f = at_value(Severity::note, "repetition-penalty-formula", "repetition_penalty",
                          "the penalty is applied once per distinct token, not once per occurrence");
    f.why =
        "as in transformers: a positive logit is divided by it, a negative one multiplied, and tokens of the "
        "prompt "
        "count; the guide's score / penalty^count is not what runs";
    f.fix = "repetition_penalty_scope: generated leaves the prompt out";
  }
}

void Rules::beams() {
  if (width() > 1 && !g_.do_sample) {
    Finding& f = at_key(Severity::note, "beams-without-sampling", "num_beams",
                        "num_beams above 1 and no do_sample: beam search without sampling");
    f.why =
        "the default do_sample: true is meant for one beam; the guide calls beams and sampling incompatible";
    f.fix = "write do_sample: false to say so, or do_sample: true to sample within beams";
  }
  if (width() > 1 && g_.do_sample && g_.do_sample->value && !zero_temperature()) {
    Finding& f = at_key(Severity::note, "beam-sample", later("num_beams", "do_sample"),
                        "beams and sampling together: candidates are drawn, not ranked (beam-sample)");
    f.why = "transformers does this; the guide calls it incompatible";
    f.fix = "write do_sample: false for plain beam search, or num_beams: 1 for plain sampling";
  }
  for (const Key& key : generation_keys()) {
    if (key.knob != Knob::beams || width() > 1 || !slot_origin(e_, key)) continue;
    if (slot_value(e_, key) == default_of(key, true)) continue;
    no_effect(key, "dead-beam-key", "num_beams is 1",
              fmt::format("remove `{}`, or raise num_beams", key.name));
  }
  if (width() > 1 && g_.early_stopping && g_.early_stopping->value != EarlyStopping::never) {
    const bool yes = g_.early_stopping->value == EarlyStopping::yes;
    Finding& f = at_value(
        Severity::note, "early-stopping-meaning", "early_stopping",
        yes ? "true stops once num_beams hypotheses are finished, even if running beams could still win"
            : "false stops when no running beam is likely to win; it does not run to max_tokens");
    f.why = "as in transformers; the guide describes it as waiting for all beams, or for max_tokens";
    f.fix = "\"never\" stops only when no better hypothesis is possible";
  }
  if (width() > 1 && g_.length_penalty && g_.length_penalty->value != 1) {
    Finding& f = at_value(Severity::note, "length-penalty-formula", "length_penalty",
                          "the summed log-probability is divided by (generated tokens ^ length_penalty)");
    f.why =
        "generated tokens only, end-of-sequence included; log-probabilities are negative, so larger values "
        "favour "
        "longer answers, and any sign is allowed";
    f.fix = "nothing to do if that is meant";
  }
  if (width() > 1 && g_.prompt_lookup_num_tokens)
    no_effect(*find_entry_key("prompt_lookup_num_tokens"), "dead-lookup-key",
              "beam search does not speculate", "remove it, or write num_beams: 1");
  if (g_.max_matching_ngram_size && !g_.prompt_lookup_num_tokens)
    no_effect(*find_entry_key("max_matching_ngram_size"), "dead-lookup-key",
              "prompt_lookup_num_tokens is not set", "remove it, or set prompt_lookup_num_tokens");
}

void Rules::lengths() {
  const int64_t wanted = g_.num_return_sequences ? g_.num_return_sequences->value : 1;
  const bool greedy = (g_.do_sample && !g_.do_sample->value) || zero_temperature();
  if (wanted > 1 && width() > 1 && wanted > width()) {
    Finding& f = at_key(Severity::error, "too-many-sequences", later("num_return_sequences", "num_beams"),
                        fmt::format("{} answers cannot come out of {} beams", wanted, width()));
    f.found = std::to_string(wanted);
    f.expected = fmt::format("num_return_sequences of at most {}", width());
  }
  if (wanted > 1 && width() == 1 && greedy) {
    const char* why = g_.do_sample && !g_.do_sample->value ? "do_sample" : "temperature";
    Finding& f = at_key(Severity::error, "too-many-sequences", later("num_return_sequences", why),
                        "greedy decoding has one answer only");
    f.found = std::to_string(wanted);
    f.expected = "num_return_sequences: 1, or do_sample: true, or beams";
  }
  if (g_.max_length && g_.max_new_tokens) {
    Finding& f = at_key(Severity::note, "max-length-ignored", "max_length",
                        "`max_length` has no effect: max_new_tokens wins");
    f.fix = "keep one of them";
  }
  if (g_.min_new_tokens && g_.max_new_tokens && g_.min_new_tokens->value > g_.max_new_tokens->value) {
    Finding& f = at_key(Severity::warning, "min-above-max", later("min_new_tokens", "max_new_tokens"),
                        "min_new_tokens is above max_new_tokens: every answer ends at the limit");
    f.found = fmt::format("{} and {}", g_.min_new_tokens->value, g_.max_new_tokens->value);
    f.fix = "lower min_new_tokens";
  }
  if (e_.max_context && g_.max_new_tokens && g_.max_new_tokens->value >= e_.max_context->value) {
    Finding& f = at_key(Severity::error, "no-room-for-prompt", later("max_context", "max_new_tokens"),
                        "max_new_tokens leaves no room for a prompt in max_context");
    f.found =
        fmt::format("max_new_tokens {}, max_context {}", g_.max_new_tokens->value, e_.max_context->value);
    f.expected = "max_context above max_new_tokens";
    f.fix = "raise max_context";
  }
}

void Rules::tokens() {
  if (!g_.suppress_tokens) return;
  const Ids& suppressed = g_.suppress_tokens->value;
  const auto clash = [&](const Ids& forced, const char* key) {
    const auto is_suppressed = [&](int64_t id) {
      return std::find(suppressed.begin(), suppressed.end(), id) != suppressed.end();
    };
    if (forced.empty() || !std::all_of(forced.begin(), forced.end(), is_suppressed)) return;
    Finding& f = at_key(Severity::error, "forced-token-suppressed", later(key, "suppress_tokens"),
                        fmt::format("every token that `{}` forces is suppressed", key));
    f.why = "no token would be left at that step";
    f.fix = "remove the token from one of them";
  };
  if (g_.forced_bos_token_id) clash({g_.forced_bos_token_id->value}, "forced_bos_token_id");
  if (g_.forced_eos_token_id) clash(g_.forced_eos_token_id->value, "forced_eos_token_id");
}

}  // namespace

void apply_rules(const ReadEntry& read, Report& report) {
  Rules rules(read, report);
  rules.loading();
  rules.quantization();
  rules.module_lists();
  rules.sampling();
  rules.extremes();
  rules.beams();
  rules.lengths();
  rules.tokens();
}

}  // namespace rhapsode::config
