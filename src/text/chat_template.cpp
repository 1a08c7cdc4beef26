// Finds a checkpoint's chat template and hands messages to the crate. Which file wins is decided here; what a
// template may do is decided in the crate.
#include "text/chat_template.h"

#include <filesystem>

#include "text/ffi.h"
#include "text/tokenizer_impl.h"

namespace rhapsode::text {

namespace {

constexpr uint64_t kMaxTemplateBytes = 8'000'000;

struct Found {
  std::string source;
  std::string tool_source;
  std::string file;
};

Error bad_entry(const std::string& file, const Json& value) {
  return Error(ErrorKind::integrity, "bad-template",
               "chat_template is neither a string nor a list of named templates")
      .in(file)
      .at("/chat_template")
      .saw(value.dump().substr(0, 200))
      .want("a string, or a list of {\"name\", \"template\"} with a \"default\"");
}

// "chat_template" of a JSON file: a string, or a list of {name, template}.
std::optional<Found> from_json(const std::string& file) {
  if (!std::filesystem::exists(file)) return std::nullopt;
  const Json json = read_json_file(file, ErrorKind::integrity);
  if (!json.is_object() || !json.contains("chat_template") || json["chat_template"].is_null())
    return std::nullopt;
  const Json& value = json["chat_template"];
  if (value.is_string()) return Found{value.get<std::string>(), "", file};
  if (!value.is_array()) throw bad_entry(file, value);
  Found found{"", "", file};
  bool has_default = false;
  for (const Json& entry : value) {
    const bool good = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                      entry.contains("template") && entry["template"].is_string();
    if (!good) throw bad_entry(file, entry);
    if (entry["name"] == "default") {
      found.source = entry["template"].get<std::string>();
      has_default = true;
    }
    if (entry["name"] == "tool_use") found.tool_source = entry["template"].get<std::string>();
  }
  if (!has_default) throw bad_entry(file, value).saw("no entry named \"default\"");
  return found;
}

std::optional<Found> find(const std::string& directory) {
  const std::string plain = directory + "/chat_template.jinja";
  if (std::filesystem::exists(plain)) {
    Found found{read_file(plain, kMaxTemplateBytes), "", plain};
    const std::string tools = directory + "/additional_chat_templates/tool_use.jinja";
    if (std::filesystem::exists(tools)) found.tool_source = read_file(tools, kMaxTemplateBytes);
    return found;
  }
  auto found = from_json(directory + "/chat_template.json");
  return found ? found : from_json(directory + "/tokenizer_config.json");
}

void check(const std::string& source, const std::string& file) {
  OwnedBytes error;
  if (rh_template_check(as_text(source), error.out()) != 0) throw_described(error.view(), file);
}

}  // namespace

std::optional<ChatTemplate> ChatTemplate::load(const std::string& directory, const Tokenizer& tokenizer) {
  auto found = find(directory);
  if (!found) return std::nullopt;
  ChatTemplate result = from_source(std::move(found->source), found->file, tokenizer);
  if (!found->tool_source.empty()) check(found->tool_source, found->file);
  result.tool_source_ = std::move(found->tool_source);
  return result;
}

ChatTemplate ChatTemplate::from_source(std::string source, const std::string& file,
                                       const Tokenizer& tokenizer) {
  check(source, file);
  ChatTemplate result;
  result.source_ = std::move(source);
  result.file_ = file;
  result.tokenizer_ = &tokenizer;
  return result;
}

const std::string& ChatTemplate::source_for(const RenderOptions& options) const {
  return !tool_source_.empty() && !options.tools.is_null() ? tool_source_ : source_;
}

std::string ChatTemplate::variables(const OrderedJson& messages, const RenderOptions& options) const {
  OrderedJson input = OrderedJson::object();
  input["messages"] = messages;
  input["tools"] = options.tools;
  input["documents"] = options.documents;
  input["extra"] = options.extra;
  input["add_generation_prompt"] = options.add_generation_prompt;
  input["named"] = OrderedJson::object();
  for (const auto& [name, token] : tokenizer_->impl_->named) input["named"][name] = token;
  try {
    return input.dump();
  } catch (const OrderedJson::exception&) {
    throw Error(ErrorKind::usage, "bad-messages", "the messages are not UTF-8");
  }
}

std::string ChatTemplate::render(const OrderedJson& messages, const RenderOptions& options) const {
  const std::string input = variables(messages, options);
  OwnedBytes text;
  OwnedBytes error;
  if (rh_template_render(as_text(source_for(options)), as_text(input), text.out(), error.out()) != 0)
    throw_described(error.view(), file_);
  return std::string(text.view());
}

std::vector<uint32_t> ChatTemplate::encode(const OrderedJson& messages, const RenderOptions& options,
                                           std::string* rendered) const {
  const std::string input = variables(messages, options);
  OwnedBytes text;
  OwnedBytes packed;
  OwnedBytes error;
  if (rh_chat_encode(tokenizer_->impl_->handle, as_text(source_for(options)), as_text(input), text.out(),
                     packed.out(), error.out()) != 0)
    throw_described(error.view(), file_);
  if (rendered != nullptr) *rendered = std::string(text.view());
  return unpack_encoding(packed.view()).ids;
}

}  // namespace rhapsode::text
