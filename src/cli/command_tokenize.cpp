// `tokenize`: text to ids, ids to text.
#include <fmt/format.h>

#include "cli/invocation.h"
#include "cli/numbers.h"
#include "cli/terminal.h"
#include "cli/text_source.h"

namespace rhapsode::cli {
namespace {

struct TokenizeOptions {
  std::optional<std::string> tokenizer, text, decode;
  bool from_stdin = false;
  bool special = false;
  bool add_special = false;
};

int decode(const Globals& globals, const text::Tokenizer& tokenizer, const std::string& ids) {
  const std::string text = tokenizer.decode(read_ids("--decode", ids), false);
  if (globals.json)
    print_json({{"text", text}});
  else
    print(text + "\n");
  return 0;
}

int encode(const Globals& globals, const text::Tokenizer& tokenizer, const std::string& text,
           const text::EncodeOptions& how) {
  const text::Encoding encoding = tokenizer.encode(text, how);
  if (globals.json) {
    OrderedJson out;
    out["ids"] = encoding.ids;
    out["tokens"] = encoding.tokens;
    out["offsets"] = encoding.offsets;
    print_json(out);
    return 0;
  }
  std::string out;
  for (size_t i = 0; i < encoding.ids.size(); ++i)
    out += fmt::format("{}\t{}\t{}-{}\n", encoding.ids[i], encoding.tokens[i], encoding.offsets[i].first,
                       encoding.offsets[i].second);
  print(out);
  return 0;
}

int tokenize(const Globals& globals, const TokenizeOptions& options) {
  const int inputs = (options.text ? 1 : 0) + (options.from_stdin ? 1 : 0) + (options.decode ? 1 : 0);
  if (inputs != 1)
    throw Error(ErrorKind::usage, inputs == 0 ? "missing-option" : "conflicting-options",
                "tokenize takes one input")
        .saw(fmt::format("{} of them", inputs))
        .want("--text T, --stdin or --decode 1,2,3");
  const runtime::TextFiles files = open_text(globals, options.tokenizer, "tokenize");
  if (options.decode) return decode(globals, *files.tokenizer, *options.decode);
  return encode(globals, *files.tokenizer, options.from_stdin ? read_input("-") : *options.text,
                {options.special, options.add_special});
}

}  // namespace

void add_tokenize(Invocation& invocation) {
  Command command(invocation, "tokenize", kTextGroup, "Text to token ids and back",
                  "  rhapsode tokenize -c rag.yaml --text \"Hello\"\n"
                  "  rhapsode tokenize --tokenizer DIR --stdin --special < prompt.txt\n"
                  "  rhapsode tokenize --tokenizer DIR --decode 1,15043");
  const auto options = std::make_shared<TokenizeOptions>();
  command.option("--tokenizer", options->tokenizer, "DIR", "a directory with tokenizer.json, instead of -c");
  command.option("--text", options->text, "T", "the text");
  command.flag("--stdin", options->from_stdin, "the text is stdin, as it comes");
  command.option("--decode", options->decode, "IDS", "ids to turn into text");
  command.flag("--special", options->special,
               "special tokens in the text become their ids (else: plain text)");
  command.flag("--add-special", options->add_special,
               "add bos and the like, as the tokenizer's post-processor says");
  command.action([&invocation, options] { return tokenize(invocation.globals, *options); });
}

}  // namespace rhapsode::cli
