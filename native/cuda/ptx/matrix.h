// Matrices of 8 rows of 16 bytes between shared memory and the fragments of mma (PTX ISA 9.7.14.5
// ldmatrix, sm_75; stmatrix, sm_90). Lane 8 * j + i gives the address of row i of matrix j.
// Register j of lane l holds elements 2 * (l % 4) and the next of row l / 4 of matrix j, whose
// elements have 16 bits; with _trans, of its transpose.
#pragma once

#include "shared.h"
#include "warp.h"

namespace mixprec::cuda::ptx {

#if defined(MIXPREC_CUDA_EMULATED)

struct MatrixOperands {
  uint8_t* row;
  uint32_t* registers;
};

// The place of the half-word `half` of lane `lane` in the matrices of all lanes.
inline uint8_t* matrix_element(MatrixOperands* const* lanes, int matrix, uint32_t lane, int half,
                               bool transposed) {
  const int row = static_cast<int>(lane / 4);
  const int column = static_cast<int>(lane % 4) * 2 + half;
  return transposed ? lanes[matrix * 8 + column]->row + row * 2
                    : lanes[matrix * 8 + row]->row + column * 2;
}

template <int kCount, bool kTransposed>
void load_matrices(uint32_t (&registers)[kCount], uint32_t address) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4);
  MatrixOperands mine{nullptr, registers};
  if (lane_id() < 8 * kCount)
    mine.row = emulator::shared_source(address, 16, 16, "ldmatrix").data();
  emulator::warp_meet(kFullMask, mine, [](MatrixOperands* const* lanes) {
    for (int matrix = 0; matrix < kCount; ++matrix) {
      for (uint32_t lane = 0; lane < emulator::kWarpSize; ++lane) {
        uint16_t halves[2];
        for (int half = 0; half < 2; ++half) {
          std::memcpy(&halves[half], matrix_element(lanes, matrix, lane, half, kTransposed), 2);
        }
        std::memcpy(&lanes[lane]->registers[matrix], halves, 4);
      }
    }
  });
}
template <int kCount, bool kTransposed>
void store_matrices(uint32_t address, uint32_t (&registers)[kCount]) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4);
  MatrixOperands mine{nullptr, registers};
  if (lane_id() < 8 * kCount)
    mine.row = emulator::shared_target(address, 16, 16, "stmatrix").data();
  emulator::warp_meet(kFullMask, mine, [](MatrixOperands* const* lanes) {
    for (int matrix = 0; matrix < kCount; ++matrix) {
      for (uint32_t lane = 0; lane < emulator::kWarpSize; ++lane) {
        uint16_t halves[2];
        std::memcpy(halves, &lanes[lane]->registers[matrix], 4);
        for (int half = 0; half < 2; ++half) {
          std::memcpy(matrix_element(lanes, matrix, lane, half, kTransposed), &halves[half], 2);
        }
      }
    }
  });
}

template <int kCount>
void ldmatrix(uint32_t (&registers)[kCount], uint32_t address) {
  load_matrices<kCount, false>(registers, address);
}
template <int kCount>
void ldmatrix_trans(uint32_t (&registers)[kCount], uint32_t address) {
  load_matrices<kCount, true>(registers, address);
}
template <int kCount>
void stmatrix(uint32_t address, const uint32_t (&registers)[kCount]) {
  uint32_t copy[kCount];
  std::memcpy(copy, registers, sizeof(copy));
  store_matrices<kCount, false>(address, copy);
}
template <int kCount>
void stmatrix_trans(uint32_t address, const uint32_t (&registers)[kCount]) {
  uint32_t copy[kCount];
  std::memcpy(copy, registers, sizeof(copy));
  store_matrices<kCount, true>(address, copy);
}

#else

#define MIXPREC_LDMATRIX(name, trans)                                                          \
  template <int kCount>                                                                        \
  MIXPREC_DEVICE void name(uint32_t(&registers)[kCount], uint32_t address) {                   \
    static_assert(kCount == 1 || kCount == 2 || kCount == 4);                                  \
    if constexpr (kCount == 1) {                                                               \
      asm volatile("ldmatrix.sync.aligned.m8n8.x1" trans ".shared.b16 {%0}, [%1];"             \
                   : "=r"(registers[0])                                                        \
                   : "r"(address)                                                              \
                   : "memory");                                                                \
    } else if constexpr (kCount == 2) {                                                        \
      asm volatile("ldmatrix.sync.aligned.m8n8.x2" trans ".shared.b16 {%0, %1}, [%2];"         \
                   : "=r"(registers[0]), "=r"(registers[1])                                    \
                   : "r"(address)                                                              \
                   : "memory");                                                                \
    } else {                                                                                   \
      asm volatile("ldmatrix.sync.aligned.m8n8.x4" trans ".shared.b16 {%0, %1, %2, %3}, [%4];" \
                   : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]),               \
                     "=r"(registers[3])                                                        \
                   : "r"(address)                                                              \
                   : "memory");                                                                \
    }                                                                                          \
  }
MIXPREC_LDMATRIX(ldmatrix, "")
MIXPREC_LDMATRIX(ldmatrix_trans, ".trans")
#undef MIXPREC_LDMATRIX

#define MIXPREC_STMATRIX(name, trans)                                                              \
  template <int kCount>                                                                            \
  MIXPREC_DEVICE void name(uint32_t address, const uint32_t(&registers)[kCount]) {                 \
    static_assert(kCount == 1 || kCount == 2 || kCount == 4);                                      \
    if constexpr (kCount == 1) {                                                                   \
      asm volatile("stmatrix.sync.aligned.m8n8.x1" trans ".shared.b16 [%0], {%1};" ::"r"(address), \
                   "r"(registers[0])                                                               \
                   : "memory");                                                                    \
    } else if constexpr (kCount == 2) {                                                            \
      asm volatile("stmatrix.sync.aligned.m8n8.x2" trans                                           \
                   ".shared.b16 [%0], {%1, %2};" ::"r"(address),                                   \
                   "r"(registers[0]), "r"(registers[1])                                            \
                   : "memory");                                                                    \
    } else {                                                                                       \
      asm volatile("stmatrix.sync.aligned.m8n8.x4" trans                                           \
                   ".shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),                           \
                   "r"(registers[0]), "r"(registers[1]), "r"(registers[2]), "r"(registers[3])      \
                   : "memory");                                                                    \
    }                                                                                              \
  }
MIXPREC_STMATRIX(stmatrix, "")
MIXPREC_STMATRIX(stmatrix_trans, ".trans")
#undef MIXPREC_STMATRIX

#endif

}  // namespace mixprec::cuda::ptx
