// Keys and values in blocks with reference counts. A sequence is a table of blocks: forking copies the table,
// truncating drops its end, and a shared block is copied when one of its owners writes to it. Positions
// belong to the sequence.
#pragma once

#include <cstdint>
#include <vector>

#include "arch/spec.h"
#include "devices/device.h"

namespace rhapsode::model {

struct Sequence {
  std::vector<uint32_t> blocks;
  uint64_t length = 0;       // tokens whose keys and values are in the cache
  uint64_t rope_length = 0;  // longest length seen: dynamic rotary scaling grows with it
};

class KvCache {
 public:
  KvCache(const arch::Spec& spec, Dtype dtype, uint64_t blocks, devices::Device& device);
  // The keys and values of each layer on a device of its own choice.
  KvCache(const arch::Spec& spec, Dtype dtype, uint64_t blocks,
          const std::vector<devices::Device*>& of_layer);

  Dtype dtype() const { return dtype_; }
  uint64_t free_blocks() const { return free_.size(); }

  // Room for `tokens` more; after it the last blocks are the sequence's own. Throws Error(does_not_fit,
  // "kv-cache-full").
  void extend(Sequence& sequence, uint64_t tokens);
  Sequence fork(const Sequence& sequence);
  void truncate(Sequence& sequence, uint64_t length);
  void release(Sequence& sequence) { truncate(sequence, 0); }

  // [head_dim][kBlockTokens] and [kBlockTokens][head_dim] of dtype.
  std::byte* keys(uint32_t number, uint64_t layer, uint64_t kv_head) const;
  std::byte* values(uint32_t number, uint64_t layer, uint64_t kv_head) const;
  // Of i8: what a code of token j of these keys or values is multiplied by, [kBlockTokens].
  float* scales(std::byte* keys_or_values) const {
    return reinterpret_cast<float*>(keys_or_values + elements_bytes_);
  }

 private:
  uint32_t take_block();

  Dtype dtype_;
  uint64_t elements_bytes_;  // one head's keys (or values) of a block without their scales
  uint64_t head_bytes_;
  uint64_t kv_heads_;
  uint64_t layer_bytes_;  // of a block
  struct Arena {          // the layers of one device
    devices::Device* device = nullptr;
    uint64_t layers = 0;
    devices::Buffer memory;
  };
  struct LayerPlace {
    size_t arena;
    uint64_t index;  // among the arena's layers
  };
  std::byte* block(const Arena& arena, uint32_t number) const {
    return arena.memory.data() + number * arena.layers * layer_bytes_;
  }
  std::vector<uint32_t> free_;
  std::vector<uint32_t> references_;
  std::vector<Arena> arenas_;
  std::vector<LayerPlace> places_;  // of each layer
};

}  // namespace rhapsode::model
