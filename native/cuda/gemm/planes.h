// Operands prepared for tensor cores: dense copies in which k lies next to k, rounded, or split
// into three planes of bfloat16 that add up to the float32 they were made of. Planes of tiny and of
// huge numbers would underflow or overflow, so each operand is scaled by a power of two that
// depends on the largest of its magnitudes.
#pragma once

#include "core/gemm_desc.h"
#include "cuda/cuda_backend.h"
#include "cuda/ptx/memory.h"

namespace mixprec::cuda {

enum class Preparation : int32_t {
  kPlanes,    // float32 to three planes of bfloat16, scaled
  kTf32,      // float32, rounded to TF32
  kBFloat16,  // float32 to bfloat16
  kHalves,    // 16-bit elements as they are
  kBytes,     // bytes as they are
};

inline constexpr int32_t kPlaneCount = 3;

// The bits of the magnitudes of lhs [0] and rhs [1], in device memory that begins as zeros.
struct ProductRanges {
  uint32_t largest[2];         // infinity and NaN count
  uint32_t least_inverted[2];  // ~bits of the least that is not zero
};

// The copy of an operand, [plane][outer][batch][rows][k], without the batches that it repeats.
struct PreparedOperand {
  GemmOperand operand;  // of the first plane; data is still to be set
  int64_t batches = 1;  // that it has
  int64_t plane_stride = 0;
  size_t bytes = 0;
};

PreparedOperand prepared_operand(const GemmDesc& desc, bool is_lhs, Preparation preparation);

// Queues the copies into the data of `lhs` and `rhs`; null for an operand that stays as it is.
// `ranges` is for planes: find_ranges comes before.
void prepare(CudaBackend& backend, const GemmDesc& desc, Preparation preparation,
             const PreparedOperand* lhs, const PreparedOperand* rhs, const ProductRanges* ranges);

// Queues the search for the ranges of both operands.
void find_ranges(CudaBackend& backend, const GemmDesc& desc, ProductRanges* ranges);

// ---- For kernels ----

namespace planes_detail {

// Where the largest magnitude of an operand is brought to: sums of 2^30 products stay finite.
inline constexpr int kTop = 45;
// Of numbers from here on, the third plane holds what is left to the last bit.
inline constexpr int kLeast = -110;

// floor(log2), that of subnormal numbers as if they had no fewer bits.
MIXPREC_DEVICE int exponent_of(uint32_t bits) {
  const int biased = static_cast<int>(bits >> 23);
  return (biased == 0 ? 1 : biased) - 127;
}

MIXPREC_DEVICE float power_of_two(int exponent) {
  return exponent >= -126 ? float_from_bits(static_cast<uint32_t>(exponent + 127) << 23)
                          : float_from_bits(1u << (exponent + 149));
}

}  // namespace planes_detail

// The power of two that an operand is multiplied by.
MIXPREC_DEVICE int range_exponent(const ProductRanges* ranges, int operand) {
  const uint32_t largest = ptx::ld(&ranges->largest[operand]);
  return largest == 0 ? 0 : planes_detail::kTop - planes_detail::exponent_of(largest);
}

// By which the product is too large.
MIXPREC_DEVICE int ranges_exponent(const ProductRanges* ranges) {
  return range_exponent(ranges, 0) + range_exponent(ranges, 1);
}

// Whether planes hold both operands exactly. Where not (infinity, NaN, or magnitudes that lie 2^155
// apart), the product is left to general arithmetic.
MIXPREC_DEVICE bool ranges_fit(const ProductRanges* ranges) {
  bool fit = true;
  for (int operand = 0; operand < 2; ++operand) {
    const uint32_t largest = ptx::ld(&ranges->largest[operand]);
    if (largest == 0) continue;
    const uint32_t least = ~ptx::ld(&ranges->least_inverted[operand]);
    fit = fit && largest < 0x7f800000u &&
          planes_detail::exponent_of(least) + range_exponent(ranges, operand) >=
              planes_detail::kLeast;
  }
  return fit;
}

// value * 2^exponent, rounded once: an exponent of up to 2 * 127 has no float of its own.
MIXPREC_DEVICE float scaled_by(float value, int exponent) {
  constexpr int kMost = 2 * 149;
  exponent = exponent < -kMost ? -kMost : exponent;
  const int half = exponent / 2;
  return value * planes_detail::power_of_two(half) * planes_detail::power_of_two(exponent - half);
}

}  // namespace mixprec::cuda
