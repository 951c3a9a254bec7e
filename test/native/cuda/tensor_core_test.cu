// Instructions of sm_80 for tensor cores against plain loops: cp.async, ldmatrix, mma.sync; and
// stmatrix.
#include "cuda/ptx/async_copy.h"
#include "cuda/ptx/barrier.h"
#include "cuda/ptx/matrix.h"
#include "cuda/ptx/memory.h"
#include "cuda/ptx/mma.h"
#include "device_testing.h"

#if defined(MIXPREC_CUDA_EMULATED)
#include "cuda/emulator/tensor_core.h"
#endif

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::cuda::testing;

namespace {

// ---- cp.async ----

// Each thread copies kBytes, of which the last threads' are cut short, in two groups.
template <int kBytes>
__global__ void copy_kernel(const uint8_t* from, uint8_t* out, int count) {
  MIXPREC_SHARED(tile, uint8_t[2 * 64 * kBytes]);
  const int thread = static_cast<int>(threadIdx.x);
  const uint32_t to = ptx::shared_address(tile + thread * kBytes);
  ptx::cp_async<kBytes>(to, from + thread * kBytes);
  ptx::cp_async_commit_group();
  const int left = count - thread * kBytes;
  const int bytes = left < 0 ? 0 : left > kBytes ? kBytes : left;
  ptx::cp_async_zero_fill<kBytes>(to + 64 * kBytes, from + thread * kBytes, bytes);
  ptx::cp_async_commit_group();
  ptx::cp_async_wait_group<1>();
  ptx::sync_threads();
  const int other = 63 - thread;
  for (int i = 0; i < kBytes; ++i) ptx::st(out + other * kBytes + i, tile[other * kBytes + i]);
  ptx::cp_async_wait_all();
  ptx::sync_threads();
  for (int i = 0; i < kBytes; ++i) {
    const int at = 64 * kBytes + other * kBytes + i;
    ptx::st(out + at, tile[at]);
  }
}

template <int kBytes>
void test_copies() {
  std::vector<uint8_t> values(64 * kBytes);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint8_t>(i * 7 + 1);
  DeviceArray<uint8_t> from(values);
  DeviceArray<uint8_t> out(2 * values.size());
  const int count = 50 * kBytes + kBytes / 2;
  launch<copy_kernel<kBytes>>(config(1, 64), from.data, out.data, count);
  const std::vector<uint8_t> result = out.read();
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(static_cast<int>(result[i]), static_cast<int>(values[i]));
    const int filled = static_cast<int>(i) < count ? values[i] : 0;
    EXPECT_EQ(static_cast<int>(result[values.size() + i]), filled);
  }
  expect_healthy();
}

DEVICE_TEST(80, "cp.async of 4, 8 and 16 bytes, with zeros for what is cut off") {
  test_copies<4>();
  test_copies<8>();
  test_copies<16>();
}

// ---- ldmatrix and stmatrix ----

constexpr int kRowHalves = 24;  // 48 bytes from row to row

template <int kCount, bool kTransposed>
__global__ void matrix_kernel(const uint16_t* in, uint16_t* fragments, uint16_t* stored) {
  MIXPREC_SHARED(tile, uint16_t[8 * kCount * kRowHalves]);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 8 * kCount * kRowHalves; i += 32) tile[i] = ptx::ld(in + i);
  ptx::sync_warp();
  const int row = lane % (8 * kCount);
  const uint32_t address = ptx::shared_address(tile + row * kRowHalves + 8);
  uint32_t registers[kCount];
  if constexpr (kTransposed) {
    ptx::ldmatrix_trans(registers, address);
  } else {
    ptx::ldmatrix(registers, address);
  }
  for (int j = 0; j < kCount; ++j) {
    ptx::st(fragments + (j * 32 + lane) * 2, static_cast<uint16_t>(registers[j]));
    ptx::st(fragments + (j * 32 + lane) * 2 + 1, static_cast<uint16_t>(registers[j] >> 16));
  }
#if MIXPREC_HAS_SM90
  ptx::sync_warp();
  const uint32_t target = ptx::shared_address(tile + row * kRowHalves);
  if constexpr (kTransposed) {
    ptx::stmatrix_trans(target, registers);
  } else {
    ptx::stmatrix(target, registers);
  }
  ptx::sync_warp();
  for (int i = lane; i < 8 * kCount * kRowHalves; i += 32) ptx::st(stored + i, tile[i]);
#endif
}

template <int kCount, bool kTransposed>
void test_matrices() {
  std::vector<uint16_t> values(8 * kCount * kRowHalves);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint16_t>(i * 5 + 3);
  DeviceArray<uint16_t> in(values);
  DeviceArray<uint16_t> fragments(kCount * 64);
  DeviceArray<uint16_t> stored(std::vector<uint16_t>(values.size(), 0));
  launch<matrix_kernel<kCount, kTransposed>>(config(1, 32), in.data, fragments.data, stored.data);
  const std::vector<uint16_t> got = fragments.read();
  for (int j = 0; j < kCount; ++j) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int half = 0; half < 2; ++half) {
        int row = lane / 4;
        int column = lane % 4 * 2 + half;
        if (kTransposed) std::swap(row, column);
        const size_t at = static_cast<size_t>((j * 8 + row) * kRowHalves + 8 + column);
        EXPECT_EQ(got[static_cast<size_t>((j * 32 + lane) * 2 + half)], values[at]);
      }
    }
  }
  expect_healthy();
  if (capability() < 90) return;
  // Matrices moved eight columns to the left, whatever the fragments' layout.
  const std::vector<uint16_t> after = stored.read();
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(after[i], i % kRowHalves < 8 ? values[i + 8] : values[i]);
  }
}

DEVICE_TEST(80, "ldmatrix and stmatrix of 1, 2 and 4 matrices, also transposed") {
  test_matrices<1, false>();
  test_matrices<2, false>();
  test_matrices<4, false>();
  test_matrices<1, true>();
  test_matrices<2, true>();
  test_matrices<4, true>();
}

// ---- mma.sync ----

// Four neighbours, two or one along k in a register of 32 bits.
template <class T>
MIXPREC_DEVICE uint32_t packed(const T* from) {
  uint32_t bits = 0;
  constexpr int kElements = 4 / static_cast<int>(sizeof(T));
  for (int i = 0; i < kElements; ++i) {
    const T element = ptx::ld(from + i);
    if constexpr (sizeof(T) == 4) {
      bits = ptx::tf32_bits(element);
    } else if constexpr (sizeof(T) == 2) {
      bits |= static_cast<uint32_t>(element.bits) << 16 * i;
    } else {
      bits |= static_cast<uint32_t>(static_cast<uint8_t>(element)) << 8 * i;
    }
  }
  return bits;
}

// d[16][8] = 1 + a[16][k] * b[8][k], with fragments laid out as in the PTX manual.
template <class T, class Sum>
__global__ void mma_kernel(const T* a, const T* b, Sum* d) {
  constexpr int kDepth = 32 / static_cast<int>(sizeof(T));
  constexpr int kStep = 4 / static_cast<int>(sizeof(T));
  const int lane = static_cast<int>(threadIdx.x);
  const int group = lane / 4;
  const int at = lane % 4 * kStep;
  const uint32_t a_registers[4] = {packed(a + group * kDepth + at),
                                   packed(a + (group + 8) * kDepth + at),
                                   packed(a + group * kDepth + at + kDepth / 2),
                                   packed(a + (group + 8) * kDepth + at + kDepth / 2)};
  const uint32_t b_registers[2] = {packed(b + group * kDepth + at),
                                   packed(b + group * kDepth + at + kDepth / 2)};
  Sum sums[4] = {1, 1, 1, 1};
  if constexpr (sizeof(T) == 4) {
    ptx::mma_m16n8k8_tf32(sums, a_registers, b_registers);
  } else if constexpr (sizeof(T) == 2) {
    ptx::mma_m16n8k16<T>(sums, a_registers, b_registers);
  } else {
    ptx::mma_m16n8k32_s8(sums, a_registers, b_registers);
  }
  for (int i = 0; i < 4; ++i) {
    ptx::st(d + (group + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2, sums[i]);
  }
}

template <class T, class Sum>
void test_mma(const std::string& what, double units) {
  constexpr int kDepth = 32 / static_cast<int>(sizeof(T));
  std::vector<T> a = random_elements<T>(16 * kDepth, 1);
  std::vector<T> b = random_elements<T>(8 * kDepth, 2);
  DeviceArray<T> a_device(a);
  DeviceArray<T> b_device(b);
  DeviceArray<Sum> d(16 * 8);
  launch<mma_kernel<T, Sum>>(config(1, 32), a_device.data, b_device.data, d.data);
  if constexpr (std::is_same_v<T, float>) {
    for (float& x : a) x = round_to_tf32(x);
    for (float& x : b) x = round_to_tf32(x);
  }
  expect_product(a, b, d.read(), 16, 8, kDepth, units, what, 1);
  expect_healthy();
}

DEVICE_TEST(80, "mma.sync of float16, bfloat16, tf32 and int8") {
  test_mma<Float16, float>("float16", 8);
  test_mma<BFloat16, float>("bfloat16", 8);
  test_mma<float, float>("tf32", 8);
  test_mma<int8_t, int32_t>("int8", 0);
}

__global__ void dmma_kernel(const double* a, const double* b, double* d) {
  const int lane = static_cast<int>(threadIdx.x);
  double sums[2] = {1, 1};
  ptx::mma_m8n8k4(sums, ptx::ld(a + lane / 4 * 4 + lane % 4), ptx::ld(b + lane / 4 * 4 + lane % 4));
  for (int i = 0; i < 2; ++i) ptx::st(d + lane / 4 * 8 + lane % 4 * 2 + i, sums[i]);
}

__global__ void dmma_sm90_kernel(const double* a, const double* b, double* d) {
#if MIXPREC_HAS_SM90
  const int lane = static_cast<int>(threadIdx.x);
  double a_registers[8];
  double b_registers[4];
  for (int i = 0; i < 8; ++i) {
    a_registers[i] = ptx::ld(a + (lane / 4 + i % 2 * 8) * 16 + i / 2 * 4 + lane % 4);
  }
  for (int i = 0; i < 4; ++i) b_registers[i] = ptx::ld(b + lane / 4 * 16 + i * 4 + lane % 4);
  double sums[4] = {1, 1, 1, 1};
  ptx::mma_m16n8k16(sums, a_registers, b_registers);
  for (int i = 0; i < 4; ++i) {
    ptx::st(d + (lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2, sums[i]);
  }
#endif
}

DEVICE_TEST(80, "mma.sync of float64, m8n8k4") {
  const std::vector<double> a = random_elements<double>(8 * 4, 3);
  const std::vector<double> b = random_elements<double>(8 * 4, 4);
  DeviceArray<double> a_device(a);
  DeviceArray<double> b_device(b);
  DeviceArray<double> d(8 * 8);
  launch<dmma_kernel>(config(1, 32), a_device.data, b_device.data, d.data);
  expect_product(a, b, d.read(), 8, 8, 4, 0x1p-27, "m8n8k4", 1);
  expect_healthy();
}

DEVICE_TEST(90, "mma.sync of float64, m16n8k16") {
  const std::vector<double> a = random_elements<double>(16 * 16, 5);
  const std::vector<double> b = random_elements<double>(8 * 16, 6);
  DeviceArray<double> a_device(a);
  DeviceArray<double> b_device(b);
  DeviceArray<double> d(16 * 8);
  launch<dmma_sm90_kernel>(config(1, 32), a_device.data, b_device.data, d.data);
  expect_product(a, b, d.read(), 16, 8, 16, 0x1p-26, "m16n8k16", 1);
  expect_healthy();
}

__global__ void tf32_kernel(const float* in, uint32_t* out) {
  ptx::st(out + threadIdx.x, ptx::tf32_bits(ptx::ld(in + threadIdx.x)));
}

DEVICE_TEST(80, "rounding to tf32") {
  std::vector<float> values = random_elements<float>(256, 7);
  values[0] = 1 + 0x1p-11f;  // a tie, which goes away from zero
  values[1] = -(1 + 0x1p-11f);
  values[2] = 1 + 0x1p-11f - 0x1p-23f;
  DeviceArray<float> in(values);
  DeviceArray<uint32_t> out(256);
  launch<tf32_kernel>(config(1, 256), in.data, out.data);
  const std::vector<uint32_t> result = out.read();
  for (size_t i = 0; i < 256; ++i) {
    float rounded;
    std::memcpy(&rounded, &result[i], 4);
    EXPECT_EQ(rounded, round_to_tf32(values[i]));
  }
  expect_healthy();
}

#if defined(MIXPREC_CUDA_EMULATED)

DEVICE_TEST(80, "the truncating model loses what the exact one keeps") {
  // 1 + 15 * 2^-27: each small product lies below the two extra bits of the large one.
  std::vector<Float16> a(16 * 16, to_float16(0));
  std::vector<Float16> b(8 * 16, to_float16(0));
  for (int i = 0; i < 16; ++i) {
    a[static_cast<size_t>(i)] = to_float16(i == 0 ? 1.0f : 0x1p-13f);
    b[static_cast<size_t>(i)] = to_float16(i == 0 ? 1.0f : 0x1p-14f);
  }
  DeviceArray<Float16> a_device(a);
  DeviceArray<Float16> b_device(b);
  DeviceArray<float> d(16 * 8);
  const auto first = [&] {
    launch<mma_kernel<Float16, float>>(config(1, 32), a_device.data, b_device.data, d.data);
    return d.read()[0];
  };
  const float exact = first();
  EXPECT_EQ(exact, static_cast<float>(2 + 15 * 0x1p-27));
  emulator::set_tensor_core_model(emulator::TensorCoreModel::kTruncating);
  for (float x : {0x1p-22f, 0x1p-23f, 0x1p-24f}) {
    // Products of the model are exact as long as they reach the accumulator's last bits.
    a[1] = to_float16(x * 0x1p10f);
    b[1] = to_float16(0x1p-10f);
    DeviceArray<Float16> a_next(a);
    DeviceArray<Float16> b_next(b);
    launch<mma_kernel<Float16, float>>(config(1, 32), a_next.data, b_next.data, d.data);
    EXPECT_EQ(d.read()[0], x >= 0x1p-22f ? 2 + 0x1p-22f : 2.0f);
  }
  emulator::set_tensor_core_model(emulator::TensorCoreModel::kExact);
  EXPECT_EQ(first(), exact);
  expect_healthy();
}

#endif

}  // namespace
