#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "cli/environment.h"
#include "cli/signals.h"
#include "cli/terminal.h"

namespace rhapsode::cli {
namespace {

constexpr auto kBarInterval = std::chrono::milliseconds(100);
constexpr auto kLineInterval = std::chrono::seconds(10);
constexpr int kBarWidth = 24;

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

Progress::Progress(std::string label, Unit unit, const Globals& globals)
    : label_(std::move(label)), unit_(unit), start_(Clock::now()), shown_(start_) {
  if (globals.quiet)
    mode_ = Mode::off;
  else if (stderr_is_terminal() && !progress_bars_disabled())
    mode_ = Mode::bar;
  else
    mode_ = Mode::lines;
}

Progress::~Progress() {
  if (drawn_ && mode_ == Mode::bar) say("\r\033[K");
}

std::string Progress::amount(uint64_t value) const {
  return unit_ == Unit::bytes ? short_bytes(value) : fmt::format("{} tokens", value);
}

std::string Progress::line(uint64_t done, uint64_t total, bool bar) const {
  const double elapsed = seconds_between(start_, Clock::now());
  const double part = total > 0 ? static_cast<double>(std::min(done, total)) / static_cast<double>(total) : 0;
  std::string text = label_ + " ";
  if (bar) {
    const int full = static_cast<int>(part * kBarWidth);
    for (int i = 0; i < kBarWidth; ++i) text += i < full ? "█" : "░";
    text += " ";
  }
  text += fmt::format("{:3.0f} %  {} of {}", part * 100, amount(done), amount(total));
  if (elapsed > 0.2 && done > 0) {
    const double rate = static_cast<double>(done) / elapsed;
    text += fmt::format("  {}/s", amount(static_cast<uint64_t>(rate)));
    if (done < total) text += "  " + duration_text(static_cast<double>(total - done) / rate) + " left";
  }
  return text;
}

void Progress::update(uint64_t done, uint64_t total) {
  if (interrupted()) throw Interrupted{};
  if (mode_ == Mode::off) return;
  const Clock::time_point now = Clock::now();
  if (mode_ == Mode::lines) {
    if (now - shown_ < kLineInterval) return;
    say(line(done, total, false) + "\n");
  } else {
    if (drawn_ && now - shown_ < kBarInterval) return;
    const bool room = terminal_columns(STDERR_FILENO) >= 80;
    say("\r" + line(done, total, room) + "\033[K");
    drawn_ = true;
  }
  shown_ = now;
}

}  // namespace rhapsode::cli
