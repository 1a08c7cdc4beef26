// The YAML of a RAG pipeline's generator, typed. Read once; nothing later re-reads YAML. Every value knows
// where it was written. Unknown or duplicate keys, wrong types, values out of range and contradictions throw
// Error(config).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "tensor/dtype.h"

namespace rhapsode::config {

// Where a value stands. file is empty and line 0 for --set (then `set` holds its text).
struct Origin {
  std::string file;
  uint64_t line = 0;
  uint64_t column = 0;
  std::string set;
};

template <typename T>
struct Value {
  T value{};
  Origin origin;
};
template <typename T>
using Maybe = std::optional<Value<T>>;

enum class Quantization : uint8_t { none, int8, nf4, fp4 };

// A device as the YAML names it: an index, "cpu" or "disk".
struct DeviceName {
  enum class Kind : uint8_t { gpu, cpu, disk } kind = Kind::gpu;
  uint32_t index = 0;
  std::string to_text() const;  // "0", "cpu", "disk"
  auto operator<=>(const DeviceName&) const = default;
};

// device_map: a strategy, one device for everything, or a map from module prefixes.
enum class Strategy : uint8_t { automatic, balanced, balanced_low_0, sequential };
using DeviceMap = std::variant<Strategy, DeviceName, std::vector<std::pair<std::string, DeviceName>>>;

enum class EarlyStopping : uint8_t { no, yes, never };

// quantization_config, key by key; absent keys take the defaults of decisions.md 16.
struct QuantizationConfig {
  Maybe<bool> load_in_8bit, load_in_4bit;
  Maybe<double> llm_int8_threshold;
  Maybe<std::vector<std::string>> llm_int8_skip_modules;
  Maybe<std::vector<std::string>> load_in_8bit_modules;  // of a 4bit model; not a key of transformers
  Maybe<bool> llm_int8_enable_fp32_cpu_offload, llm_int8_has_fp16_weight;
  Maybe<Dtype> bnb_4bit_compute_dtype;
  Maybe<std::string> bnb_4bit_quant_type;  // nf4 | fp4
  Maybe<bool> bnb_4bit_use_double_quant;
  Maybe<std::string> bnb_4bit_quant_storage;
};

// Generation keys as written; absent = not given. Names are transformers' own.
struct Generation {
  Maybe<int64_t> max_new_tokens;  // also max_tokens
  Maybe<int64_t> max_length, min_length, min_new_tokens;
  Maybe<bool> do_sample;
  Maybe<double> temperature, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff;
  Maybe<int64_t> top_k;
  Maybe<double> repetition_penalty;
  Maybe<std::string> repetition_penalty_scope;  // all | generated
  Maybe<int64_t> no_repeat_ngram_size;
  Maybe<int64_t> num_beams, num_return_sequences;
  Maybe<EarlyStopping> early_stopping;
  Maybe<double> length_penalty;
  Maybe<int64_t> pad_token_id, bos_token_id;
  Maybe<std::vector<int64_t>> eos_token_id;
  Maybe<std::vector<std::string>> stop_strings;  // also `stop`
  Maybe<double> max_time;                        // seconds
  Maybe<int64_t> seed;
  Maybe<bool> renormalize_logits, remove_invalid_values;
  Maybe<std::vector<int64_t>> suppress_tokens, begin_suppress_tokens;
  Maybe<std::vector<std::vector<int64_t>>> bad_words_ids;
  Maybe<std::vector<std::pair<std::vector<int64_t>, double>>> sequence_bias;
  Maybe<int64_t> forced_bos_token_id;
  Maybe<std::vector<int64_t>> forced_eos_token_id;
  Maybe<std::pair<int64_t, double>> exponential_decay_length_penalty;
  Maybe<double> guidance_scale;
  Maybe<int64_t> prompt_lookup_num_tokens, max_matching_ngram_size;
};

struct ModelEntry {
  std::string name;
  Origin origin;
  Maybe<std::string> type;  // "huggingface"
  Value<std::string> model_id;
  Maybe<std::string> revision;
  Maybe<Dtype> dtype;  // torch_dtype | dtype; absent or "auto": the checkpoint's own
  Maybe<DeviceMap> device_map;
  Maybe<uint64_t> max_gpu_memory;                                  // bytes
  std::vector<std::pair<DeviceName, Value<uint64_t>>> max_memory;  // bytes, in the order written
  Maybe<Quantization> quantization;                                // the switches resolved
  Maybe<bool> load_in_8bit, load_in_4bit;  // as written beside it; `quantization` has won them
  QuantizationConfig quantization_config;
  Maybe<bool> low_cpu_mem_usage, trust_remote_code, use_flash_attention_2;
  Maybe<std::string> numerics;           // fast (default) | int8 | hf-exact
  Maybe<std::string> llm_int8_outliers;  // call (default) | row
  Maybe<bool> lm_head_screening;         // absent: where it pays and fits
  Maybe<std::string> kv_cache_dtype;     // auto (default) | int8
  Maybe<std::string> packed_cache;       // off (default) | on | a directory; --packed-cache wins
  Maybe<std::string> accounting;         // full (default) | weights
  Maybe<std::string> devices;            // virtual devices, as parse_machine reads them; --machine wins
  Maybe<std::string> defaults;           // guide (default) | transformers
  Maybe<int64_t> max_context;        // tokens of prompt and answer that the plan reserves; absent: see plan
  Maybe<std::string> chat_template;  // a template's text, over the checkpoint's
  Maybe<std::string> system_prompt;
  Generation generation;
};

struct Config {
  std::string file;
  std::string active_model;
  std::map<std::string, ModelEntry> models;  // all are parsed and validated
  // What the command line added, after validation: path relative to the active entry (or "/…") and value.
  std::vector<std::pair<std::string, std::string>> sets;
  // What the active entry had said for the keys that a --set replaced, by name.
  std::map<std::string, Json> replaced;

  const ModelEntry& active() const { return models.at(active_model); }
};

struct LoadRequest {
  std::string file;
  std::string model;              // --model, empty: active_model
  std::vector<std::string> sets;  // each "path=value", value in YAML flow syntax
};

// Throws Error(config) for the first finding of severity error (not_found where the file is missing).
Config load(const LoadRequest& request);

enum class Severity : uint8_t { error, warning, note };

struct Finding {
  std::string code;  // stable, kebab-case
  Severity severity = Severity::error;
  std::string path;  // e.g. generator.models.phi2.top_k
  Origin origin;
  std::string message;
  std::string found, expected;
  std::string why;
  std::string fix;
};

// Everything that there is to say about a file: all errors (not just the first), warnings and notes, in file
// order. A missing or unreadable file throws; nothing else does.
std::vector<Finding> check(const LoadRequest& request);

// The same for YAML that is not in a file; request.file is only the name that findings carry.
Config load_text(std::string_view text, const LoadRequest& request);
std::vector<Finding> check_text(std::string_view text, const LoadRequest& request);

// Which source gives the value of `key` (a key of a model entry, aliases accepted) and what the others would
// have said. generation_config, config, tokenizer: the checkpoint's JSON files, null where not at hand.
struct Candidate {
  std::string source;  // command line, yaml, generation_config, config, tokenizer, default
  Json value;
};
struct Explanation {
  std::string key;
  Json value;
  std::string source;
  std::vector<Candidate> candidates;  // best first
};
struct CheckpointFacts {
  Json generation_config, config, tokenizer_config;
};
// Throws Error(usage, "unknown-key") with the nearest known key.
Explanation explain(const Config& config, const std::string& key, const CheckpointFacts& facts);
// The same for every key of a generation section, by name: the effective values of a request.
std::map<std::string, Explanation> explain_generation(const Config& config, const CheckpointFacts& facts);

// The JSON Schema (draft 2020-12) of the whole file, generated from the same table that validates.
OrderedJson json_schema();
// The reference of all keys in Markdown, from the same table: docs/config.md.
std::string reference_markdown();

}  // namespace rhapsode::config
