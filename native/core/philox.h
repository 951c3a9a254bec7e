// Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011): random words
// as a function of a key and a counter, so that every device and every thread count draws the same.
//
// The sequence of (seed, offset): the key is the seed, and word i is word i % 4 of the counter
// offset + i / 4. A float32 or narrower element takes one word, an element of float64 or of whole
// numbers two; normals come in pairs (box_muller).
#pragma once

#include <cstdint>

#include "host_device.h"

namespace mixprec {

struct PhiloxBlock {
  uint32_t words[4];
};

MIXPREC_HD inline PhiloxBlock philox(uint64_t key, uint64_t counter, uint64_t counter_high = 0) {
  uint32_t c0 = static_cast<uint32_t>(counter);
  uint32_t c1 = static_cast<uint32_t>(counter >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_high);
  uint32_t c3 = static_cast<uint32_t>(counter_high >> 32);
  uint32_t k0 = static_cast<uint32_t>(key);
  uint32_t k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t first = static_cast<uint64_t>(c0) * 0xd2511f53u;
    const uint64_t second = static_cast<uint64_t>(c2) * 0xcd9e8d57u;
    c0 = static_cast<uint32_t>(second >> 32) ^ c1 ^ k0;
    c2 = static_cast<uint32_t>(first >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(second);
    c3 = static_cast<uint32_t>(first);
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  return PhiloxBlock{{c0, c1, c2, c3}};
}

MIXPREC_HD inline uint32_t philox_word(uint64_t seed, uint64_t offset, uint64_t index) {
  return philox(seed, offset + index / 4).words[index % 4];
}

// On [0, 1), by the upper 24 bits of a word; by the upper 53 of two.
MIXPREC_HD inline float uniform24(uint32_t word) {
  return static_cast<float>(word >> 8) * 5.9604644775390625e-8f;
}
MIXPREC_HD inline double uniform53(uint32_t low, uint32_t high) {
  const uint64_t word = (static_cast<uint64_t>(high) << 32) | low;
  return static_cast<double>(word >> 11) * 1.1102230246251565404e-16;
}

// Dropout keeps an element where its word is not below this; 2^32 (keep none) for p = 1.
MIXPREC_HD inline uint64_t dropout_threshold(double p) {
  return static_cast<uint64_t>(p * 4294967296.0 + 0.5);
}

}  // namespace mixprec
