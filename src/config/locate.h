// Places for errors that are found only later, when a value of the YAML meets the model.
#pragma once

#include "config/config.h"

namespace rhapsode::config {

// Gives an error about a key of `entry` (its path is the key's name) the place where the key is written;
// false where it is not, or where the error has a place or concerns no key.
bool locate(Error& error, const ModelEntry& entry);

// Of max_new_tokens and max_length one is in force. The name of the other one where `name` is not, else
// empty: explain() then gives null, and the source that decided.
std::string overruled_by(const Config& config, const std::string& name, const CheckpointFacts& facts);

}  // namespace rhapsode::config
