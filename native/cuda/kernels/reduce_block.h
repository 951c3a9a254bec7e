// Reductions over the lanes of a warp and the threads of a block, always in the same order, so that
// results are the same in every run. `Combine` is a functor of two values; every thread gets the
// result.
#pragma once

#include "cuda/ptx/barrier.h"
#include "cuda/ptx/warp.h"

namespace mixprec::cuda {

struct AddCombine {
  template <class T>
  MIXPREC_DEVICE T operator()(T a, T b) const {
    return a + b;
  }
};
// NaN where either is, as in amax and amin.
struct MaxCombine {
  template <class T>
  MIXPREC_DEVICE T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};
struct MinCombine {
  template <class T>
  MIXPREC_DEVICE T operator()(T a, T b) const {
    return a < b || a != a ? a : b;
  }
};

// The value of the lane whose number differs in the bits of `distance`: of numbers, and of structs
// of them word by word.
template <class T>
MIXPREC_DEVICE T exchanged(const T& value, int distance) {
  if constexpr (std::is_arithmetic_v<T>) {
    return ptx::shuffle_xor(value, distance);
  } else {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 4 == 0);
    constexpr int kWords = sizeof(T) / 4;
    uint32_t words[kWords];
    __builtin_memcpy(words, &value, sizeof(T));
    MIXPREC_UNROLL
    for (int i = 0; i < kWords; ++i) words[i] = ptx::shuffle_xor(words[i], distance);
    T other;
    __builtin_memcpy(&other, words, sizeof(T));
    return other;
  }
}

// Over `kLanes` neighbouring lanes (a power of two), all of which must come.
template <int kLanes = kWarpLanes, class T, class Combine>
MIXPREC_DEVICE T warp_reduce(T value, Combine combine) {
  MIXPREC_UNROLL
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    value = combine(value, exchanged(value, distance));
  }
  return value;
}

// Over a one-dimensional block of kThreads (a multiple of 32) threads, all of which must come.
// `identity` leaves a value as it is. Two barriers; may be called again at once.
template <int kThreads, class T, class Combine>
MIXPREC_DEVICE T block_reduce(T value, T identity, Combine combine) {
  static_assert(kThreads % kWarpLanes == 0 && kThreads <= 1024);
  constexpr int kWarps = kThreads / kWarpLanes;
  MIXPREC_SHARED(partial, T[kWarps]);
  value = warp_reduce(value, combine);
  if constexpr (kWarps == 1) return value;
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  if (lane == 0) partial[warp] = value;
  ptx::sync_threads();
  // Every warp does the rest by itself: no second round trip through shared memory.
  value = warp_reduce(lane < kWarps ? partial[lane] : identity, combine);
  ptx::sync_threads();
  return value;
}

}  // namespace mixprec::cuda
