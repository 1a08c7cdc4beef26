// What transformers does with tokenizer.json where tokenizer_config.json names a class that builds its own
// pipeline.
#pragma once

#include <string>

namespace rhapsode::text {

// tokenizer.json as transformers runs it. LlamaTokenizer takes vocabulary, merges, added tokens and
// post-processor from the file and splits with a Metaspace of its own, unless the file is byte-level or the
// model is of a family for which the file is used as it is; every other class uses the file as it is.
std::string apply_tokenizer_class(const std::string& directory, std::string tokenizer_json);

}  // namespace rhapsode::text
