// Files that are cut short while they are mapped. Reading a page that is gone raises SIGBUS, which would end
// the process: within the ranges that are watched here zeros take the place of what is gone, and that is
// noted. Knows nothing of what the bytes mean.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rhapsode::devices {

// A range of whole pages, from now until it is forgotten. Throws Error(runtime) where too many are watched.
void watch_file_range(std::byte* begin, uint64_t bytes);
void forget_file_range(std::byte* begin);

// True where bytes of a range that is watched were lost.
bool file_bytes_lost();

}  // namespace rhapsode::devices
