// A team that waits by spinning for a bounded time and then sleeps, so that short regions start fast and an
// idle process uses no CPU. Knows nothing of work sizes.
#include "base/thread_pool.h"

#include <atomic>
#include <cassert>
#include <exception>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/error.h"

namespace rhapsode {
namespace {

// Pauses before a waiting thread sleeps: about 50 us where each member may have a core of its own, longer
// than most waits inside a token; hardly any where members share cores, since the one that is waited for may
// need this very core.
constexpr uint32_t kSpins = 3000;
constexpr uint32_t kSharedSpins = 50;

// Thrown into members that wait at a barrier which a failed member will never reach. Never leaves run().
struct RegionAbandoned {};

void pause_core() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Returns when done(word) is true: spins at first, then sleeps until `word` changes. Whoever makes it true
// changes the word and notifies.
template <class Done>
void wait_until(const std::atomic<uint32_t>& word, uint32_t spins, Done done) {
  for (uint32_t i = 0; i < spins; ++i) {
    if (done(word.load(std::memory_order_acquire))) return;
    pause_core();
  }
  for (;;) {
    const uint32_t seen = word.load(std::memory_order_acquire);
    if (done(seen)) return;
    word.wait(seen, std::memory_order_acquire);
  }
}

// The barrier's word: its lower half counts crossings, its upper half failures, so that either wakes
// sleepers.
constexpr uint32_t kFailure = 1u << 16;
bool crossed(uint32_t before, uint32_t now) {
  return ((before ^ now) & (kFailure - 1)) != 0;
}

}  // namespace

struct ThreadPool::Impl {
  using Task = std::function<void(uint32_t)>;

  const uint32_t threads;
  std::vector<std::thread> workers;
  std::vector<std::exception_ptr> errors;  // one a member

  const Task* task = nullptr;  // published by region, valid while the region runs
  bool running = false;        // caller only
  alignas(64) std::atomic<uint32_t> region{0};
  std::atomic<bool> stop{false};
  alignas(64) std::atomic<uint32_t> unfinished{0};
  alignas(64) std::atomic<uint32_t> arrived{0};
  std::atomic<uint32_t> phase{0};
  std::atomic<bool> failed{false};

  const uint32_t spins;

  explicit Impl(uint32_t n) : threads(n), errors(n), spins(n > usable_cores() ? kSharedSpins : kSpins) {}

  void execute(uint32_t member) {
    try {
      (*task)(member);
    } catch (const RegionAbandoned&) {
      // Another member holds the reason.
    } catch (...) {
      errors[member] = std::current_exception();
      failed.store(true, std::memory_order_release);
      phase.fetch_add(kFailure, std::memory_order_release);
      phase.notify_all();
    }
  }

  void work(uint32_t member) {
    uint32_t seen = 0;
    for (;;) {
      wait_until(region, spins, [seen](uint32_t now) { return now != seen; });
      seen = region.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_acquire)) return;
      execute(member);
      if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished.notify_all();
    }
  }

  void shut_down() {
    stop.store(true, std::memory_order_release);
    region.fetch_add(1, std::memory_order_release);
    region.notify_all();
    for (std::thread& worker : workers) worker.join();
  }
};

ThreadPool::ThreadPool(uint32_t threads) {
  if (threads < 1)
    throw Error(ErrorKind::usage, "thread-count", "a thread pool needs at least one thread")
        .saw("0")
        .want(">= 1");
  impl_ = std::make_unique<Impl>(threads);
  impl_->workers.reserve(threads - 1);
  try {
    for (uint32_t member = 1; member < threads; ++member)
      impl_->workers.emplace_back([impl = impl_.get(), member] { impl->work(member); });
  } catch (const std::system_error& error) {
    const size_t started = impl_->workers.size() + 1;
    impl_->shut_down();
    throw Error(ErrorKind::runtime, "thread-start", "the system refused to start a thread")
        .saw(std::to_string(started) + " of " + std::to_string(threads) + " threads, then: " + error.what())
        .hint("lower the number of threads or raise the process limit");
  }
}

ThreadPool::~ThreadPool() {
  if (impl_) impl_->shut_down();
}

uint32_t ThreadPool::threads() const {
  return impl_->threads;
}

void ThreadPool::run(const std::function<void(uint32_t member)>& task) {
  Impl& impl = *impl_;
  assert(!impl.running && "ThreadPool::run is not reentrant");
  impl.running = true;
  impl.task = &task;
  impl.arrived.store(0, std::memory_order_relaxed);
  impl.failed.store(false, std::memory_order_relaxed);
  if (impl.threads > 1) {
    impl.unfinished.store(impl.threads - 1, std::memory_order_relaxed);
    impl.region.fetch_add(1, std::memory_order_release);
    impl.region.notify_all();
  }
  impl.execute(0);
  if (impl.threads > 1) wait_until(impl.unfinished, impl.spins, [](uint32_t left) { return left == 0; });
  impl.running = false;
  if (!impl.failed.load(std::memory_order_relaxed)) return;
  std::exception_ptr first;
  for (std::exception_ptr& error : impl.errors) {
    if (!first) first = error;
    error = nullptr;
  }
  std::rethrow_exception(first);
}

void ThreadPool::barrier() {
  Impl& impl = *impl_;
  const uint32_t phase = impl.phase.load(std::memory_order_acquire);
  if (impl.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == impl.threads) {
    impl.arrived.store(0, std::memory_order_relaxed);
    impl.phase.fetch_add(1 - (phase % kFailure == kFailure - 1 ? kFailure : 0), std::memory_order_release);
    impl.phase.notify_all();
    return;
  }
  wait_until(impl.phase, impl.spins, [&](uint32_t now) {
    return crossed(phase, now) || impl.failed.load(std::memory_order_acquire);
  });
  if (!crossed(phase, impl.phase.load(std::memory_order_acquire))) throw RegionAbandoned{};
}

}  // namespace rhapsode
