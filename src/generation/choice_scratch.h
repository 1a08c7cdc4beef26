// Buffers, each as long as a row of scores, that choosing a token takes. Sequences whose tokens are chosen
// one after the other share them, so that they do not grow with the batch. Owns no rule.
#pragma once

#include <cstdint>
#include <vector>

#include "generation/candidates.h"
#include "generation/params.h"
#include "generation/row_math.h"

namespace rhapsode::generation {

struct ChoiceScratch {
  struct Item {
    float key;
    uint32_t index;  // into the candidates
    float probability;
  };
  Candidates left;                   // of a row
  std::vector<float> probabilities;  // of what is left
  std::vector<float> flat_row;       // a row that says nothing
  // Of the warpers.
  TopKScratch top_k;
  std::vector<float> warped, ordered;
  std::vector<Item> items;
  std::vector<bool> removed;
};

// Bytes of a scratch that chooses for a request, at most. Scores that tie with the last of top_k are not
// counted.
uint64_t scratch_bytes(const Params& params, uint64_t vocab_size, bool traced);
// What a step of beam search takes beside the scratch and its rows.
uint64_t beam_bytes(const Params& params, uint64_t vocab_size);

}  // namespace rhapsode::generation
