// Long runs of one class of characters: whole, in linear time and on a small stack.
#include <gtest/gtest.h>
#include <pthread.h>

#include <ctime>
#include <functional>

#include "models/paths.h"
#include "text/tokenizer.h"

namespace rhapsode::text {
namespace {

constexpr size_t kStackBytes = 256 << 10;

double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

void on_small_stack(const std::function<void()>& body) {
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_attr_init(&attributes), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, kStackBytes), 0);
  pthread_t thread;
  const auto enter = [](void* call) -> void* {
    (*static_cast<const std::function<void()>*>(call))();
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, enter, const_cast<std::function<void()>*>(&body)), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

class OneClass : public testing::TestWithParam<const char*> {};

TEST(OneClassOfText, SixteenMebibytesComeBackOnASmallStack) {
  const Tokenizer tokenizer = Tokenizer::load(paths::fixtures() + "/text/byte_level");
  on_small_stack([&] {
    const std::string text(size_t{16} << 20, ' ');
    EXPECT_TRUE(tokenizer.decode(tokenizer.encode(text, {}).ids, false) == text);
  });
}

// Four times the bytes: 4 where time is linear, 16 where it is quadratic.
TEST_P(OneClass, TimeIsLinear) {
  const Tokenizer tokenizer = Tokenizer::load(paths::fixtures() + "/text/byte_level");
  const auto seconds = [&](size_t bytes) {
    const std::string text(bytes, *GetParam());
    double best = 1e9;
    for (int round = 0; round < 3; ++round) {
      const double start = thread_seconds();
      tokenizer.encode(text, {});
      best = std::min(best, thread_seconds() - start);
    }
    return best;
  };
  EXPECT_LE(seconds(size_t{1} << 19) / seconds(size_t{1} << 17), 8);
}

INSTANTIATE_TEST_SUITE_P(Classes, OneClass, testing::Values(" ", "a", "7", "!"),
                         [](const auto& info) { return "byte" + std::to_string(*info.param); });

}  // namespace
}  // namespace rhapsode::text
