// Does one thing at a time in the background: brings the weights of the next unit while this one computes.
// Knows nothing of what it does.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace rhapsode::model {

class Carrier {
 public:
  Carrier();
  ~Carrier();  // waits for what is under way
  Carrier(const Carrier&) = delete;
  Carrier& operator=(const Carrier&) = delete;

  // Nothing may be under way.
  void start(std::function<void()> job);
  // Returns when nothing is under way; throws what the job threw.
  void finish();

 private:
  void serve();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> job_;  // empty: nothing is under way
  std::exception_ptr failure_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace rhapsode::model
