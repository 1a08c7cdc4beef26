// The prompts of `run --prompts-file`: JSON lines, each a text or an object with one of prompt, messages,
// ids.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "runtime/assembly.h"

namespace rhapsode::cli {

class PromptsFile {
 public:
  // "-" is stdin. Throws usage errors that name the line.
  explicit PromptsFile(const std::string& file);

  // Whether any prompt has to be made into ids.
  bool has_text() const;
  // `raw`: texts as they are, without a chat template.
  std::vector<std::vector<uint32_t>> prompt_ids(const runtime::Assembly& assembly, bool raw) const;

 private:
  struct Prompt {
    uint64_t line;
    OrderedJson value;  // an object with one key
  };
  void add(const std::string& text, uint64_t line);

  std::string name_;
  std::vector<Prompt> prompts_;
};

}  // namespace rhapsode::cli
