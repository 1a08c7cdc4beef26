// What this machine can do at most, measured: bytes read from memory a second and multiply-adds a second.
// Every speed is reported as a share of these, taken in the same run. Knows no model and no format.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace rhapsode::devices {

// Of several rounds, in GB/s (10^9 bytes), GFLOP/s or GOP/s.
struct Rate {
  double best = 0;
  double median = 0;
};

// Best and median of a list of rates; all zero when it is empty.
Rate summarize(std::span<const double> rates);

// The multiply-adds that kernels are made of, as the table's probes run them.
enum class Instruction : uint8_t { fma, bf16, int16, int8, int8_words };
constexpr uint32_t kInstructions = 5;
const char* instruction_name(Instruction instruction);
const char* instruction_unit(Instruction instruction);  // "GFLOP/s" or "GOP/s"

struct Roofline {
  Rate read_one_thread, read_one_thread_two_streams;
  Rate read, read_two_streams;  // all threads
  Rate fma_one_thread, fma;
  Rate bf16;                     // all threads; zero in sets without an instruction for it
  Rate int16, int8, int8_words;  // all threads
  const Rate& peak(Instruction instruction) const;
  // The better access pattern of all threads: what a share of bandwidth is taken of.
  const Rate& best_read() const { return read.median > read_two_streams.median ? read : read_two_streams; }
};

struct RooflineOptions {
  uint64_t bytes_per_thread = 512 << 20;  // far beyond any cache
  uint32_t rounds = 7;
};

// Takes the limits again and again, between what is measured against them: cores of a shared machine are fast
// and slow by turns. Allocates and touches bytes_per_thread for each thread (2 MiB pages where granted);
// throws Error as Device::allocate does. options.rounds is not used.
class RooflineProbe {
 public:
  RooflineProbe(const kernels::Kernels& kernels, ThreadPool& pool, const RooflineOptions& options = {});
  ~RooflineProbe();

  void take();
  Roofline summary() const;
  // Of one taking: the rate of the better access pattern by the summary, and of an instruction.
  double read_at(size_t taking) const;
  double peak_at(size_t taking, Instruction instruction) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// options.rounds takings.
Roofline measure_roofline(const kernels::Kernels& kernels, ThreadPool& pool,
                          const RooflineOptions& options = {});

// One pass of all threads over `data`, which is touched already, by one or two far streams each; GB/s.
// Threads take over what slower ones have left, so it is what all cores together can do; so are the peaks.
double measure_read(const kernels::Kernels& kernels, ThreadPool& pool, std::span<const std::byte> data,
                    uint32_t streams);

// Multiply-adds of all threads, in registers; GFLOP/s or GOP/s. Zero where the set has no such instruction.
double measure_peak(const kernels::Kernels& kernels, ThreadPool& pool, Instruction instruction);

}  // namespace rhapsode::devices
