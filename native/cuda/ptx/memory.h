// Loads and stores of global memory (PTX ISA 9.7.9.8 ld, 9.7.9.11 st). Kernels touch global memory
// through these alone: in the emulator each one is checked against what is allocated, written and
// aligned.
#pragma once

#include "kernel.h"

namespace mixprec::cuda {

// N elements that are loaded or stored at once, of at most 16 bytes.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  static_assert(sizeof(T) * N <= 16 && (N & (N - 1)) == 0);
  T values[N];

  MIXPREC_DEVICE T& operator[](int i) { return values[i]; }
  MIXPREC_DEVICE const T& operator[](int i) const { return values[i]; }
};

namespace ptx {

template <class T>
MIXPREC_DEVICE T ld(const T* address) {
#if defined(MIXPREC_CUDA_EMULATED)
  emulator::check_read<sizeof(T)>(address);
#endif
  return *address;
}

template <class T>
MIXPREC_DEVICE void st(T* address, std::type_identity_t<T> value) {
#if defined(MIXPREC_CUDA_EMULATED)
  emulator::check_write<sizeof(T)>(address);
#endif
  *address = value;
}

// N neighbours in one access of sizeof(T) * N bytes, to which `address` is aligned.
template <int N, class T>
MIXPREC_DEVICE Pack<T, N> ld_pack(const T* address) {
  return ld(reinterpret_cast<const Pack<T, N>*>(address));
}
template <int N, class T>
MIXPREC_DEVICE void st_pack(T* address, const Pack<T, N>& values) {
  st(reinterpret_cast<Pack<T, N>*>(address), values);
}

// As ld, for what no thread of the grid writes: goes through the read-only cache.
template <class T>
MIXPREC_DEVICE T ld_constant(const T* address) {
#if defined(MIXPREC_CUDA_EMULATED)
  return ld(address);
#else
  return __ldg(address);
#endif
}

// Brings the line of 128 bytes around `address` into the second-level cache (PTX ISA 9.7.9.15
// prefetch).
MIXPREC_DEVICE void prefetch_line([[maybe_unused]] const void* address) {
#if !defined(MIXPREC_CUDA_EMULATED)
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
#endif
}

}  // namespace ptx
}  // namespace mixprec::cuda
