#include "hub/answers.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/json.h"
#include "hub/names.h"

namespace rhapsode::hub {
namespace {

constexpr size_t kMaxFiles = 100'000;

Error bad_answer(const std::string& from, std::string found, const char* want) {
  return Error(ErrorKind::network, "bad-hub-answer", "the answer is not a hub's")
      .in(from)
      .saw(std::move(found))
      .want(want)
      .hint("check HF_ENDPOINT, proxies and captive portals");
}

Json parse(std::string_view text, const std::string& from) {
  return parse_json(text, from, ErrorKind::network, {.max_bytes = 64'000'000, .max_depth = 64});
}

const Json* field(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto at = object.find(name);
  return at == object.end() || at->is_null() ? nullptr : &*at;
}

std::string text_field(const Json& object, const char* name) {
  const Json* value = field(object, name);
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

std::optional<uint64_t> size_field(const Json& object, const char* name) {
  const Json* value = field(object, name);
  if (value == nullptr || !value->is_number_unsigned()) return std::nullopt;
  return value->get<uint64_t>();
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

TreeFile tree_file(const Json& entry, const std::string& path, const std::string& from) {
  TreeFile file;
  file.blob_id = text_field(entry, "oid");
  const std::optional<uint64_t> size = size_field(entry, "size");
  bool good = size && is_commit(file.blob_id);
  if (good) file.size_bytes = *size;
  if (const Json* lfs = field(entry, "lfs")) {
    file.lfs_sha256 = text_field(*lfs, "oid");
    const std::optional<uint64_t> lfs_size = size_field(*lfs, "size");
    good =
        good && file.lfs_sha256.size() == 64 && is_etag(file.lfs_sha256) && (!lfs_size || *lfs_size == *size);
  }
  file.xet_hash = text_field(entry, "xetHash");
  if (good) return file;
  throw bad_answer(from, fmt::format("size or hash of {}", excerpt(path)), "size, oid and lfs of every file");
}

}  // namespace

std::string parse_model_commit(std::string_view text, const std::string& from) {
  const std::string commit = text_field(parse(text, from), "sha");
  if (is_commit(commit)) return commit;
  throw bad_answer(from, fmt::format("sha \"{}\"", excerpt(commit)), "a commit in `sha`");
}

void parse_tree_page(std::string_view text, const std::string& from, Tree& tree) {
  const Json page = parse(text, from);
  if (!page.is_array()) throw bad_answer(from, page.type_name(), "a list of files");
  for (const Json& entry : page) {
    const std::string path = text_field(entry, "path");
    if (!is_safe_file_name(path))
      throw Error(ErrorKind::integrity, "bad-file-name", "the repository lists a file that leads out of it")
          .in(from)
          .saw(fmt::format("\"{}\"", excerpt(path)))
          .want("a relative path without '.', '..' and backslashes")
          .hint("nothing was fetched; do not trust this repository");
    if (text_field(entry, "type") != "file") continue;
    if (tree.size() >= kMaxFiles) throw bad_answer(from, "more than 100000 files", "a model's repository");
    tree[path] = tree_file(entry, path, from);
  }
}

std::string parse_whoami(std::string_view text, const std::string& from) {
  const std::string name = text_field(parse(text, from), "name");
  if (!name.empty()) return excerpt(name);
  throw bad_answer(from, "no name", "the name of the token's owner");
}

std::optional<Tree> parse_kept_tree(std::string_view text) {
  try {
    const Json kept = parse(text, "tree");
    const Json* files = field(kept, "files");
    if (size_field(kept, "format_version") != 1 || files == nullptr || !files->is_object())
      return std::nullopt;
    Tree tree;
    for (const auto& [path, entry] : files->items()) {
      TreeFile file{size_field(entry, "size").value_or(0), text_field(entry, "blob_id"),
                    text_field(entry, "lfs_sha256"), text_field(entry, "xet_hash")};
      const bool good = is_safe_file_name(path) && size_field(entry, "size") && is_etag(file.etag()) &&
                        (file.lfs_sha256.empty() || file.lfs_sha256.size() == 64);
      if (!good || tree.size() >= kMaxFiles) return std::nullopt;
      tree[path] = std::move(file);
    }
    return tree;
  } catch (const Error&) {
    return std::nullopt;  // a cache may be damaged: it is asked for again
  }
}

std::string kept_tree_text(const Tree& tree) {
  OrderedJson files = OrderedJson::object();
  for (const auto& [path, file] : tree) {
    OrderedJson entry{{"size", file.size_bytes}, {"blob_id", file.blob_id}};
    if (!file.lfs_sha256.empty()) {
      entry["lfs_sha256"] = file.lfs_sha256;
      entry["lfs_size"] = file.size_bytes;
    }
    if (!file.xet_hash.empty()) entry["xet_hash"] = file.xet_hash;
    files[path] = std::move(entry);
  }
  return OrderedJson{{"format_version", 1}, {"files", files}}.dump(1);
}

std::string plain_etag(std::string_view value) {
  if (value.starts_with("W/")) value.remove_prefix(2);
  while (!value.empty() && value.front() == '"') value.remove_prefix(1);
  while (!value.empty() && value.back() == '"') value.remove_suffix(1);
  return std::string(value);
}

std::string next_page(std::string_view link) {
  while (!link.empty()) {
    const size_t open = link.find('<'), close = link.find('>');
    if (open == std::string_view::npos || close == std::string_view::npos || close < open) return "";
    const size_t end = std::min(link.find('<', close), link.size());
    const std::string_view rest = link.substr(close + 1, end - close - 1);
    if (rest.find("rel=\"next\"") != std::string_view::npos ||
        rest.find("rel=next") != std::string_view::npos)
      return std::string(link.substr(open + 1, close - open - 1));
    link.remove_prefix(end);
  }
  return "";
}

std::optional<uint64_t> decimal(std::string_view text) {
  text = trimmed(text);
  uint64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::optional<uint32_t> seconds_to_wait(std::string_view retry_after, std::string_view rate_limit) {
  constexpr uint64_t kMost = 1'000'000;
  bool exhausted = false;
  std::optional<uint64_t> reset;
  for (size_t at = 0; at < rate_limit.size();) {  // "api";r=0;t=55
    const size_t end = std::min(rate_limit.find(';', at), rate_limit.size());
    const std::string_view part = trimmed(rate_limit.substr(at, end - at));
    if (part.starts_with("r=")) exhausted = decimal(part.substr(2)) == 0;
    if (part.starts_with("t=")) reset = decimal(part.substr(2));
    at = end + 1;
  }
  const std::optional<uint64_t> wait = exhausted && reset ? reset : decimal(retry_after);
  return wait ? std::optional(static_cast<uint32_t>(std::min(*wait, kMost))) : std::nullopt;
}

std::optional<ContentRange> parse_content_range(std::string_view value) {
  if (!value.starts_with("bytes ")) return std::nullopt;
  value.remove_prefix(6);
  const size_t dash = value.find('-'), slash = value.find('/');
  if (dash == std::string_view::npos || slash == std::string_view::npos || slash < dash) return std::nullopt;
  const auto first = decimal(value.substr(0, dash)), last = decimal(value.substr(dash + 1, slash - dash - 1));
  const auto total = decimal(value.substr(slash + 1));
  if (!first || !last || *last < *first || (!total && trimmed(value.substr(slash + 1)) != "*"))
    return std::nullopt;
  if (total && *last >= *total) return std::nullopt;
  return ContentRange{*first, *last, total};
}

std::optional<PartialNotes> parse_partial_notes(std::string_view text) {
  const size_t line_end = text.find('\n');
  if (line_end == std::string_view::npos || line_end > 4096) return std::nullopt;
  PartialNotes notes;
  try {
    const Json head = parse(text.substr(0, line_end), "notes");
    const std::optional<uint64_t> size = size_field(head, "size");
    notes.etag = text_field(head, "etag");
    notes.body_etag = text_field(head, "body_etag");
    if (size_field(head, "format") != 1 || !size || !is_etag(notes.etag)) return std::nullopt;
    notes.size_bytes = *size;
  } catch (const Error&) {
    return std::nullopt;
  }
  notes.head_end = line_end + 1;
  for (size_t at = notes.head_end; at < text.size();) {
    const size_t end = text.find('\n', at);
    if (end == std::string_view::npos) break;  // torn: the last line was not written whole
    const std::string_view line = text.substr(at, end - at);
    const size_t space = line.find(' ');
    const auto bytes = decimal(line.substr(0, std::min(space, line.size())));
    const uint64_t before = notes.marks.empty() ? 0 : notes.marks.back().bytes;
    if (space == std::string_view::npos || !bytes || *bytes <= before || *bytes > notes.size_bytes ||
        !is_etag(line.substr(space + 1)))
      break;
    notes.marks.push_back({*bytes, std::string(line.substr(space + 1)), end + 1});
    at = end + 1;
  }
  return notes;
}

std::string partial_notes_head(const PartialNotes& notes) {
  const OrderedJson head{
      {"format", 1}, {"etag", notes.etag}, {"size", notes.size_bytes}, {"body_etag", notes.body_etag}};
  return head.dump(-1, ' ', true, OrderedJson::error_handler_t::replace) + "\n";
}

std::string partial_notes_mark(const PartialNotes::Mark& mark) {
  return fmt::format("{} {}\n", mark.bytes, mark.hash);
}

}  // namespace rhapsode::hub
