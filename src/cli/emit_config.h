// `plan --emit-config` and `quantize --fit --emit-config`: the user's YAML with changes written into it,
// proved by planning the result.
#pragma once

#include <string>

#include "cli/invocation.h"
#include "plan/plan.h"
#include "runtime/generate.h"

namespace rhapsode::cli {

// The text of the config that `assembly` was read from, with what the command line said (--model, --set) and
// then `more_sets` written into it. The assembly's config is replaced by it.
std::string config_with(const Globals& globals, runtime::Assembly& assembly,
                        const std::vector<std::string>& more_sets);

// For a result that does not say what was to be written.
Error cannot_edit(const std::string& file);

bool can_be_made_to_fit(const plan::Plan& plan);

// The text of a config that fits, made of the one that `assembly` was read from: what the command line said
// (--model, --set) and, where `plan` does not fit, its first change that does; where it fits, dtype and
// context are written out. Needs can_be_made_to_fit(plan). The assembly's config is replaced by the emitted
// one.
std::string fitting_config(const Globals& globals, runtime::Assembly& assembly, const plan::Plan& plan,
                           const runtime::RequestSize& size);

}  // namespace rhapsode::cli
