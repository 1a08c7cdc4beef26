// Any bytes as a safetensors file: an Error or tensors that tile the data, nothing else.
#include <cstdlib>

#include "base/error.h"
#include "checkpoint/checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace rhapsode;
  try {
    uint64_t end = 0;
    for (const TensorInfo& tensor :
         parse_safetensors_header(std::as_bytes(std::span(data, size)), size, "fuzz")) {
      if (end != 0 && tensor.offset_bytes != end) std::abort();
      end = tensor.offset_bytes + tensor.length_bytes;
      if (end > size) std::abort();
    }
  } catch (const Error& error) {
    if (error.kind != ErrorKind::integrity || error.file.empty() || error.found.empty() ||
        error.expected.empty())
      std::abort();
  }
  return 0;
}
