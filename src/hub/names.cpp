#include "hub/names.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/json.h"

namespace rhapsode::hub {
namespace {

constexpr size_t kMaxNameBytes = 1024;
constexpr size_t kMaxComponentBytes = 255;

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool is_hexadecimal(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_safe_component(std::string_view part) {
  return !part.empty() && part.size() <= kMaxComponentBytes && part != "." && part != "..";
}

// One part of a repo id, as the hub itself defines it: letters, digits, '_', '-', '.', no '-' or '.' at
// either end.
bool is_id_part(std::string_view part) {
  if (part.empty() || part.size() > 96 || !is_word(part.front()) || !is_word(part.back())) return false;
  return std::all_of(part.begin(), part.end(), [](char c) { return is_word(c) || c == '-' || c == '.'; });
}

}  // namespace

void check_repo_id(const std::string& id) {
  const size_t slash = id.find('/');
  const bool parts = slash == std::string::npos ? is_id_part(id)
                                                : is_id_part(std::string_view(id).substr(0, slash)) &&
                                                      is_id_part(std::string_view(id).substr(slash + 1));
  if (parts && id.find("--") == std::string::npos && id.find("..") == std::string::npos &&
      !id.ends_with(".git"))
    return;
  throw Error(ErrorKind::config, "bad-model-id", "the model id is neither a directory nor a name on the hub")
      .at("model_id")
      .saw(fmt::format("\"{}\"", excerpt(id)))
      .want("a directory, \"name\" or \"organization/name\" (letters, digits, '_', '-', '.')")
      .hint("a relative path that exists works too; start it with ./ to make clear that it is a path");
}

// A branch or tag becomes a path below refs/: it must not lead out of it.
void check_revision(const std::string& revision) {
  bool good =
      !revision.empty() && revision.size() <= 255 && revision.front() != '/' && revision.back() != '/';
  for (const char c : revision)
    good = good && static_cast<unsigned char>(c) > 0x20 && c != 0x7f && c != '\\' && c != ':' && c != '?' &&
           c != '*';
  good = good && revision.find("..") == std::string::npos && revision.find("//") == std::string::npos &&
         revision.find("./") == std::string::npos && revision.find("/.") == std::string::npos &&
         revision != ".";
  if (good) return;
  throw Error(ErrorKind::config, "bad-revision", "the revision is no branch, tag or commit")
      .at("revision")
      .saw(fmt::format("\"{}\"", excerpt(revision)))
      .want("a branch, a tag or a commit, such as main or refs/pr/1");
}
bool is_commit(std::string_view text) {
  return text.size() == 40 && is_hexadecimal(text);
}

bool is_etag(std::string_view text) {
  return (text.size() == 40 || text.size() == 64) && is_hexadecimal(text);
}

bool is_safe_file_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxNameBytes || !is_utf8(name)) return false;
  for (const char c : name)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '\\') return false;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    if (!is_safe_component(name.substr(begin, end - begin))) return false;
    begin = end + 1;
  }
  return true;
}

std::string repo_folder(const std::string& id) {
  std::string folder = "models--" + id;
  if (const size_t slash = folder.find('/'); slash != std::string::npos) folder.replace(slash, 1, "--");
  return folder;
}

std::string percent_encoded(std::string_view text, bool keep_slashes) {
  std::string out;
  for (const char c : text) {
    if (is_word(c) || c == '-' || c == '.' || c == '~' || (c == '/' && keep_slashes))
      out += c;
    else
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

}  // namespace rhapsode::hub
