// The one table of keys. Reading, ranges, unknown-key errors, explain, the JSON schema and docs/config.md all
// follow it; a key that is not here does not exist.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/config.h"

namespace rhapsode::config {

using Ids = std::vector<int64_t>;
using Texts = std::vector<std::string>;
using IdLists = std::vector<Ids>;
using SequenceBias = std::vector<std::pair<Ids, double>>;
using LengthDecay = std::pair<int64_t, double>;  // start, factor
using MaxMemory = std::vector<std::pair<DeviceName, Value<uint64_t>>>;

// Where the value of a key goes; its type is the type that the YAML must hold.
using Slot =
    std::variant<Maybe<bool> ModelEntry::*, Maybe<int64_t> ModelEntry::*, Maybe<uint64_t> ModelEntry::*,
                 Maybe<std::string> ModelEntry::*, Value<std::string> ModelEntry::*,
                 Maybe<Dtype> ModelEntry::*, Maybe<DeviceMap> ModelEntry::*, MaxMemory ModelEntry::*,
                 Maybe<Quantization> ModelEntry::*,
                 QuantizationConfig ModelEntry::*,  //
                 Maybe<bool> QuantizationConfig::*, Maybe<double> QuantizationConfig::*,
                 Maybe<std::string> QuantizationConfig::*, Maybe<Dtype> QuantizationConfig::*,
                 Maybe<Texts> QuantizationConfig::*,  //
                 Maybe<bool> Generation::*, Maybe<int64_t> Generation::*, Maybe<double> Generation::*,
                 Maybe<std::string> Generation::*, Maybe<EarlyStopping> Generation::*,
                 Maybe<Ids> Generation::*, Maybe<Texts> Generation::*, Maybe<IdLists> Generation::*,
                 Maybe<SequenceBias> Generation::*, Maybe<LengthDecay> Generation::*>;

// Bounds of a number, or of each id of a list.
struct Range {
  std::optional<double> min{}, max{};
  bool above_min = false;  // min itself is not allowed
  bool below_max = false;

  bool holds(double x) const;
  std::string to_text() const;  // "at least 1", "above 0 and at most 1", "any number"
};

// When a key has an effect at all.
enum class Knob : uint8_t { always, sampling, beams, four_bit, eight_bit };

struct Key {
  std::string_view name;
  std::string_view alias;  // a second accepted spelling, may be empty
  Slot slot;
  Range range{};
  std::string_view choices{};  // accepted words of a text, separated by blanks; empty: any
  std::string_view unit{};
  std::string_view guide_default{};         // JSON; empty: none, the effect says what absence means
  std::string_view transformers_default{};  // JSON; under `defaults: transformers`
  Knob knob = Knob::always;
  bool required = false;
  bool one_or_list = false;    // a list of one may be written without brackets
  std::string_view section{};  // of the guide
  std::string_view effect{};
};

std::span<const Key> loading_keys();       // of a model entry
std::span<const Key> generation_keys();    // of a model entry
std::span<const Key> quantization_keys();  // of quantization_config

// By name or alias; nullptr where there is none.
const Key* find_key(std::span<const Key> keys, std::string_view name);
const Key* find_entry_key(std::string_view name);  // loading or generation
const Key* find_any_key(
    std::string_view name);  // also quantization_config.NAME and bare names of quantization_config
// Names and aliases.
std::vector<std::string> names_of(std::span<const Key> keys);
std::vector<std::string> entry_key_names();
std::vector<std::string> words_of(std::string_view blank_separated);

// The value that the slot of `key` holds, as JSON: null where it was not given.
Json slot_value(const ModelEntry& entry, const Key& key);
// Where the value was written; nullopt where it was not given.
std::optional<Origin> slot_origin(const ModelEntry& entry, const Key& key);
Json default_of(const Key& key, bool transformers);

}  // namespace rhapsode::config
