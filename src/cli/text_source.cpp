#include "cli/text_source.h"

#include "cli/environment.h"
#include "cli/model_fetch.h"
#include "cli/numbers.h"
#include "config/locate.h"

namespace rhapsode::cli {

runtime::TextFiles open_text(const Globals& globals, const std::optional<std::string>& tokenizer_directory,
                             const std::string& command) {
  if (globals.config.empty() == !tokenizer_directory.has_value())
    throw Error(ErrorKind::usage, globals.config.empty() ? "missing-option" : "conflicting-options",
                command + " takes a config or a tokenizer's directory")
        .saw(globals.config.empty() ? "neither" : "both")
        .want("-c FILE or --tokenizer DIR")
        .hint("rhapsode " + command + " --help");
  if (tokenizer_directory) return runtime::load_text(*tokenizer_directory, nullptr);
  const config::Config config = config::load(load_request(globals, command));
  const config::ModelEntry& entry = config.active();
  std::string directory;
  try {
    directory = fetched_text(entry, hub_settings(globals), globals);
  } catch (Error& error) {
    config::locate(error, entry);
    throw;
  }
  return runtime::load_text(directory, &entry);
}

void check_messages(const Json& messages, const std::string& name, const std::string& place) {
  const auto refuse = [&](const std::string& path, const std::string& found) {
    throw Error(ErrorKind::usage, "bad-messages", "the messages are not a conversation")
        .in(name)
        .at(place + path)
        .saw(found)
        .want("a list of objects with \"role\" and \"content\"");
  };
  if (!messages.is_array()) refuse("", messages.type_name());
  if (messages.empty()) refuse("", "an empty list");
  for (size_t i = 0; i < messages.size(); ++i) {
    const Json& message = messages[i];
    const std::string path = "/" + std::to_string(i);
    if (!message.is_object()) refuse(path, message.type_name());
    if (!message.contains("role")) refuse(path, "an object without \"role\"");
    if (!message.at("role").is_string()) refuse(path + "/role", message.at("role").type_name());
  }
}

OrderedJson read_messages(const std::string& file) {
  const std::string name = file == "-" ? "stdin" : file;
  const std::string text = read_input(file);
  check_messages(parse_json(text, name, ErrorKind::usage), name, "");
  return OrderedJson::parse(text);
}

}  // namespace rhapsode::cli
