// What `run` prints with --json.
#pragma once

#include "base/json.h"
#include "runtime/generate.h"

namespace rhapsode::cli {

// The first token comes out of the prompt's pass; the others are decoded.
uint64_t decoded_tokens(const runtime::GenerateResult& result);

// Of one prompt, without what belongs to the session.
OrderedJson answer_json(const runtime::GenerateRequest& request, const runtime::GenerateResult& result);
OrderedJson result_json(const runtime::Session& session, const runtime::GenerateRequest& request,
                        const runtime::GenerateResult& result);
// Of all prompts of a file: `results` are their answer_json, in order.
OrderedJson results_json(const runtime::Session& session, OrderedJson results);

}  // namespace rhapsode::cli
