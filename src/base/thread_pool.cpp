// A team that waits by spinning for a bounded time and then sleeps, so that short regions start fast and an
// idle process uses no CPU.
#include "base/thread_pool.h"

#include <algorithm>
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

// What is left of a member's share in one turn of hand_out, as one word that members exchange. Whoever comes
// first in a turn, the owner or another, puts the whole share there. A member ends its turn when nothing is
// left in any word, so a word of a later turn says that this one is over.
struct Left {
  uint16_t turn;
  uint64_t begin, end;

  static constexpr uint64_t kMost = (1u << 24) - 1;
  static Left of(uint64_t word) {
    return {static_cast<uint16_t>(word >> 48), word >> 24 & kMost, word & kMost};
  }
  uint64_t word() const { return uint64_t{turn} << 48 | begin << 24 | end; }
  // < 0: of an earlier turn; turns are near each other, so that their numbers may wrap.
  int16_t after(uint16_t number) const { return static_cast<int16_t>(turn - number); }
};

}  // namespace

struct ThreadPool::Impl {
  using Task = std::function<void(uint32_t)>;

  struct alignas(64) Member {
    std::atomic<uint64_t> left{0};
    uint16_t turn = 0;  // its own
  };

  const uint32_t threads;
  std::vector<Member> members;
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

  explicit Impl(uint32_t n)
      : threads(n), members(n), errors(n), spins(n > usable_cores() ? kSharedSpins : kSpins) {}

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
  for (Impl::Member& member : impl.members) {  // a region that failed leaves them apart
    member.left.store(0, std::memory_order_relaxed);
    member.turn = 0;
  }
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

ThreadPool::Turn ThreadPool::begin_turn(uint32_t member, uint64_t n) {
  assert(n <= Left::kMost);
  Impl::Member& own = impl_->members[member];
  const Turn turn{member, ++own.turn, n};
  const Range mine = share(n, member, impl_->threads);
  uint64_t seen = own.left.load(std::memory_order_relaxed);
  while (Left::of(seen).after(turn.number) < 0 &&
         !own.left.compare_exchange_weak(seen, Left{turn.number, mine.begin, mine.end}.word(),
                                         std::memory_order_acq_rel, std::memory_order_relaxed)) {
  }
  return turn;
}

bool ThreadPool::take_from(const Turn& turn, uint32_t owner, uint64_t most, Range& piece) {
  std::atomic<uint64_t>& word = impl_->members[owner].left;
  uint64_t seen = word.load(std::memory_order_relaxed);
  for (;;) {
    Left left = Left::of(seen);
    if (left.after(turn.number) > 0) return false;
    if (left.after(turn.number) < 0) {
      const Range all = share(turn.n, owner, impl_->threads);
      left = {turn.number, all.begin, all.end};
    }
    const uint64_t count = left.end - left.begin, taken = std::min(most, (count + 1) / 2);
    if (taken == 0) return false;
    if (owner == turn.member) {
      piece = {left.begin, left.begin + taken};
      left.begin += taken;
    } else {
      piece = {left.end - taken, left.end};
      left.end -= taken;
    }
    if (word.compare_exchange_weak(seen, left.word(), std::memory_order_acq_rel, std::memory_order_relaxed))
      return true;
  }
}

bool ThreadPool::take_piece(const Turn& turn, uint64_t most, Range& piece) {
  for (uint32_t i = 0; i < impl_->threads; ++i)
    if (take_from(turn, (turn.member + i) % impl_->threads, most, piece)) return true;
  return false;
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
