#include "model/kv_cache.h"

#include <fmt/format.h>

#include <cstring>

#include "base/error.h"
#include "plan/footprint.h"

namespace rhapsode::model {

using kernels::kBlockTokens;

KvCache::KvCache(const arch::Spec& spec, Dtype dtype, uint64_t blocks, devices::Device& device)
    : KvCache(spec, dtype, blocks, std::vector<devices::Device*>(spec.num_hidden_layers, &device)) {}

KvCache::KvCache(const arch::Spec& spec, Dtype dtype, uint64_t blocks,
                 const std::vector<devices::Device*>& of_layer)
    : dtype_(dtype),
      elements_bytes_(spec.head_dim * kBlockTokens * dtype_bytes(dtype)),
      head_bytes_(plan::kv_head_bytes(spec, dtype)),
      kv_heads_(spec.num_key_value_heads),
      layer_bytes_(plan::kv_block_bytes(spec, dtype) / spec.num_hidden_layers),
      references_(blocks, 0) {
  for (devices::Device* device : of_layer) {
    size_t arena = 0;
    while (arena < arenas_.size() && arenas_[arena].device != device) ++arena;
    if (arena == arenas_.size()) arenas_.push_back({device, 0, {}});
    places_.push_back({arena, arenas_[arena].layers++});
  }
  for (Arena& arena : arenas_)
    arena.memory = arena.device->allocate(blocks * arena.layers * layer_bytes_, "the KV cache");
  for (uint64_t i = blocks; i > 0; --i) free_.push_back(static_cast<uint32_t>(i - 1));
}

uint32_t KvCache::take_block() {
  if (free_.empty())
    throw Error(ErrorKind::does_not_fit, "kv-cache-full", "the KV cache has no free block")
        .saw(fmt::format("{} blocks of {} tokens, all in use", references_.size(), kBlockTokens))
        .hint("plan a longer context (max_context), or ask for fewer tokens or sequences");
  const uint32_t block = free_.back();
  free_.pop_back();
  references_[block] = 1;
  return block;
}

void KvCache::extend(Sequence& sequence, uint64_t tokens) {
  if (tokens == 0) return;
  if (sequence.length % kBlockTokens != 0 && references_[sequence.blocks.back()] > 1) {
    const uint32_t shared = sequence.blocks.back(), own = take_block();
    for (const Arena& arena : arenas_)
      std::memcpy(block(arena, own), block(arena, shared), arena.layers * layer_bytes_);
    --references_[shared];
    sequence.blocks.back() = own;
  }
  const uint64_t wanted = plan::kv_blocks(sequence.length + tokens);
  while (sequence.blocks.size() < wanted) sequence.blocks.push_back(take_block());
}

Sequence KvCache::fork(const Sequence& sequence) {
  for (uint32_t block : sequence.blocks) ++references_[block];
  return sequence;
}

void KvCache::truncate(Sequence& sequence, uint64_t length) {
  const uint64_t keep = plan::kv_blocks(length);
  while (sequence.blocks.size() > keep) {
    const uint32_t block = sequence.blocks.back();
    sequence.blocks.pop_back();
    if (--references_[block] == 0) free_.push_back(block);
  }
  sequence.length = std::min(sequence.length, length);
  if (length == 0) sequence.rope_length = 0;
}

std::byte* KvCache::keys(uint32_t number, uint64_t layer, uint64_t kv_head) const {
  const LayerPlace& place = places_[layer];
  return block(arenas_[place.arena], number) + place.index * layer_bytes_ + kv_head * head_bytes_;
}

std::byte* KvCache::values(uint32_t number, uint64_t layer, uint64_t kv_head) const {
  return keys(number, layer, kv_heads_ + kv_head);
}

}  // namespace rhapsode::model
