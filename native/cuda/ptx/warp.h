// Instructions in which the lanes of a warp meet: shuffles (PTX ISA 9.7.9.6 shfl.sync), votes
// (9.7.13.9 vote.sync) and bar.warp.sync (9.7.13.3). Every lane of `mask` has to come. In the
// emulator a lane that takes no part gives 0xFF bytes (NaN).
#pragma once

#include <cstring>

#include "kernel.h"

namespace mixprec::cuda::ptx {

#if defined(MIXPREC_CUDA_EMULATED)

inline uint32_t lane_id() { return emulator::machine().thread().lane; }

template <class T>
struct ShuffleOperands {
  T value;
  int source;  // lane to take from
  T result;
};

template <class T>
T shuffle_from(T value, int source, uint32_t mask) {
  ShuffleOperands<T> mine{value, source, value};
  emulator::warp_meet(mask, mine, [](ShuffleOperands<T>* const* lanes) {
    for (uint32_t i = 0; i < emulator::kWarpSize; ++i) {
      if (lanes[i] == nullptr) continue;
      const ShuffleOperands<T>* from = lanes[lanes[i]->source];
      if (from != nullptr) {
        lanes[i]->result = from->value;
      } else {
        std::memset(static_cast<void*>(&lanes[i]->result), 0xFF, sizeof(T));
      }
    }
  });
  return mine.result;
}

// Lanes beyond the ends, of a segment of `width`, keep their own value.
template <class T>
T shuffle_xor(T value, int lane_mask, uint32_t mask = kFullMask) {
  return shuffle_from(value, static_cast<int>(lane_id()) ^ lane_mask, mask);
}
template <class T>
T shuffle_up(T value, int delta, uint32_t mask = kFullMask, int width = kWarpLanes) {
  const int lane = static_cast<int>(lane_id());
  return shuffle_from(value, lane % width >= delta ? lane - delta : lane, mask);
}
template <class T>
T shuffle_down(T value, int delta, uint32_t mask = kFullMask, int width = kWarpLanes) {
  const int lane = static_cast<int>(lane_id());
  return shuffle_from(value, lane % width + delta < width ? lane + delta : lane, mask);
}
template <class T>
T shuffle(T value, int source, uint32_t mask = kFullMask, int width = kWarpLanes) {
  const int lane = static_cast<int>(lane_id());
  return shuffle_from(value, lane / width * width + source % width, mask);
}

inline uint32_t ballot(bool predicate, uint32_t mask = kFullMask) {
  struct Operands {
    bool predicate;
    uint32_t result;
  } mine{predicate, 0};
  emulator::warp_meet(mask, mine, [](Operands* const* lanes) {
    uint32_t result = 0;
    for (uint32_t i = 0; i < emulator::kWarpSize; ++i) {
      if (lanes[i] != nullptr && lanes[i]->predicate) result |= 1u << i;
    }
    for (uint32_t i = 0; i < emulator::kWarpSize; ++i) {
      if (lanes[i] != nullptr) lanes[i]->result = result;
    }
  });
  return mine.result;
}

inline bool any(bool predicate, uint32_t mask = kFullMask) { return ballot(predicate, mask) != 0; }
inline bool all(bool predicate, uint32_t mask = kFullMask) { return ballot(!predicate, mask) == 0; }

inline void sync_warp(uint32_t mask = kFullMask) {
  struct Nothing {
  } mine;
  emulator::warp_meet(mask, mine, [](Nothing* const*) {});
}

// True for one lane of `mask`, the same one every time (PTX ISA 9.7.13.14 elect.sync, sm_90). Which
// one is not said, so with a seed it is another than the first.
inline bool elect_one(uint32_t mask = kFullMask) {
  sync_warp(mask);
  const bool last = (emulator::machine().seed() & 1) != 0;
  return lane_id() == static_cast<uint32_t>(last ? 31 - __builtin_clz(mask) : __builtin_ctz(mask));
}

#else

// %laneid, PTX ISA 10.
MIXPREC_DEVICE uint32_t lane_id() {
  uint32_t lane;
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

template <class T>
MIXPREC_DEVICE T shuffle_xor(T value, int lane_mask, uint32_t mask = kFullMask) {
  return __shfl_xor_sync(mask, value, lane_mask);
}
template <class T>
MIXPREC_DEVICE T shuffle_up(T value, int delta, uint32_t mask = kFullMask, int width = kWarpLanes) {
  return __shfl_up_sync(mask, value, static_cast<unsigned>(delta), width);
}
template <class T>
MIXPREC_DEVICE T shuffle_down(T value, int delta, uint32_t mask = kFullMask,
                              int width = kWarpLanes) {
  return __shfl_down_sync(mask, value, static_cast<unsigned>(delta), width);
}
template <class T>
MIXPREC_DEVICE T shuffle(T value, int source, uint32_t mask = kFullMask, int width = kWarpLanes) {
  return __shfl_sync(mask, value, source, width);
}

MIXPREC_DEVICE uint32_t ballot(bool predicate, uint32_t mask = kFullMask) {
  return __ballot_sync(mask, predicate);
}
MIXPREC_DEVICE bool any(bool predicate, uint32_t mask = kFullMask) {
  return __any_sync(mask, predicate) != 0;
}
MIXPREC_DEVICE bool all(bool predicate, uint32_t mask = kFullMask) {
  return __all_sync(mask, predicate) != 0;
}
MIXPREC_DEVICE void sync_warp(uint32_t mask = kFullMask) { __syncwarp(mask); }

MIXPREC_DEVICE bool elect_one(uint32_t mask = kFullMask) {
  uint32_t elected;
  asm volatile(
      "{\n.reg .pred p;\n"
      "elect.sync _|p, %1;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(elected)
      : "r"(mask)
      : "memory");
  return elected != 0;
}

#endif

}  // namespace mixprec::cuda::ptx
