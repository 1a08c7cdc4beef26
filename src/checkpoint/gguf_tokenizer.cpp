// tokenizer.json and tokenizer_config.json from the tokenizer of a GGUF file: byte-level BPE ("gpt2") and
// SentencePiece BPE ("llama"), with the splitting pattern, added tokens and post-processor that transformers
// gives the same file. One difference, on purpose: a token that the vocabulary does not have is never added
// to it, for the embedding would have no row for it.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <tuple>
#include <unordered_map>

#include "checkpoint/gguf_model.h"

namespace rhapsode::gguf {
namespace {

constexpr int64_t kControl = 3;
constexpr int64_t kUserDefined = 4;
// Trying every cut of a token costs its length squared, and what comes out can be that much too; the longest
// tokens of real vocabularies have some hundred bytes, the squares of all lengths together some ten millions.
constexpr size_t kMaxDerivedBytes = 1024;
constexpr uint64_t kMaxCutBytes = uint64_t{1} << 32;    // hashed while cutting all tokens
constexpr uint64_t kMaxMergeBytes = uint64_t{1} << 28;  // of all derived merges

constexpr const char* kLlama3Split =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+"
    "|\\s+(?!\\S)|\\s+";
constexpr const char* kTekkenSplit =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
    "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kQwen2Split =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+"
    "|\\s+(?!\\S)|\\s+";
constexpr const char* kQwen35Split =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
    "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*"
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kGpt4oSplit =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'"
    "ve|'m|'ll|'d)?"
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|"
    "'ve|'m|'ll|'d)?"
    "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

// The pattern that a value of tokenizer.ggml.pre stands for; none: the byte-level default, as transformers
// has it.
const char* split_of(std::string_view pre) {
  static const std::map<std::string_view, const char*> kSplits{
      {"llama3", kLlama3Split},       {"llama-v3", kLlama3Split},
      {"llama-bpe", kLlama3Split},    {"falcon3", kLlama3Split},
      {"falcon-h1", kLlama3Split},    {"pixtral", kLlama3Split},
      {"midm-2.0", kLlama3Split},     {"lfm2", kLlama3Split},
      {"jina-v5-nano", kLlama3Split}, {"dbrx", kLlama3Split},
      {"smaug-bpe", kLlama3Split},    {"tekken", kTekkenSplit},
      {"qwen2", kQwen2Split},         {"deepseek-r1-qwen", kQwen2Split},
      {"kormo", kQwen2Split},         {"f2llmv2", kQwen2Split},
      {"megrez", kQwen2Split},        {"qwen35", kQwen35Split},
      {"gpt-4o", kGpt4oSplit},        {"llama4", kGpt4oSplit},
      {"kanana2", kGpt4oSplit},       {"talkie", kGpt4oSplit},
      {"minimax-m2", kGpt4oSplit}};
  const auto at = kSplits.find(pre);
  return at == kSplits.end() ? nullptr : at->second;
}

// Code points of valid UTF-8, as the pieces of text that spell them.
std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> out;
  for (size_t i = 0; i < text.size();) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    const size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    out.push_back(text.substr(i, n));
    i += n;
  }
  return out;
}

// The character that stands for a byte in byte-level vocabularies: printable Latin-1 for itself, the rest
// from U+0100 on.
const std::array<std::string, 256>& byte_spelling() {
  static const std::array<std::string, 256> kSpelling = [] {
    std::array<std::string, 256> out;
    unsigned next = 256;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      const unsigned code = itself ? byte : next++;
      if (code < 0x80)
        out[byte] = std::string(1, static_cast<char>(code));
      else
        out[byte] = {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
    }
    return out;
  }();
  return kSpelling;
}

bool is_byte_spelled(std::string_view token) {
  static const std::set<std::string, std::less<>> kAlphabet(byte_spelling().begin(), byte_spelling().end());
  const std::vector<std::string_view> pieces = characters(token);
  return std::all_of(pieces.begin(), pieces.end(), [](std::string_view c) { return kAlphabet.contains(c); });
}

std::string byte_spelled(std::string_view token) {
  std::string out;
  for (const char c : token) out += byte_spelling()[static_cast<unsigned char>(c)];
  return out;
}

bool is_space(std::string_view c) {  // what Python's str.strip() takes away
  static const std::set<std::string_view> kSpaces{
      "\t",     "\n",     "\v",     "\f",     "\r",     "\x1c",   "\x1d",   "\x1e",   "\x1f",   " ",
      "\u0085", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005", "\u2006",
      "\u2007", "\u2008", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};
  return kSpaces.contains(c);
}

enum class Kind { byte_level, llama, phi3, gemma };

// By spelling, found by a view without making a string of it.
struct SpellingHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using Ids = std::unordered_map<std::string, int64_t, SpellingHash, std::equal_to<>>;

// The tokenizer's parts as they are read, before they become JSON.
struct Parts {
  Kind kind = Kind::byte_level;
  std::vector<std::string> tokens;      // as the file spells them
  std::vector<std::string> vocabulary;  // as tokenizer.json spells them, by id
  Ids ids;
  std::vector<std::pair<std::string, std::string>> merges;
  std::map<std::string, std::optional<int64_t>> named;  // bos_token, … -> id
  bool add_bos = false, add_eos = false;
};

Kind kind_of(const File& file) {
  const std::string model = required_text(file, "tokenizer.ggml.model");
  const std::string architecture = required_text(file, "general.architecture");
  if (model == "gpt2") return Kind::byte_level;
  if (model == "llama") {
    if (architecture.starts_with("gemma")) return Kind::gemma;
    return architecture == "phi3" ? Kind::phi3 : Kind::llama;
  }
  throw Error(ErrorKind::unsupported, "gguf-tokenizer", "tokenizers of this kind cannot be imported")
      .in(file.path)
      .at("tokenizer.ggml.model")
      .saw(fmt::format("\"{}\"", excerpt(model)))
      .want("gpt2 or llama");
}

void read_named(const File& file, Parts& parts) {
  for (const auto& [name, key] :
       {std::pair{"bos_token", "bos_token_id"}, std::pair{"eos_token", "eos_token_id"},
        std::pair{"unk_token", "unknown_token_id"}, std::pair{"pad_token", "padding_token_id"}}) {
    const std::string full = std::string("tokenizer.ggml.") + key;
    const std::optional<int64_t> id = integer(file, full);
    if (id && (*id < 0 || static_cast<uint64_t>(*id) >= parts.tokens.size()))
      throw bad_metadata(file, full, "a token id is outside of the vocabulary")
          .saw(fmt::format("{}", *id))
          .want(fmt::format("below {}", parts.tokens.size()));
    parts.named[name] = id;
  }
}

void spell_vocabulary(Parts& parts) {
  std::set<int64_t> named;
  for (const auto& [name, id] : parts.named)
    if (id) named.insert(*id);
  for (size_t i = 0; i < parts.tokens.size(); ++i) {
    const std::string& token = parts.tokens[i];
    std::string spelled = token;
    // A named token keeps its spelling: texts are searched for it as it is.
    if (parts.kind == Kind::byte_level && !named.contains(static_cast<int64_t>(i)) && !is_byte_spelled(token))
      spelled = byte_spelled(token);
    if (parts.kind == Kind::gemma && token.find(' ') != std::string::npos) {
      const std::vector<std::string_view> pieces = characters(token);
      if (std::all_of(pieces.begin(), pieces.end(), is_space)) {
        spelled.clear();
        for (size_t k = 0; k < pieces.size(); ++k) spelled += "\u2581";
      }
    }
    parts.ids[spelled] = static_cast<int64_t>(i);  // of two equal spellings the later one counts
    parts.vocabulary.push_back(std::move(spelled));
  }
}

void check_merge(const File& file, const Parts& parts, const std::pair<std::string, std::string>& merge,
                 size_t index) {
  if (parts.ids.contains(merge.first) && parts.ids.contains(merge.second) &&
      parts.ids.contains(merge.first + merge.second))
    return;
  throw bad_metadata(file, "tokenizer.ggml.merges", "a merge names a token that the vocabulary does not have")
      .saw(fmt::format("\"{}\" + \"{}\" (merge {})", excerpt(merge.first), excerpt(merge.second), index))
      .want("both parts and their union in tokenizer.ggml.tokens");
}

// A way to cut a token in two.
struct Cut {
  double score;
  int64_t left_id, right_id;
  size_t left_length, right_length;  // in characters
  std::string_view left, right;      // keys of Parts::ids
};

// Every cut of one token in two tokens, by the ids of the parts.
void add_cuts(const Parts& parts, std::string_view token, double score, std::vector<Cut>& all) {
  const std::vector<std::string_view> pieces = characters(token);
  const size_t first = all.size();
  size_t cut = 0;
  for (size_t k = 1; k < pieces.size(); ++k) {
    cut += pieces[k - 1].size();
    const auto left = parts.ids.find(token.substr(0, cut));
    if (left == parts.ids.end()) continue;
    const auto right = parts.ids.find(token.substr(cut));
    if (right == parts.ids.end()) continue;
    all.push_back({score, left->second, right->second, k, pieces.size() - k, left->first, right->first});
  }
  std::stable_sort(all.begin() + static_cast<std::ptrdiff_t>(first), all.end(),
                   [](const Cut& a, const Cut& b) {
                     return std::tie(a.left_id, a.right_id) < std::tie(b.left_id, b.right_id);
                   });
}

// Merges that a vocabulary implies: every way to cut a token in two tokens, best score first.
void derive_merges(const File& file, Parts& parts) {
  const std::vector<double>* scores = numbers(file, "tokenizer.ggml.scores");
  if (parts.kind != Kind::gemma && (scores == nullptr || scores->size() < parts.tokens.size()))
    throw bad_metadata(file, "tokenizer.ggml.scores", "the vocabulary has neither merges nor scores")
        .saw(scores == nullptr ? "no such key" : fmt::format("{} scores", scores->size()))
        .want(fmt::format("{} scores", parts.tokens.size()));
  const auto too_much = [&](std::string_view token, int64_t id, const char* message, uint64_t found,
                            uint64_t most) {
    return bad_metadata(file, "tokenizer.ggml.tokens", message)
        .saw(fmt::format("{} bytes at \"{}\" (token {})", found, excerpt(token), id))
        .want(fmt::format("at most {} bytes", most));
  };
  std::vector<Cut> all;
  std::set<std::string_view> done;
  uint64_t cut_bytes = 0, merge_bytes = 0;
  for (const std::string& token : parts.vocabulary) {
    if (!done.insert(token).second) continue;
    const int64_t id = parts.ids.at(token);
    if (token.size() > kMaxDerivedBytes)
      throw too_much(token, id, "a token is too long to derive merges from", token.size(), kMaxDerivedBytes);
    cut_bytes += token.size() * token.size();
    const size_t before = all.size();
    add_cuts(parts, token,
             parts.kind == Kind::gemma ? -static_cast<double>(id) : (*scores)[static_cast<size_t>(id)], all);
    merge_bytes += (all.size() - before) * (token.size() + sizeof(Cut));
    if (cut_bytes > kMaxCutBytes)
      throw too_much(token, id, "the tokens are too long to derive merges from", cut_bytes, kMaxCutBytes);
    if (merge_bytes > kMaxMergeBytes)
      throw too_much(token, id, "the vocabulary implies too many merges", merge_bytes, kMaxMergeBytes);
  }
  std::stable_sort(all.begin(), all.end(), [](const Cut& a, const Cut& b) {
    return std::tie(a.score, a.left_length, a.right_length) >
           std::tie(b.score, b.left_length, b.right_length);
  });
  for (const Cut& c : all) parts.merges.emplace_back(c.left, c.right);
}

void read_merges(const File& file, Parts& parts) {
  const std::vector<std::string>* merges = texts(file, "tokenizer.ggml.merges");
  if (merges == nullptr) return derive_merges(file, parts);
  for (const std::string& merge : *merges) {
    const size_t space = merge.find(' ');
    if (space == std::string::npos || merge.find(' ', space + 1) != std::string::npos)
      throw bad_metadata(file, "tokenizer.ggml.merges", "a merge is not two tokens with a space between")
          .saw(fmt::format("\"{}\" (merge {})", excerpt(merge), parts.merges.size()))
          .want("two tokens with one space between");
    parts.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
    check_merge(file, parts, parts.merges.back(), parts.merges.size() - 1);
  }
}

Parts read_parts(const File& file) {
  Parts parts;
  parts.kind = kind_of(file);
  const std::vector<std::string>* tokens = texts(file, "tokenizer.ggml.tokens");
  if (tokens == nullptr || tokens->empty())
    throw bad_metadata(file, "tokenizer.ggml.tokens", "the file has no vocabulary")
        .saw(tokens == nullptr ? "no such key" : "no tokens")
        .want("tokens");
  parts.tokens = *tokens;
  read_named(file, parts);
  spell_vocabulary(parts);
  read_merges(file, parts);
  // Older SentencePiece files do not say it and mean yes.
  parts.add_bos = boolean(file, "tokenizer.ggml.add_bos_token").value_or(parts.kind != Kind::byte_level) &&
                  parts.named["bos_token"];
  parts.add_eos = boolean(file, "tokenizer.ggml.add_eos_token").value_or(false) && parts.named["eos_token"];
  return parts;
}

// Added tokens by id: true where they are special.
std::map<int64_t, bool> added_tokens(const File& file, const Parts& parts) {
  std::map<int64_t, bool> added;
  static const std::map<Kind, std::vector<std::string>> kClassTokens{
      {Kind::byte_level, {"<|endoftext|>"}},
      {Kind::llama, {"<unk>", "<s>", "</s>"}},
      {Kind::phi3, {"<unk>", "<s>", "</s>"}},
      {Kind::gemma, {"<unk>", "<bos>", "<eos>", "<pad>", "<mask>"}}};
  for (const std::string& token : kClassTokens.at(parts.kind))
    if (const auto at = parts.ids.find(token); at != parts.ids.end()) added.emplace(at->second, true);
  const std::vector<int64_t>* types = integers(file, "tokenizer.ggml.token_type");
  const size_t typed = types == nullptr ? 0 : std::min(types->size(), parts.tokens.size());
  for (const int64_t wanted : {kControl, kUserDefined})
    for (size_t i = 0; i < typed; ++i) {
      const auto at = parts.ids.find(parts.tokens[i]);
      if ((*types)[i] != wanted || at == parts.ids.end()) continue;
      // A control token of a byte-level vocabulary that is not spelled in its alphabet is mislabelled.
      if (wanted == kControl && parts.kind == Kind::byte_level && !is_byte_spelled(parts.tokens[i])) continue;
      added.emplace(at->second, wanted == kControl);
    }
  for (const auto& [name, id] : parts.named)
    if (id) added.emplace(parts.ids.at(parts.vocabulary[static_cast<size_t>(*id)]), true);
  return added;
}

OrderedJson added_json(const Parts& parts, const std::map<int64_t, bool>& added) {
  OrderedJson out = OrderedJson::array();
  for (const auto& [id, special] : added)
    out.push_back({{"id", id},
                   {"content", parts.vocabulary[static_cast<size_t>(id)]},
                   {"single_word", false},
                   {"lstrip", false},
                   {"rstrip", false},
                   {"normalized", false},
                   {"special", special}});
  return out;
}

OrderedJson model_json(const Parts& parts) {
  const bool byte_level = parts.kind == Kind::byte_level;
  const OrderedJson affix = byte_level ? OrderedJson("") : OrderedJson(nullptr);
  OrderedJson model{{"type", "BPE"},
                    {"dropout", nullptr},
                    {"unk_token", parts.kind == Kind::gemma ? OrderedJson("<unk>") : OrderedJson(nullptr)},
                    {"continuing_subword_prefix", affix},
                    {"end_of_word_suffix", affix},
                    {"fuse_unk", !byte_level},
                    {"byte_fallback", !byte_level},
                    {"ignore_merges", false}};
  OrderedJson::object_t vocabulary;
  for (size_t i = 0; i < parts.vocabulary.size(); ++i)
    if (parts.ids.at(parts.vocabulary[i]) == static_cast<int64_t>(i))
      vocabulary.emplace_back(parts.vocabulary[i], i);
  model["vocab"] = std::move(vocabulary);
  OrderedJson::array_t merges;
  merges.reserve(parts.merges.size());
  for (const auto& [left, right] : parts.merges) {
    OrderedJson::array_t pair;
    pair.reserve(2);
    pair.emplace_back(left);
    pair.emplace_back(right);
    merges.emplace_back(std::move(pair));
  }
  model["merges"] = std::move(merges);
  return model;
}

OrderedJson byte_level_json(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

OrderedJson replace_json(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

OrderedJson normalizer_json(const File& file, Kind kind) {
  // For this architecture transformers puts its own normalizer over any tokenizer.json (as the original model
  // has it), though not over the GGUF file itself: the checkpoint agrees with how checkpoints are read.
  if (required_text(file, "general.architecture") == "qwen2") return {{"type", "NFC"}};
  if (kind == Kind::gemma) return replace_json(" ", "\u2581");
  if (kind != Kind::phi3) return nullptr;
  return {{"type", "Sequence"},
          {"normalizers",
           OrderedJson::array({{{"type", "Prepend"}, {"prepend", "\u2581"}}, replace_json(" ", "\u2581")})}};
}

OrderedJson pre_tokenizer_json(const File& file, Kind kind) {
  const std::string* pre = text(file, "tokenizer.ggml.pre");
  if (const char* split = pre == nullptr ? nullptr : split_of(*pre))
    return {{"type", "Sequence"},
            {"pretokenizers", OrderedJson::array({{{"type", "Split"},
                                                   {"pattern", {{"Regex", split}}},
                                                   {"behavior", "Isolated"},
                                                   {"invert", false}},
                                                  byte_level_json(false, false)})}};
  switch (kind) {
    case Kind::byte_level:
      return byte_level_json(false, true);
    case Kind::llama:
      return {
          {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "first"}, {"split", false}};
    case Kind::phi3:
      return nullptr;
    case Kind::gemma:
      return {{"type", "Split"},
              {"pattern", {{"String", " "}}},
              {"behavior", "MergedWithPrevious"},
              {"invert", false}};
  }
  return nullptr;
}

OrderedJson decoder_json(Kind kind) {
  if (kind == Kind::byte_level) return byte_level_json(true, true);
  OrderedJson steps =
      OrderedJson::array({replace_json("\u2581", " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  if (kind != Kind::gemma) steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", steps}};
}

OrderedJson post_processor_json(const Parts& parts) {
  OrderedJson single = OrderedJson::array(), pair = OrderedJson::array(), specials = OrderedJson::object();
  const auto special = [&](const char* name, int type_id) {
    const int64_t id = *parts.named.at(name);
    const std::string& token = parts.vocabulary[static_cast<size_t>(id)];
    specials[token] = {{"id", token}, {"ids", {id}}, {"tokens", OrderedJson::array({token})}};
    return OrderedJson{{"SpecialToken", {{"id", token}, {"type_id", type_id}}}};
  };
  const auto sequence = [](const char* name, int type_id) {
    return OrderedJson{{"Sequence", {{"id", name}, {"type_id", type_id}}}};
  };
  for (const int type_id : {0, 1}) {
    if (parts.add_bos) pair.push_back(special("bos_token", type_id));
    pair.push_back(sequence(type_id == 0 ? "A" : "B", type_id));
    if (parts.add_eos) pair.push_back(special("eos_token", type_id));
    if (type_id == 0) single = pair;
  }
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", specials}};
}

}  // namespace

TokenizerFiles build_tokenizer(const File& file) {
  const Parts parts = read_parts(file);
  TokenizerFiles out;
  out.tokenizer = {{"version", "1.0"},
                   {"truncation", nullptr},
                   {"padding", nullptr},
                   {"added_tokens", added_json(parts, added_tokens(file, parts))},
                   {"normalizer", normalizer_json(file, parts.kind)},
                   {"pre_tokenizer", pre_tokenizer_json(file, parts.kind)},
                   {"post_processor", post_processor_json(parts)},
                   {"decoder", decoder_json(parts.kind)},
                   {"model", model_json(parts)}};
  out.tokenizer_config["tokenizer_class"] = "TokenizersBackend";
  out.tokenizer_config["backend"] = "tokenizers";
  out.tokenizer_config["add_bos_token"] = parts.add_bos;
  out.tokenizer_config["add_eos_token"] = parts.add_eos;
  for (const auto& [name, id] : parts.named)
    out.tokenizer_config[name] =
        id ? OrderedJson(parts.vocabulary[static_cast<size_t>(*id)]) : OrderedJson(nullptr);
  if (parts.kind == Kind::gemma) {
    out.tokenizer_config["padding_side"] = "left";
    if (parts.ids.contains("<mask>")) out.tokenizer_config["mask_token"] = "<mask>";
  }
  if (const std::string* chat = text(file, "tokenizer.chat_template"))
    out.tokenizer_config["chat_template"] = *chat;
  return out;
}

}  // namespace rhapsode::gguf
