// Preloaded into a program under test: the program dies by SIGKILL just before its Nth call that changes a
// file (RHAPSODE_KILL_AT; 0 or unset: never). With RHAPSODE_KILL_COUNT=FILE the number of calls is written
// there at the end. Counts calls on regular files and names alone: sockets, pipes and terminals are not files
// here.
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace {

std::atomic<long> calls{0};

long kill_at() {
  static const long number = [] {
    const char* text = std::getenv("RHAPSODE_KILL_AT");
    return text == nullptr ? 0 : std::atol(text);
  }();
  return number;
}

void count() {
  if (++calls == kill_at()) ::kill(::getpid(), SIGKILL);
}

bool is_regular(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
}

bool changes_files(int flags) {
  return (flags & (O_CREAT | O_TRUNC)) != 0;
}

template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

struct Report {
  ~Report() {
    const char* file = std::getenv("RHAPSODE_KILL_COUNT");
    if (file == nullptr) return;
    const long total = calls;
    if (std::FILE* out = std::fopen(file, "w")) {
      std::fprintf(out, "%ld\n", total);
      std::fclose(out);
    }
  }
} report;

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  std::va_list arguments;
  va_start(arguments, flags);
  const unsigned mode = changes_files(flags) ? va_arg(arguments, unsigned) : 0;
  va_end(arguments);
  if (changes_files(flags)) count();
  static auto* const call = real<int(const char*, int, ...)>("open");
  return call(path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  std::va_list arguments;
  va_start(arguments, flags);
  const unsigned mode = changes_files(flags) ? va_arg(arguments, unsigned) : 0;
  va_end(arguments);
  if (changes_files(flags)) count();
  static auto* const call = real<int(const char*, int, ...)>("open64");
  return call(path, flags, mode);
}

ssize_t write(int fd, const void* bytes, size_t size) {
  if (is_regular(fd)) count();
  static auto* const call = real<ssize_t(int, const void*, size_t)>("write");
  return call(fd, bytes, size);
}

ssize_t pwrite(int fd, const void* bytes, size_t size, off_t offset) {
  count();
  static auto* const call = real<ssize_t(int, const void*, size_t, off_t)>("pwrite");
  return call(fd, bytes, size, offset);
}

ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t offset) {
  count();
  static auto* const call = real<ssize_t(int, const void*, size_t, off64_t)>("pwrite64");
  return call(fd, bytes, size, offset);
}

#define RHAPSODE_COUNTED(name, parameters, arguments)      \
  int name parameters {                                    \
    count();                                               \
    static auto* const call = real<int parameters>(#name); \
    return call arguments;                                 \
  }

RHAPSODE_COUNTED(ftruncate, (int fd, off_t size), (fd, size))
RHAPSODE_COUNTED(ftruncate64, (int fd, off64_t size), (fd, size))
RHAPSODE_COUNTED(fsync, (int fd), (fd))
RHAPSODE_COUNTED(fdatasync, (int fd), (fd))
RHAPSODE_COUNTED(rename, (const char* from, const char* to), (from, to))
RHAPSODE_COUNTED(unlink, (const char* path), (path))
RHAPSODE_COUNTED(remove, (const char* path), (path))
RHAPSODE_COUNTED(symlink, (const char* target, const char* path), (target, path))
RHAPSODE_COUNTED(link, (const char* from, const char* to), (from, to))
RHAPSODE_COUNTED(mkdir, (const char* path, mode_t mode), (path, mode))
RHAPSODE_COUNTED(chmod, (const char* path, mode_t mode), (path, mode))
RHAPSODE_COUNTED(fchmod, (int fd, mode_t mode), (fd, mode))

}  // extern "C"
