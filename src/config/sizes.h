// Sizes of memory as accelerate writes them. Refuses to know which key a size belongs to.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace rhapsode::config {

struct Size {
  uint64_t bytes = 0;
  // "3.8Gb": a lower-case final b of a decimal unit means bits; bytes is already the eighth part.
  bool in_bits = false;
  bool operator==(const Size&) const = default;
};

// "3.8GB" (10^9), "3.8GiB" (2^30), MB, MiB, KB, KiB, any case, blanks allowed before the unit, fractions cut
// to whole bytes. nullopt for anything else: no unit, other units, negative, not finite, 2^63 bytes and more.
std::optional<Size> parse_size(std::string_view text);

}  // namespace rhapsode::config
