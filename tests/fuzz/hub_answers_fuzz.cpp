// Any bytes as what a hub answers or a cache holds: the first byte chooses the parser. An Error, nothing, or
// values that keep inside the cache: names without a way out, commits and etags that are file names.
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "hub/answers.h"
#include "hub/names.h"
#include "hub/selection.h"
#include "hub/url.h"

namespace {

using namespace rhapsode;

void require(bool holds) {
  if (!holds) std::abort();
}

void require_safe(const hub::Tree& tree) {
  for (const auto& [path, file] : tree) require(hub::is_safe_file_name(path) && hub::is_etag(file.etag()));
}

void read_json(uint8_t which, std::string_view text) {
  switch (which) {
    case 0:
      return require(hub::is_commit(hub::parse_model_commit(text, "fuzz")));
    case 1: {
      hub::Tree tree;
      hub::parse_tree_page(text, "fuzz", tree);
      require_safe(tree);
      const auto again = hub::parse_kept_tree(hub::kept_tree_text(tree));
      return require(again && again->size() == tree.size());
    }
    case 2:
      return require(!hub::parse_whoami(text, "fuzz").empty());
    case 3:
      if (const auto tree = hub::parse_kept_tree(text)) require_safe(*tree);
      return;
    default:
      for (const std::string& shard : hub::shards_of_index(std::string(text), "fuzz"))
        require(hub::is_safe_file_name(shard));
  }
}

void read_fields(std::string_view text) {
  const size_t middle = text.size() / 2;
  hub::plain_etag(text);
  hub::next_page(text);
  hub::seconds_to_wait(text.substr(0, middle), text.substr(middle));
  if (const auto range = hub::parse_content_range(text))
    require(range->first <= range->last && (!range->total || range->last < *range->total));
  hub::decimal(text);
}

void read_notes(std::string_view text) {
  const auto notes = hub::parse_partial_notes(text);
  if (!notes) return;
  uint64_t before = 0, end = notes->head_end;
  for (const hub::PartialNotes::Mark& mark : notes->marks) {
    require(mark.bytes > before && mark.bytes <= notes->size_bytes && mark.notes_end > end);
    before = mark.bytes;
    end = mark.notes_end;
  }
  require(end <= text.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const uint8_t which = data[0] % 8;
  try {
    if (which < 5) read_json(which, text);
    if (which == 5) read_fields(text);
    if (which == 6) read_notes(text);
    if (which == 7) hub::parse_url(std::string(text));
  } catch (const Error& error) {
    require(error.kind == ErrorKind::network || error.kind == ErrorKind::integrity ||
            error.kind == ErrorKind::config);
    require(!error.message.empty());
  }
  return 0;
}
