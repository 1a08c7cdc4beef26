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

bool is_repo_id(std::string_view id) {
  const size_t slash = id.find('/');
  const bool parts = slash == std::string_view::npos
                         ? is_id_part(id)
                         : is_id_part(id.substr(0, slash)) && is_id_part(id.substr(slash + 1));
  return parts && id.find("--") == std::string_view::npos && id.find("..") == std::string_view::npos &&
         !id.ends_with(".git");
}

// The id within what was pasted: a page's address, spaces or slashes around it. Empty: none is seen.
std::string id_within(std::string_view text) {
  if (const size_t scheme = text.find("://"); scheme != std::string_view::npos) {
    const size_t host_end = std::min(text.find('/', scheme + 3), text.size());
    text.remove_prefix(std::min(host_end + 1, text.size()));
    const size_t owner_end = std::min(text.find('/'), text.size());
    text = text.substr(0, std::min(text.find_first_of("/?#", owner_end + 1), text.size()));
  }
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '/')) text.remove_suffix(1);
  return is_repo_id(text) ? std::string(text) : "";
}

}  // namespace

void check_repo_id(const std::string& id) {
  if (is_repo_id(id)) return;
  const std::string within = id_within(id);
  const bool is_path =
      id.starts_with('/') || id.starts_with("./") || id.starts_with("../") || id.starts_with('~');
  throw Error(ErrorKind::config, "bad-model-id", "the model id is neither a directory nor a name on the hub")
      .at("model_id")
      .saw(fmt::format("\"{}\"", excerpt(id)))
      .want("a directory, \"name\" or \"organization/name\" (letters, digits, '_', '-', '.')")
      .hint(!within.empty() ? "write " + within
            : is_path
                ? "this is a path: only a model of a hub is fetched, listed or removed"
                : "a relative path that exists works too; start it with ./ to make clear that it is a path");
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
      .want("a branch, a tag or a commit, such as main or refs/pr/1")
      .hint("copy it from the list of branches and commits on the model's page");
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
