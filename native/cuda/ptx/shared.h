// Shared memory by address (PTX ISA 9.7.9.8 ld.shared, 9.7.9.11 st.shared). Instructions that move
// tiles take these addresses of 32 bits; kernels add offsets to them. Plain C++ access to a shared
// array is as good on the device, but in the emulator only these find that a copy to the bytes is
// still under way, and that the fence before a bulk store is missing.
#pragma once

#include <cstring>

#include "kernel.h"

namespace mixprec::cuda::ptx {

#if defined(MIXPREC_CUDA_EMULATED)

// The address of what a pointer to shared memory points to.
inline uint32_t shared_address(const void* data) { return emulator::shared_address(data); }

template <class T>
T ld_shared(uint32_t address) {
  T value;
  std::memcpy(&value, emulator::shared_source(address, sizeof(T), sizeof(T), "ld.shared").data(),
              sizeof(T));
  return value;
}
template <class T>
void st_shared(uint32_t address, const std::type_identity_t<T>& value) {
  std::memcpy(emulator::shared_target(address, sizeof(T), sizeof(T), "st.shared").data(), &value,
              sizeof(T));
}

#else

MIXPREC_DEVICE uint32_t shared_address(const void* data) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(data));
}

// T has 2, 4, 8 or 16 bytes and is aligned to them.
template <class T>
MIXPREC_DEVICE T ld_shared(uint32_t address) {
  union Bits {
    MIXPREC_DEVICE Bits() {}
    T value;
    uint16_t half;
    uint32_t words[(sizeof(T) + 3) / 4];
  } bits;
  if constexpr (sizeof(T) == 2) {
    asm volatile("ld.shared.b16 %0, [%1];" : "=h"(bits.half) : "r"(address) : "memory");
  } else if constexpr (sizeof(T) == 4) {
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(bits.words[0]) : "r"(address) : "memory");
  } else if constexpr (sizeof(T) == 8) {
    asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];"
                 : "=r"(bits.words[0]), "=r"(bits.words[1])
                 : "r"(address)
                 : "memory");
  } else {
    static_assert(sizeof(T) == 16);
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(bits.words[0]), "=r"(bits.words[1]), "=r"(bits.words[2]),
                   "=r"(bits.words[3])
                 : "r"(address)
                 : "memory");
  }
  return bits.value;
}

template <class T>
MIXPREC_DEVICE void st_shared(uint32_t address, const std::type_identity_t<T>& value) {
  union Bits {
    MIXPREC_DEVICE explicit Bits(const T& v) : value(v) {}
    T value;
    uint16_t half;
    uint32_t words[(sizeof(T) + 3) / 4];
  } bits(value);
  if constexpr (sizeof(T) == 2) {
    asm volatile("st.shared.b16 [%0], %1;" ::"r"(address), "h"(bits.half) : "memory");
  } else if constexpr (sizeof(T) == 4) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(bits.words[0]) : "memory");
  } else if constexpr (sizeof(T) == 8) {
    asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(address), "r"(bits.words[0]),
                 "r"(bits.words[1])
                 : "memory");
  } else {
    static_assert(sizeof(T) == 16);
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(bits.words[0]),
                 "r"(bits.words[1]), "r"(bits.words[2]), "r"(bits.words[3])
                 : "memory");
  }
}

#endif

}  // namespace mixprec::cuda::ptx
