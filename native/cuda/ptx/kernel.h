// What a source of kernels is written in: CUDA C++ that nvcc compiles for the GPU and the host
// compiler for the emulator. The built-in variables (threadIdx, blockIdx, blockDim, gridDim) are
// CUDA's own; everything else a kernel does to memory or to other threads goes through ptx::.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "cuda/runtime/api.h"

#if defined(MIXPREC_CUDA_EMULATED)

#include "cuda/emulator/machine.h"

#define __global__
#define __device__
#define __launch_bounds__(...)
#define threadIdx (::mixprec::cuda::emulator::built_ins.thread->index)
#define blockIdx (::mixprec::cuda::emulator::built_ins.thread->block->index)
#define blockDim (::mixprec::cuda::emulator::built_ins.launch->block)
#define gridDim (::mixprec::cuda::emulator::built_ins.launch->grid)

// A function of the device.
#define MIXPREC_DEVICE inline __attribute__((always_inline))
// A kernel parameter that is large, or indexed by a variable: it stays in constant memory.
#define MIXPREC_GRID_CONSTANT(...) const __VA_ARGS__&
// A variable in shared memory: MIXPREC_SHARED(tile, float[32][33]).
#define MIXPREC_SHARED(name, ...)           \
  static const char name##_site = 0;        \
  std::type_identity_t<__VA_ARGS__>& name = \
      *::mixprec::cuda::ptx::shared_variable<std::type_identity_t<__VA_ARGS__>>(&name##_site)
// The shared memory that the launch asked for, aligned to 1024 bytes.
#define MIXPREC_DYNAMIC_SHARED(name) \
  unsigned char* const name = ::mixprec::cuda::emulator::current_block().shared.dynamic()
#define MIXPREC_UNROLL
#define MIXPREC_ROLLED

namespace mixprec::cuda::ptx {

template <class T>
T* shared_variable(const void* site) {
  void* data = emulator::current_block().shared.variable(site, sizeof(T));
  if (data == nullptr) {
    emulator::fault(api::kInvalidConfiguration, "more than 48 KiB of static shared memory");
  }
  return static_cast<T*>(data);
}

}  // namespace mixprec::cuda::ptx

#else

#include <cuda_runtime.h>

#define MIXPREC_DEVICE __device__ __forceinline__
#define MIXPREC_GRID_CONSTANT(...) const __grid_constant__ __VA_ARGS__
#define MIXPREC_SHARED(name, ...) __shared__ std::type_identity_t<__VA_ARGS__> name
#define MIXPREC_DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#define MIXPREC_UNROLL _Pragma("unroll")
// A loop whose code is to be there once.
#define MIXPREC_ROLLED _Pragma("unroll 1")

#endif

// Whether the compilation under way is for a GPU that has the instructions of sm_90, and those of
// sm_90a, which no other GPU has. A kernel that uses them puts its body into #if; the host must not
// launch it on another GPU.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define MIXPREC_HAS_SM90 1
#else
#define MIXPREC_HAS_SM90 0
#endif
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define MIXPREC_HAS_SM90A 1
#else
#define MIXPREC_HAS_SM90A 0
#endif

namespace mixprec::cuda {

inline constexpr uint32_t kFullMask = 0xffffffffu;
inline constexpr int kWarpLanes = 32;

}  // namespace mixprec::cuda
