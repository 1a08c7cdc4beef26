#include "cli/run_json.h"

#include "cli/model_source.h"
#include "cli/terminal.h"

namespace rhapsode::cli {
namespace {

// Text that goes to stdout in pieces.
class Pieces {
 public:
  void add(std::string_view text) {
    constexpr size_t kPiece = 1 << 16;
    text_ += text;
    if (text_.size() >= kPiece) flush();
  }
  void flush() {
    print(text_);
    text_.clear();
  }

 private:
  std::string text_;
};

void add_pairs(const std::vector<std::pair<uint32_t, float>>& pairs, Pieces& out) {
  out.add("[");
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto& [id, value] = pairs[i];
    out.add((i > 0 ? ",[" : "[") + std::to_string(id) + "," + json_text(static_cast<double>(value)) + "]");
  }
  out.add("]");
}

void add_steps(const std::vector<runtime::TraceStep>& steps, Pieces& out) {
  for (size_t i = 0; i < steps.size(); ++i) {
    out.add((i > 0 ? ",{\"id\":" : "{\"id\":") + std::to_string(steps[i].id) + ",\"top\":");
    add_pairs(steps[i].top, out);
    out.add(",\"probs\":");
    add_pairs(steps[i].probs, out);
    out.add("}");
  }
}

OrderedJson sequences_json(const std::vector<runtime::GeneratedSequence>& sequences) {
  OrderedJson out = OrderedJson::array();
  for (const runtime::GeneratedSequence& sequence : sequences) {
    OrderedJson item;
    item["ids"] = sequence.ids;
    item["text"] = sequence.text ? OrderedJson(*sequence.text) : OrderedJson();
    item["score"] = sequence.score ? OrderedJson(*sequence.score) : OrderedJson();
    out.push_back(std::move(item));
  }
  return out;
}

// Tokens a second; null where there was no time to measure.
OrderedJson rate_json(uint64_t tokens, double ms) {
  return ms > 0 ? OrderedJson(static_cast<double>(tokens) * 1000 / ms) : OrderedJson();
}

}  // namespace

uint64_t decoded_tokens(const runtime::GenerateResult& result) {
  return result.completion_tokens > 0 ? result.completion_tokens - 1 : 0;
}

namespace {

OrderedJson answer_json(const runtime::GenerateRequest& request, const runtime::GenerateResult& result) {
  const OrderedJson sequences = sequences_json(result.sequences);
  OrderedJson out;
  out["prompt_ids"] = request.prompt_ids;
  out["output_ids"] = sequences.empty() ? OrderedJson::array() : sequences[0]["ids"];
  out["text"] = sequences.empty() ? OrderedJson() : sequences[0]["text"];
  out["finish_reason"] = runtime::finish_reason_name(result.finish_reason);
  out["sequences"] = sequences;
  out["usage"] = {{"prompt_tokens", result.prompt_tokens}, {"completion_tokens", result.completion_tokens}};
  out["timings"] = {{"prompt_ms", result.prompt_ms},
                    {"decode_ms", result.decode_ms},
                    {"prompt_tokens_per_s", rate_json(result.prompt_tokens, result.prompt_ms)},
                    {"decode_tokens_per_s", rate_json(decoded_tokens(result), result.decode_ms)}};
  out["seed"] = request.params.seed;
  return out;
}

// The answer's object, with the steps of its trace.
void print_answer(OrderedJson answer, const runtime::GenerateRequest& request,
                  const runtime::GenerateResult& result) {
  std::string text = json_text(answer);
  if (request.trace == 0) return print(text);
  text.pop_back();
  Pieces out;
  out.add(text + ",\"steps\":[");
  add_steps(result.steps, out);
  out.add("]}");
  out.flush();
}

OrderedJson model_json(const runtime::Session& session) {
  const runtime::Assembly& assembly = session.assembly();
  return {{"model", assembly.config.active_model}, {"model_id", assembly.entry().model_id.value}};
}

}  // namespace

void print_result(const runtime::Session& session, const runtime::GenerateRequest& request,
                  const runtime::GenerateResult& result) {
  OrderedJson out = model_json(session);
  out.update(answer_json(request, result));
  out["timings"]["load_ms"] = session.load_ms();
  out["memory"] = memory_json(session);
  print_answer(std::move(out), request, result);
  print("\n");
}

// The object is open: its last brace is missing.
ResultsPrinter::ResultsPrinter(const runtime::Session& session) : session_(session) {
  std::string head = json_text(model_json(session));
  head.pop_back();
  print(head + ",\"results\":[");
}

void ResultsPrinter::add(const runtime::GenerateRequest& request, const runtime::GenerateResult& result) {
  if (!first_) print(",");
  print_answer(answer_json(request, result), request, result);
  first_ = false;
}

void ResultsPrinter::close(const OrderedJson& more) {
  OrderedJson rest;
  rest["timings"] = {{"load_ms", session_.load_ms()}};
  rest["memory"] = memory_json(session_);
  rest.update(more);
  print("]," + json_text(rest).substr(1) + "\n");
}

void ResultsPrinter::end() {
  close(OrderedJson::object());
}

void ResultsPrinter::end(const Error& error) {
  close(error_json(error));
}

}  // namespace rhapsode::cli
