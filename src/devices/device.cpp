#include "devices/device.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "devices/file_faults.h"

namespace rhapsode::devices {
namespace {

constexpr uint64_t kHugePage = 2 << 20;
constexpr uint64_t kPage = 4096;

// In huge pages from here on: a smaller buffer is mostly its own tail.
constexpr uint64_t kLargeBytes = 4 * kHugePage;

// Trims a mapping to `wanted` bytes that start at a huge-page boundary.
std::byte* align_to_huge_page(void* base, uint64_t mapped, uint64_t wanted) {
  const uint64_t address = reinterpret_cast<uint64_t>(base);
  const uint64_t aligned = round_up(address, kHugePage);
  if (aligned > address) ::munmap(base, aligned - address);
  const uint64_t end = address + mapped, used_end = aligned + wanted;
  if (end > used_end) ::munmap(reinterpret_cast<void*>(used_end), end - used_end);
  return reinterpret_cast<std::byte*>(aligned);
}

// Whole huge pages; what is left at the end stays in small ones, so that no more becomes resident than the
// plan counts.
void advise_huge_pages(std::byte* data, uint64_t mapped) {
  const uint64_t whole = mapped / kHugePage * kHugePage;
  ::madvise(data, whole, MADV_HUGEPAGE);
  if (whole < mapped) ::madvise(data + whole, mapped - whole, MADV_NOHUGEPAGE);
}

}  // namespace

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(mapped_bytes_, other.mapped_bytes_);
  std::swap(of_file_, other.of_file_);
  std::swap(device_, other.device_);
  return *this;
}

Buffer::~Buffer() {
  if (device_ == nullptr) return;
  if (of_file_) forget_file_range(data_);
  ::munmap(data_, mapped_bytes_);
  device_->release(size_bytes_);
}

Device::Device(std::string name, uint64_t limit_bytes, const kernels::Kernels& kernels)
    : name_(std::move(name)), limit_bytes_(limit_bytes), kernels_(&kernels) {}

void Device::require_room(uint64_t bytes, const std::string& purpose) const {
  const uint64_t free_bytes = limit_bytes_ - std::min(limit_bytes_, used_bytes_);
  if (bytes > free_bytes)
    throw Error(ErrorKind::does_not_fit, "device-full",
                fmt::format("{} does not fit on device {}", purpose, name_))
        .saw(fmt::format("{} bytes wanted, {} of {} free", bytes, free_bytes, limit_bytes_));
}

Buffer Device::allocate(uint64_t bytes, const std::string& purpose) {
  require_room(bytes, purpose);
  const uint64_t mapped = round_up(std::max<uint64_t>(bytes, 1), kPage);
  const bool large = bytes >= kLargeBytes;
  const uint64_t reserved = large ? mapped + kHugePage : mapped;
  void* base =
      ::mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED)
    throw Error(ErrorKind::does_not_fit, "out-of-memory",
                fmt::format("the system has no memory for {}", purpose))
        .saw(fmt::format("{} bytes wanted", bytes));
  Buffer buffer;
  buffer.data_ = large ? align_to_huge_page(base, reserved, mapped) : static_cast<std::byte*>(base);
  if (large) advise_huge_pages(buffer.data_, mapped);
  // Chat templates are rendered in a child process: it needs none of this, and starts the faster for it.
  ::madvise(buffer.data_, mapped, MADV_DONTFORK);
  buffer.size_bytes_ = bytes;
  buffer.mapped_bytes_ = mapped;
  buffer.device_ = this;
  used_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, used_bytes_);
  return buffer;
}

Buffer Device::map_file(int fd, uint64_t offset_bytes, uint64_t bytes, const std::string& purpose) {
  require_room(bytes, purpose);
  const uint64_t mapped = round_up(std::max<uint64_t>(bytes, 1), kPage);
  void* base = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd,
                      static_cast<off_t>(offset_bytes));
  if (base == MAP_FAILED)
    throw Error(ErrorKind::does_not_fit, "out-of-memory",
                fmt::format("the system cannot map a file for {}", purpose))
        .saw(fmt::format("{} bytes wanted", bytes));
  Buffer buffer;
  buffer.data_ = static_cast<std::byte*>(base);
  buffer.size_bytes_ = bytes;
  buffer.mapped_bytes_ = mapped;
  buffer.of_file_ = true;
  watch_file_range(buffer.data_, mapped);
  buffer.device_ = this;
  used_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, used_bytes_);
  return buffer;
}

}  // namespace rhapsode::devices
