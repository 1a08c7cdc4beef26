#include "cli/run_json.h"

#include "cli/model_source.h"

namespace rhapsode::cli {
namespace {

OrderedJson pairs_json(const std::vector<std::pair<uint32_t, float>>& pairs) {
  OrderedJson out = OrderedJson::array();
  for (const auto& [id, value] : pairs) out.push_back(OrderedJson::array({id, static_cast<double>(value)}));
  return out;
}

OrderedJson steps_json(const std::vector<runtime::TraceStep>& steps) {
  OrderedJson out = OrderedJson::array();
  for (const runtime::TraceStep& step : steps)
    out.push_back({{"id", step.id}, {"top", pairs_json(step.top)}, {"probs", pairs_json(step.probs)}});
  return out;
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
  if (request.trace > 0) out["steps"] = steps_json(result.steps);
  return out;
}

namespace {

OrderedJson model_json(const runtime::Session& session) {
  const runtime::Assembly& assembly = session.assembly();
  return {{"model", assembly.config.active_model}, {"model_id", assembly.entry().model_id.value}};
}

}  // namespace

OrderedJson result_json(const runtime::Session& session, const runtime::GenerateRequest& request,
                        const runtime::GenerateResult& result) {
  OrderedJson out = model_json(session);
  out.update(answer_json(request, result));
  out["timings"]["load_ms"] = session.load_ms();
  out["memory"] = memory_json(session);
  return out;
}

OrderedJson results_json(const runtime::Session& session, OrderedJson results) {
  OrderedJson out = model_json(session);
  out["results"] = std::move(results);
  out["timings"] = {{"load_ms", session.load_ms()}};
  out["memory"] = memory_json(session);
  return out;
}

}  // namespace rhapsode::cli
