// A device owns memory and kernels. Every byte of weights, KV cache and workspace is asked from one, which
// keeps count and refuses what exceeds its limit. The CPU is the first device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kernels/kernels.h"

namespace rhapsode::devices {

class Device;

// Memory of a device; freed when it goes. Zero-filled, aligned to 64 bytes (large ones to 2 MiB, in huge
// pages where the system grants them).
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  std::byte* data() const { return data_; }
  uint64_t size_bytes() const { return size_bytes_; }
  std::span<std::byte> bytes() const { return {data_, size_bytes_}; }

 private:
  friend class Device;
  std::byte* data_ = nullptr;
  uint64_t size_bytes_ = 0;
  uint64_t mapped_bytes_ = 0;
  bool of_file_ = false;
  Device* device_ = nullptr;
};

class Device {
 public:
  // limit_bytes: what may be allocated at most at any time.
  Device(std::string name, uint64_t limit_bytes, const kernels::Kernels& kernels);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const std::string& name() const { return name_; }
  const kernels::Kernels& kernels() const { return *kernels_; }
  uint64_t limit_bytes() const { return limit_bytes_; }
  uint64_t used_bytes() const { return used_bytes_; }
  uint64_t peak_bytes() const { return peak_bytes_; }

  // Throws Error(does_not_fit) above the limit or where the system has no memory; `purpose` goes into the
  // message.
  Buffer allocate(uint64_t bytes, const std::string& purpose);
  // The same from a file: `bytes` bytes from `offset_bytes` (a multiple of 4096) on, as they are there; what
  // is written into them stays in memory. Counts as an allocation. A file that is cut short later leaves
  // zeros (file_faults.h).
  Buffer map_file(int fd, uint64_t offset_bytes, uint64_t bytes, const std::string& purpose);

 private:
  void require_room(uint64_t bytes, const std::string& purpose) const;
  friend class Buffer;
  void release(uint64_t bytes) { used_bytes_ -= bytes; }

  std::string name_;
  uint64_t limit_bytes_;
  uint64_t used_bytes_ = 0;
  uint64_t peak_bytes_ = 0;
  const kernels::Kernels* kernels_;
};

}  // namespace rhapsode::devices
