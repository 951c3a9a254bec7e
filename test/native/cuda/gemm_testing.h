// Operands for the products of gemm_kernels.h, and their launches.
#pragma once

#include "device_testing.h"
#include "gemm_kernels.h"

namespace mixprec::cuda::testing {

struct GemmOperands {
  GemmOperands(int m_, int n_, int k_)
      : m(m_),
        n(n_),
        k(k_),
        a_values(random_elements<BFloat16>(static_cast<size_t>(m_ * k_), 21)),
        b_values(random_elements<BFloat16>(static_cast<size_t>(n_ * k_), 22)),
        a(a_values),
        b(b_values) {}

  int m, n, k;
  std::vector<BFloat16> a_values, b_values;
  DeviceArray<BFloat16> a, b;
};

inline uint32_t tiles(int extent, int tile) {
  return static_cast<uint32_t>((extent + tile - 1) / tile);
}

// The result as floats; empty if the launch failed.
template <Fault kFault>
std::vector<float> run_sm80(const GemmOperands& x) {
  using G = GemmSm80;
  DeviceArray<float> c(static_cast<size_t>(x.m * x.n));
  attempt<gemm_sm80<kFault>>(
      config(Dim3(tiles(x.m, G::kTile), tiles(x.n, G::kTile)), G::kThreads, G::kSharedBytes),
      x.a.data, x.b.data, c.data, x.m, x.n, x.k);
  if (api::synchronize_stream(stream()) != api::kSuccess) return {};
  return c.read();
}

inline TensorMap tile_map(const void* data, int rows, int columns, int box_rows,
                          Swizzle swizzle = Swizzle::k128Bytes) {
  TensorMapDesc desc;
  desc.data = data;
  desc.extents[0] = static_cast<uint64_t>(columns);
  desc.extents[1] = static_cast<uint64_t>(rows);
  desc.byte_strides[1] = static_cast<uint64_t>(columns) * 2;
  desc.box[0] = GemmSm90::kDepth;
  desc.box[1] = static_cast<uint32_t>(box_rows);
  desc.swizzle = swizzle;
  TensorMap map;
  EXPECT_EQ(api::encode_tensor_map(&map, desc), api::kSuccess);
  return map;
}

// n and k are multiples of 8. `swizzle` is that of a's copies.
template <Fault kFault, uint32_t kCluster>
std::vector<float> run_sm90(const GemmOperands& x, Swizzle swizzle = Swizzle::k128Bytes) {
  using G = GemmSm90;
  DeviceArray<BFloat16> c(static_cast<size_t>(x.m * x.n));
  const TensorMap a = tile_map(x.a.data, x.m, x.k, G::kTile, swizzle);
  const TensorMap b = tile_map(x.b.data, x.n, x.k, G::kTile / static_cast<int>(kCluster));
  const TensorMap out = tile_map(c.data, x.m, x.n, G::kTile);
  const uint32_t rows = (tiles(x.m, G::kTile) + kCluster - 1) / kCluster * kCluster;
  attempt<gemm_sm90<kFault, kCluster>>(
      config(Dim3(rows, tiles(x.n, G::kTile)), G::kThreads, G::kSharedBytes, Dim3(kCluster)), a, b,
      out, x.k);
  if (api::synchronize_stream(stream()) != api::kSuccess) return {};
  std::vector<float> result;
  for (const BFloat16 value : c.read()) result.push_back(to_float(value));
  return result;
}

}  // namespace mixprec::cuda::testing
