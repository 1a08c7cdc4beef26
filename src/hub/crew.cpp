#include "hub/crew.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <thread>

namespace rhapsode::hub {
namespace {

constexpr auto kTellEvery = std::chrono::milliseconds(100);

// What the workers share while one run lasts.
struct Run {
  std::mutex mutex;
  std::condition_variable ended;
  size_t next = 0, working = 0;
  std::exception_ptr failure;
};

}  // namespace

Crew::Crew(const HubSettings& settings, const PullHooks& hooks)
    : settings_(settings),
      hooks_(hooks),
      control_{cancel_,
               [this](const std::string& text) {
                 const std::lock_guard lock(mutex_);
                 notes_.push_back(text);
               },
               hooks.sleep} {}

void Crew::tell() {
  std::vector<std::string> notes;
  {
    const std::lock_guard lock(mutex_);
    notes.swap(notes_);
  }
  if (hooks_.note)
    for (const std::string& text : notes) hooks_.note(text);
  if (hooks_.progress) hooks_.progress(std::min(done_.load(), total_), total_);
}

void Crew::run(size_t count, const std::function<void(Client& client, size_t index)>& job) {
  Run run;
  const auto work = [&] {
    try {
      Client client(settings_, control_);
      while (true) {
        size_t index = 0;
        {
          const std::lock_guard lock(run.mutex);
          if (run.next >= count || run.failure || cancel_) break;
          index = run.next++;
        }
        job(client, index);
      }
    } catch (...) {
      const std::lock_guard lock(run.mutex);
      if (!run.failure) run.failure = std::current_exception();
      cancel_ = true;
    }
    const std::lock_guard lock(run.mutex);
    --run.working;
    run.ended.notify_all();
  };
  run.working = std::min<size_t>(count, std::max(settings_.parallel_files, 1u));
  std::vector<std::thread> threads;
  for (size_t i = run.working; i > 0; --i) threads.emplace_back(work);
  std::exception_ptr told;
  std::unique_lock lock(run.mutex);
  while (run.working > 0) {
    run.ended.wait_for(lock, kTellEvery);
    if (told) continue;
    lock.unlock();
    try {
      tell();
    } catch (...) {  // the caller wants to stop
      told = std::current_exception();
      cancel_ = true;
    }
    lock.lock();
  }
  lock.unlock();
  for (std::thread& thread : threads) thread.join();
  if (told) std::rethrow_exception(told);
  tell();
  if (run.failure) std::rethrow_exception(run.failure);
}

}  // namespace rhapsode::hub
