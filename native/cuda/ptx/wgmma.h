// Matrix products of a warpgroup, asynchronous (PTX ISA 9.7.15 wgmma; sm_90a): d += a * b, with a
// of 64 rows by 32 bytes of k, b of that k by kN columns, both or only b in shared memory. Thread t
// of the four warps holds d as in mma: register 4 * j + i is that of column group j (8 columns), of
// rows 16 * (t / 32) and on. Before the first, and when registers were touched: wgmma_fence; after
// the last of a group: wgmma_commit_group; before d, or shared memory that is read, is touched:
// wgmma_wait_group.
#pragma once

#include "core/dtype.h"
#include "cuda/runtime/tensor_map.h"
#include "kernel.h"
#include "shared.h"

namespace mixprec::cuda {

// How an operand's tile lies in shared memory: k next to k, or rows of a (columns of b) next to
// each other, which only operands of 16 bits may.
enum class Major : uint8_t { kK = 0, kMn = 1 };

// The operand types of wgmma besides Float16, BFloat16 and int8_t: float32 bits that are read as
// tf32.
struct Tf32 {};

namespace ptx {

// Describes a tile in shared memory (PTX ISA 9.7.15.5). In units of the swizzle's pattern, 8 rows
// of 128, 64 or 32 bytes, a tile that is major in k has `stride` bytes from 8 rows to the next 8,
// and `leading` counts for nothing; one major in rows has `stride` from 8 k to the next 8, and
// `leading` from a pattern's row of rows to the next. Without a swizzle the units are core matrices
// of 8 times 16 bytes: `leading` leads to the next along k, `stride` across, for both kinds.
MIXPREC_DEVICE uint64_t wgmma_descriptor(uint32_t address, uint32_t leading, uint32_t stride,
                                         Swizzle swizzle) {
  return static_cast<uint64_t>((address & 0x3ffff) >> 4) |
         static_cast<uint64_t>((leading & 0x3ffff) >> 4) << 16 |
         static_cast<uint64_t>((stride & 0x3ffff) >> 4) << 32 |
         static_cast<uint64_t>(swizzle) << 62;
}
// The tile `bytes` further on.
MIXPREC_DEVICE uint64_t wgmma_advance(uint64_t descriptor, uint32_t bytes) {
  return descriptor + (bytes >> 4);
}

template <class T>
using WgmmaSum = std::conditional_t<std::is_same_v<T, int8_t>, int32_t, float>;

template <class T, Major kA, Major kB>
constexpr bool kWgmmaMajors = sizeof(T) == 2 || (kA == Major::kK && kB == Major::kK);

#if defined(MIXPREC_CUDA_EMULATED)

template <class T>
inline constexpr emulator::OperandType kWgmmaType =
    std::is_same_v<T, Float16>    ? emulator::OperandType::kFloat16
    : std::is_same_v<T, BFloat16> ? emulator::OperandType::kBFloat16
    : std::is_same_v<T, Tf32>     ? emulator::OperandType::kTf32
                                  : emulator::OperandType::kInt8;

inline void wgmma_fence() { emulator::warpgroup().fence(emulator::machine().thread()); }
inline void wgmma_commit_group() { emulator::warpgroup().commit(emulator::machine().thread()); }
// Until at most kPending of the groups are under way.
template <int kPending>
void wgmma_wait_group() {
  emulator::warpgroup().wait(emulator::machine().thread(), kPending);
}

// Both operands by descriptor. What d holds is added to if `accumulate`, else overwritten.
template <int kN, class T, Major kA, Major kB>
void wgmma(WgmmaSum<T> (&d)[kN / 2], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(kWgmmaMajors<T, kA, kB>, "only operands of 16 bits can be major in rows");
  emulator::Warpgroup::Operands operands;
  operands.descriptor_a = a;
  operands.descriptor_b = b;
  operands.registers = reinterpret_cast<float*>(d);
  operands.accumulate = accumulate;
  emulator::WgmmaShape shape;
  shape.type = kWgmmaType<T>;
  shape.n = kN;
  shape.a_mn_major = kA == Major::kMn;
  shape.b_mn_major = kB == Major::kMn;
  emulator::warpgroup().issue(emulator::machine().thread(), shape, operands);
}
// a in registers, whose fragment is that of mma of the type.
template <int kN, class T, Major kB>
void wgmma(WgmmaSum<T> (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  static_assert(kWgmmaMajors<T, Major::kK, kB>, "only operands of 16 bits can be major in rows");
  emulator::Warpgroup::Operands operands;
  operands.a = a;
  operands.descriptor_b = b;
  operands.registers = reinterpret_cast<float*>(d);
  operands.accumulate = accumulate;
  emulator::WgmmaShape shape;
  shape.type = kWgmmaType<T>;
  shape.n = kN;
  shape.a_in_registers = true;
  shape.b_mn_major = kB == Major::kMn;
  emulator::warpgroup().issue(emulator::machine().thread(), shape, operands);
}

// After the wait for products that add to `d`: no use of it moves up before this.
template <class Sum, int kCount>
void wgmma_registers(Sum (&)[kCount]) {}

// A warpgroup gives registers back, or gets more: kCount is a multiple of 8 from 24 to 256 (PTX ISA
// 9.7.19.5 setmaxnreg). The kernel needs __launch_bounds__(threads, 1).
template <int kCount>
void set_max_registers_dec() {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256);
}
template <int kCount>
void set_max_registers_inc() {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256);
}

#else

MIXPREC_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
MIXPREC_DEVICE void wgmma_commit_group() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
MIXPREC_DEVICE void wgmma_wait_group() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
template <class Sum, int kCount>
MIXPREC_DEVICE void wgmma_registers(Sum (&d)[kCount]) {
  MIXPREC_UNROLL
  for (int i = 0; i < kCount; ++i) {
    if constexpr (std::is_same_v<Sum, float>) {
      asm volatile("" : "+f"(d[i])::"memory");
    } else {
      asm volatile("" : "+r"(d[i])::"memory");
    }
  }
}
template <int kCount>
MIXPREC_DEVICE void set_max_registers_dec() {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256);
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
MIXPREC_DEVICE void set_max_registers_inc() {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256);
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

#include "wgmma_asm.h"

template <int kN, class T, Major kA, Major kB>
MIXPREC_DEVICE void wgmma(WgmmaSum<T> (&d)[kN / 2], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(kWgmmaMajors<T, kA, kB>, "only operands of 16 bits can be major in rows");
  WgmmaAsm<kN>::template run<T, kA, kB>(d, a, b, accumulate);
}
template <int kN, class T, Major kB>
MIXPREC_DEVICE void wgmma(WgmmaSum<T> (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b,
                          bool accumulate) {
  static_assert(kWgmmaMajors<T, Major::kK, kB>, "only operands of 16 bits can be major in rows");
  WgmmaAsm<kN>::template run<T, kB>(d, a, b, accumulate);
}

#endif

}  // namespace ptx
}  // namespace mixprec::cuda
