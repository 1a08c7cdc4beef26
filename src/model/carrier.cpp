#include "model/carrier.h"

#include <cassert>
#include <utility>

namespace rhapsode::model {

Carrier::Carrier() : thread_([this] { serve(); }) {}

Carrier::~Carrier() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Carrier::start(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    assert(!job_);
    job_ = std::move(job);
  }
  changed_.notify_all();
}

void Carrier::finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !job_; });
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Carrier::serve() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || job_; });
    if (!job_) return;
    lock.unlock();
    std::exception_ptr failure;
    try {
      job_();  // only this thread takes it away
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    failure_ = failure;
    job_ = nullptr;
    changed_.notify_all();
  }
}

}  // namespace rhapsode::model
