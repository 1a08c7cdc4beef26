#include "devices/file_faults.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <mutex>

#include "base/error.h"

namespace rhapsode::devices {
namespace {

constexpr uintptr_t kPage = 4096;
constexpr size_t kMostRanges = 64;

// Read by the signal's handler, so nothing but atomics.
struct Range {
  std::atomic<uintptr_t> begin{0}, end{0};  // end 0: free
  std::atomic<bool> lost{false};
};
std::array<Range, kMostRanges> ranges;
std::mutex ranges_mutex;  // of who writes them

// From the page that is gone to the end of the range, where nothing of the file is left either. Asked of the
// kernel itself: mmap() may be more than that call (a checker of threads takes it for a write to pages that
// others read), and a handler must call nothing that is not safe in it.
bool put_zeros(uintptr_t address) {
  for (Range& range : ranges) {
    const uintptr_t end = range.end;
    if (end == 0 || address < range.begin || address >= end) continue;
    range.lost = true;
    const uintptr_t page = address / kPage * kPage;
    return ::syscall(SYS_mmap, page, end - page, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != -1;
  }
  return false;
}

// A fault elsewhere is what it was before: the access is repeated and ends the process.
void on_bus_error(int, siginfo_t* info, void*) {
  if (!put_zeros(reinterpret_cast<uintptr_t>(info->si_addr))) std::signal(SIGBUS, SIG_DFL);
}

void listen() {
  static const bool listening = [] {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    ::sigemptyset(&action.sa_mask);
    return ::sigaction(SIGBUS, &action, nullptr) == 0;
  }();
  static_cast<void>(listening);
}

}  // namespace

void watch_file_range(std::byte* begin, uint64_t bytes) {
  listen();
  const std::lock_guard lock(ranges_mutex);
  for (Range& range : ranges) {
    if (range.end != 0) continue;
    range.lost = false;
    range.begin = reinterpret_cast<uintptr_t>(begin);
    range.end = range.begin + bytes;
    return;
  }
  throw Error(ErrorKind::runtime, "too-many-files", "too many files are mapped at a time");
}

void forget_file_range(std::byte* begin) {
  const std::lock_guard lock(ranges_mutex);
  for (Range& range : ranges)
    if (range.end != 0 && range.begin == reinterpret_cast<uintptr_t>(begin)) range.end = 0;
}

bool file_bytes_lost() {
  for (const Range& range : ranges)
    if (range.end != 0 && range.lost) return true;
  return false;
}

}  // namespace rhapsode::devices
