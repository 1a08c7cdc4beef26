// Any bytes as a GGUF file, through to the model's plan, its tokenizer and its values: an Error or a result.
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace rhapsode;
  try {
    const auto read_at = [&](uint64_t offset, std::span<std::byte> out) {
      if (offset > size || out.size() > size - offset) std::abort();
      if (!out.empty()) std::memcpy(out.data(), data + offset, out.size());
    };
    const gguf::File file = gguf::parse(read_at, size, "fuzz");
    for (const gguf::TensorEntry& tensor : file.tensors) {
      if (tensor.offset_bytes > size || tensor.length_bytes > size - tensor.offset_bytes) std::abort();
      if (!gguf::can_dequantize(tensor.type)) continue;
      const gguf::BlockTraits& traits = *gguf::block_traits(tensor.type);
      std::vector<float> values(tensor.length_bytes / traits.bytes * traits.elements);
      gguf::dequantize(tensor.type, std::as_bytes(std::span(data + tensor.offset_bytes, tensor.length_bytes)),
                       values);
    }
    gguf::plan_model(file);
    gguf::build_tokenizer(file);
  } catch (const Error& error) {
    const bool right = error.kind == ErrorKind::integrity || error.kind == ErrorKind::unsupported;
    if (!right || error.file.empty() || error.found.empty() || error.expected.empty()) std::abort();
  }
  return 0;
}
