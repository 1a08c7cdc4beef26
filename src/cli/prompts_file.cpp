#include "cli/prompts_file.h"

#include <sstream>

#include "base/error.h"
#include "cli/numbers.h"
#include "cli/text_source.h"
#include "runtime/generate.h"

namespace rhapsode::cli {
namespace {

bool are_ids(const OrderedJson& value) {
  if (!value.is_array() || value.empty()) return false;
  for (const OrderedJson& id : value)
    if (!id.is_number_unsigned() || id.get<uint64_t>() > UINT32_MAX) return false;
  return true;
}

}  // namespace

PromptsFile::PromptsFile(const std::string& file) : name_(file == "-" ? "stdin" : file) {
  std::istringstream lines(read_input(file));
  std::string line;
  for (uint64_t number = 1; std::getline(lines, line); ++number)
    if (line.find_first_not_of(" \t\r") != std::string::npos) add(line, number);
  if (prompts_.empty())
    throw Error(ErrorKind::usage, "empty-prompt", "the file holds no prompt")
        .in(name_)
        .want("a JSON text or object a line");
}

void PromptsFile::add(const std::string& text, uint64_t line) {
  const auto refuse = [&](const std::string& found) {
    throw Error(ErrorKind::usage, "bad-prompt", "a line is not a prompt")
        .in(name_, line, 1)
        .saw(found)
        .want(
            "a text, or an object with one of \"prompt\" (text), \"messages\" (a list of {role, content}), "
            "\"ids\" (a list of token ids)");
  };
  try {
    parse_json(text, name_, ErrorKind::usage);
  } catch (const Error& error) {
    refuse(error.message);
  }
  OrderedJson value = OrderedJson::parse(text);
  if (value.is_string()) value = OrderedJson{{"prompt", value}};
  if (!value.is_object() || value.size() != 1)
    refuse(value.is_object() ? std::to_string(value.size()) + " keys" : value.type_name());
  const std::string key = value.begin().key();
  const OrderedJson& content = value.begin().value();
  if (key == "messages") {
    check_messages(Json::parse(content.dump()), name_, "line " + std::to_string(line) + " /messages");
  } else if (key == "prompt" ? !content.is_string() : key == "ids" ? !are_ids(content) : true) {
    refuse("\"" + key + "\": " + content.type_name());
  }
  prompts_.push_back({line, std::move(value)});
}

bool PromptsFile::has_text() const {
  for (const Prompt& prompt : prompts_)
    if (!prompt.value.contains("ids")) return true;
  return false;
}

std::vector<std::vector<uint32_t>> PromptsFile::prompt_ids(const runtime::Assembly& assembly,
                                                           bool raw) const {
  std::vector<std::vector<uint32_t>> all;
  for (const Prompt& prompt : prompts_) {
    const OrderedJson& content = prompt.value.begin().value();
    if (prompt.value.contains("ids"))
      all.push_back(content.get<std::vector<uint32_t>>());
    else if (prompt.value.contains("messages"))
      all.push_back(runtime::messages_ids(assembly, content));
    else
      all.push_back(runtime::prompt_ids(assembly, content.get<std::string>(), raw));
  }
  return all;
}

}  // namespace rhapsode::cli
