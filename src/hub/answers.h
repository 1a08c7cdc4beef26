// What hubs answer and what we keep of it, parsed: header values, JSON of the API, trees/COMMIT.json, the
// notes beside a partial file. All of it is untrusted, the cache included. Each is fuzzed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rhapsode::hub {

struct TreeFile {
  uint64_t size_bytes = 0;
  std::string blob_id;     // git's
  std::string lfs_sha256;  // empty: a small file, kept in git itself
  std::string xet_hash;
  const std::string& etag() const { return lfs_sha256.empty() ? blob_id : lfs_sha256; }
};
using Tree = std::map<std::string, TreeFile>;  // by path

// JSON of the API. Text that is no such answer: network, "bad-hub-answer"; a path that leads out of the
// repository: integrity, "bad-file-name".
std::string parse_model_commit(std::string_view text, const std::string& from);
void parse_tree_page(std::string_view text, const std::string& from, Tree& tree);
std::string parse_whoami(std::string_view text, const std::string& from);

// trees/COMMIT.json as huggingface_hub keeps it; nullopt where it is none (another version, damage).
std::optional<Tree> parse_kept_tree(std::string_view text);
std::string kept_tree_text(const Tree& tree);

std::string plain_etag(std::string_view value);  // without W/ and quotes
std::string next_page(std::string_view link);    // of Link: <…>; rel="next"; empty: none
std::optional<uint32_t> seconds_to_wait(std::string_view retry_after, std::string_view rate_limit);
std::optional<uint64_t> decimal(std::string_view text);
struct ContentRange {
  uint64_t first = 0, last = 0;
  std::optional<uint64_t> total;
};
std::optional<ContentRange> parse_content_range(std::string_view value);

// The notes beside a partial file: what is fetched, then one line per stretch whose hash is known.
struct PartialNotes {
  std::string etag;
  uint64_t size_bytes = 0;
  std::string body_etag;  // of the answer that the bytes came from; empty: it gave no strong one
  struct Mark {
    uint64_t bytes = 0;      // from the start
    std::string hash;        // of all of them
    uint64_t notes_end = 0;  // where this mark's line ends in the notes
  };
  std::vector<Mark> marks;
  uint64_t head_end = 0;  // where the first line ends
};
std::optional<PartialNotes> parse_partial_notes(std::string_view text);
std::string partial_notes_head(const PartialNotes& notes);
std::string partial_notes_mark(const PartialNotes::Mark& mark);

}  // namespace rhapsode::hub
