// What `bench` prints: bars for people, JSON for programs. Measures nothing.
#pragma once

#include "base/json.h"
#include "runtime/explain.h"
#include "runtime/kernel_bench.h"

namespace rhapsode::cli {

OrderedJson bench_json(const runtime::BenchResult& result, const runtime::BenchOptions& options);
std::string bench_text(const runtime::BenchResult& result, const runtime::BenchOptions& options);

OrderedJson explanation_json(const runtime::Explanation& explanation);
std::string explanation_text(const runtime::Explanation& explanation);

OrderedJson kernels_json(const runtime::KernelBench& bench);
std::string kernels_head_text(const runtime::KernelBench& bench);  // the machine's limits
std::string kernel_row_text(const runtime::KernelRow& row);

}  // namespace rhapsode::cli
