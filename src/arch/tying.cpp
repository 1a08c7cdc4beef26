// See tying.h.
#include "arch/tying.h"

#include <algorithm>
#include <cstring>

namespace rhapsode::arch {
namespace {

constexpr uint64_t kCompared = 1 << 20;  // bytes at a time

bool same_bytes(const Checkpoint& checkpoint, const TensorInfo& a, const TensorInfo& b) {
  if (a.dtype != b.dtype || a.shape != b.shape) return false;
  std::vector<std::byte> x(std::min(kCompared, a.length_bytes)), y(x.size());
  for (uint64_t at = 0; at < a.length_bytes; at += x.size()) {
    const uint64_t count = std::min<uint64_t>(x.size(), a.length_bytes - at);
    checkpoint.read(a, at, std::span(x).first(count));
    checkpoint.read(b, at, std::span(y).first(count));
    if (std::memcmp(x.data(), y.data(), count) != 0) return false;
  }
  return true;
}

}  // namespace

std::string untied_head(const Architecture& architecture, const Checkpoint& checkpoint) {
  Spec untied = architecture.spec;
  untied.tie_word_embeddings = false;
  const ModelTensors names = architecture.family->tensors(
      untied, [&](const std::string& name) { return checkpoint.find(name) != nullptr; });
  return names.lm_head.parts.front().weight.front().tensor;
}

void settle_tying(Architecture& architecture, const Checkpoint& checkpoint) {
  Spec& spec = architecture.spec;
  if (!spec.tie_word_embeddings) return;
  const ModelTensors names = architecture.family->tensors(
      spec, [&](const std::string& name) { return checkpoint.find(name) != nullptr; });
  const TensorInfo* embed = checkpoint.find(names.embed_tensor);
  const TensorInfo* head = checkpoint.find(untied_head(architecture, checkpoint));
  if (embed == nullptr || head == nullptr || same_bytes(checkpoint, *embed, *head)) return;
  spec.tie_word_embeddings = false;
  spec.notes.push_back(
      "tie_word_embeddings is true, but the checkpoint holds another matrix for the head: it is used");
}

void find_tied_matrix(const Spec& spec, const Checkpoint& checkpoint, const std::string& head_tensor,
                      ModelTensors& names) {
  if (!spec.tie_word_embeddings || checkpoint.find(names.embed_tensor) != nullptr ||
      checkpoint.find(head_tensor) == nullptr)
    return;
  names.embed_tensor = head_tensor;
  names.lm_head.parts.front().weight.front().tensor = head_tensor;
  std::erase(names.ignored, head_tensor);
}

}  // namespace rhapsode::arch
