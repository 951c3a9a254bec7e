// wgmma against plain loops: every type, both orders of both operands, every swizzle, operands in
// registers, and many numbers of columns.
#include "cuda/ptx/barrier.h"
#include "cuda/ptx/mbarrier.h"
#include "cuda/ptx/memory.h"
#include "cuda/ptx/mma.h"
#include "cuda/ptx/wgmma.h"
#include "device_testing.h"

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::cuda::testing;

namespace {

template <class T>
using Element = std::conditional_t<std::is_same_v<T, Tf32>, float, T>;

// An operand's tile in shared memory: k has `depth` elements, of which an instruction takes 32
// bytes. Major in k, a row has the bytes of the swizzle; major in rows, 32 bytes of k are enough.
struct Tile {
  Swizzle swizzle;
  int row_bytes;  // of the swizzle's pattern

  MIXPREC_DEVICE explicit Tile(Swizzle s)
      : swizzle(s),
        row_bytes(s == Swizzle::k128Bytes  ? 128
                  : s == Swizzle::k64Bytes ? 64
                  : s == Swizzle::k32Bytes ? 32
                                           : 16) {}

  // Where element (row, k) goes, from the beginning of the tile.
  template <class T, Major kMajor>
  MIXPREC_DEVICE int offset(int row, int k, int rows) const {
    constexpr int kSize = static_cast<int>(sizeof(T));
    if constexpr (kMajor == Major::kK) {
      if (swizzle == Swizzle::kNone)
        return row / 8 * 256 + k * kSize / 16 * 128 + row % 8 * 16 + k * kSize % 16;
      return row * row_bytes + k * kSize;
    } else {
      (void)rows;
      const int along = row * kSize;
      if (swizzle == Swizzle::kNone)
        return along / 16 * 256 + k / 8 * 128 + k % 8 * 16 + along % 16;
      return along / row_bytes * (16 * row_bytes) + k * row_bytes + along % row_bytes;
    }
  }
  template <Major kMajor>
  MIXPREC_DEVICE uint64_t descriptor(uint32_t address) const {
    if (swizzle == Swizzle::kNone) {
      // Core matrices of 128 bytes: two along k beside each other.
      return ptx::wgmma_descriptor(address, 128, 256, swizzle);
    }
    const auto pattern = static_cast<uint32_t>(8 * row_bytes);
    return ptx::wgmma_descriptor(address, kMajor == Major::kK ? 16 : 2 * pattern, pattern, swizzle);
  }
};

constexpr int kThreads = 128;
constexpr int kTileBytes = 32 << 10;

template <class T, Major kMajor>
MIXPREC_DEVICE void fill(unsigned char* tile, const Tile& layout, const T* from, int rows,
                         int depth) {
  const uint32_t begin = ptx::shared_address(tile);
  for (int i = static_cast<int>(threadIdx.x); i < rows * depth; i += kThreads) {
    const auto offset =
        static_cast<uint32_t>(layout.template offset<T, kMajor>(i / depth, i % depth, rows));
    const uint32_t at = swizzled(begin + offset, layout.swizzle) - begin;
    *reinterpret_cast<T*>(tile + at) = ptx::ld(from + i);
  }
}

// The four registers of a's fragment, which begins at column `k`.
template <class T>
MIXPREC_DEVICE void load_fragment(uint32_t (&registers)[4], const T* a, int k, int depth) {
  constexpr int kSize = static_cast<int>(sizeof(T));
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4;
  for (int i = 0; i < 4; ++i) {
    const T* from = a + (row + i % 2 * 8) * depth + k + (lane % 4 * 4 + i / 2 * 16) / kSize;
    uint32_t bits = 0;
    for (int j = 0; j < 4 / kSize; ++j) {
      const T element = ptx::ld(from + j);
      if constexpr (kSize == 4) {
        bits = ptx::tf32_bits(element);
      } else if constexpr (kSize == 2) {
        bits |= static_cast<uint32_t>(element.bits) << 16 * j;
      } else {
        bits |= static_cast<uint32_t>(static_cast<uint8_t>(element)) << 8 * j;
      }
    }
    registers[i] = bits;
  }
}

// d[64][n] = a[64][depth] * b[n][depth], plus 3 if `start`.
template <class T, int kN, Major kA, Major kB, bool kInRegisters>
__global__ void __launch_bounds__(kThreads, 1)
    wgmma_kernel(const Element<T>* a, const Element<T>* b, ptx::WgmmaSum<T>* out, int depth,
                 Swizzle swizzle, bool start) {
#if MIXPREC_HAS_SM90A
  using E = Element<T>;
  MIXPREC_DYNAMIC_SHARED(memory);
  const Tile layout(swizzle);
  if constexpr (!kInRegisters) fill<E, kA>(memory, layout, a, 64, depth);
  fill<E, kB>(memory + kTileBytes, layout, b, kN, depth);
  ptx::fence_proxy_async();
  ptx::sync_threads();
  const uint32_t address = ptx::shared_address(memory);
  const uint64_t a_tile = layout.template descriptor<kA>(address);
  const uint64_t b_tile = layout.template descriptor<kB>(address + kTileBytes);
  ptx::WgmmaSum<T> d[kN / 2];
  for (int i = 0; i < kN / 2; ++i) d[i] = 3;
  const int steps = depth * static_cast<int>(sizeof(E)) / 32;
  constexpr int kStep = 32 / static_cast<int>(sizeof(E));
  for (int step = 0; step < steps; ++step) {
    const auto bytes = static_cast<uint32_t>(step * 32);
    const bool accumulate = start || step > 0;
    if constexpr (kInRegisters) {
      uint32_t fragment[4];
      load_fragment(fragment, a, step * kStep, depth);
      ptx::wgmma_fence();
      ptx::wgmma<kN, T, kB>(d, fragment, ptx::wgmma_advance(b_tile, bytes), accumulate);
      ptx::wgmma_commit_group();
      ptx::wgmma_wait_group<0>();  // before the fragment changes
    } else {
      ptx::wgmma_fence();
      ptx::wgmma<kN, T, kA, kB>(d, ptx::wgmma_advance(a_tile, bytes),
                                ptx::wgmma_advance(b_tile, bytes), accumulate);
      ptx::wgmma_commit_group();
      ptx::wgmma_wait_group<1>();
    }
  }
  ptx::wgmma_wait_group<0>();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4;
  MIXPREC_UNROLL
  for (int i = 0; i < kN / 2; ++i) {
    ptx::st(out + (row + i / 2 % 2 * 8) * kN + i / 4 * 8 + lane % 4 * 2 + i % 2, d[i]);
  }
#endif
}

template <class T, int kN, Major kA, Major kB, bool kInRegisters = false>
void test_wgmma(Swizzle swizzle, bool start = false) {
  using E = Element<T>;
  const int row_bytes = Tile(swizzle).row_bytes;
  // Major in k, all steps that a row of the swizzle's pattern has room for.
  const bool one_step = kB == Major::kMn || kA == Major::kMn || row_bytes < 32;
  const int depth = (one_step ? 32 : row_bytes) / static_cast<int>(sizeof(E));
  std::vector<E> a = random_elements<E>(static_cast<size_t>(64 * depth), 11);
  std::vector<E> b = random_elements<E>(static_cast<size_t>(kN * depth), 12);
  if constexpr (std::is_same_v<T, Tf32>) {
    for (E& x : a) x = round_to_tf32(x);
    for (E& x : b) x = round_to_tf32(x);
  }
  DeviceArray<E> a_device(a);
  DeviceArray<E> b_device(b);
  DeviceArray<ptx::WgmmaSum<T>> out(64 * kN);
  launch<wgmma_kernel<T, kN, kA, kB, kInRegisters>>(config(1, kThreads, 2 * kTileBytes),
                                                    a_device.data, b_device.data, out.data, depth,
                                                    swizzle, start);
  const std::string what =
      "n " + std::to_string(kN) + ", swizzle " + std::to_string(static_cast<int>(swizzle));
  const double units = std::is_same_v<T, int8_t> ? 0 : 8;
  expect_product(a, b, out.read(), 64, kN, depth, units, what, start ? 3 : 0);
  expect_healthy();
}

constexpr Swizzle kSwizzles[] = {Swizzle::kNone, Swizzle::k32Bytes, Swizzle::k64Bytes,
                                 Swizzle::k128Bytes};
constexpr Major kK = Major::kK;
constexpr Major kMn = Major::kMn;

DEVICE_TEST(90, "wgmma of bfloat16 in every order and swizzle") {
  for (const Swizzle swizzle : kSwizzles) {
    test_wgmma<BFloat16, 64, kK, kK>(swizzle);
    test_wgmma<BFloat16, 64, kK, kMn>(swizzle);
    test_wgmma<BFloat16, 64, kMn, kK>(swizzle);
    test_wgmma<BFloat16, 64, kMn, kMn>(swizzle, true);
  }
}

DEVICE_TEST(90, "wgmma of float16, tf32 and int8") {
  for (const Swizzle swizzle : kSwizzles) {
    test_wgmma<Float16, 128, kK, kK>(swizzle, true);
    test_wgmma<Tf32, 64, kK, kK>(swizzle);
    test_wgmma<int8_t, 96, kK, kK>(swizzle, true);
  }
  test_wgmma<Float16, 128, kMn, kMn>(Swizzle::k128Bytes);
}

DEVICE_TEST(90, "wgmma with an operand in registers") {
  test_wgmma<BFloat16, 64, kK, kK, true>(Swizzle::k128Bytes);
  test_wgmma<BFloat16, 128, kK, kMn, true>(Swizzle::k128Bytes, true);
  test_wgmma<Float16, 32, kK, kK, true>(Swizzle::k64Bytes);
  test_wgmma<Tf32, 64, kK, kK, true>(Swizzle::k128Bytes);
  test_wgmma<int8_t, 64, kK, kK, true>(Swizzle::k128Bytes);
}

DEVICE_TEST(90, "wgmma of few and of many columns") {
  test_wgmma<BFloat16, 8, kK, kK>(Swizzle::k128Bytes);
  test_wgmma<BFloat16, 16, kK, kK>(Swizzle::k128Bytes);
  test_wgmma<BFloat16, 32, kK, kK>(Swizzle::k128Bytes);
  test_wgmma<BFloat16, 96, kK, kK>(Swizzle::k128Bytes);
  test_wgmma<BFloat16, 160, kK, kK>(Swizzle::k128Bytes);
  test_wgmma<BFloat16, 192, kK, kMn>(Swizzle::k128Bytes);
  test_wgmma<BFloat16, 224, kK, kK>(Swizzle::k128Bytes);
  test_wgmma<BFloat16, 256, kMn, kMn>(Swizzle::k128Bytes);
}

}  // namespace
