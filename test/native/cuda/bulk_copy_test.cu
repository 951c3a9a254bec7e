// Bulk copies, mbarriers and clusters: boxes of tensors of every rank and swizzle, at ragged edges,
// both ways; multicast; arrivals at another block's mbarrier.
#include "cuda/ptx/async_copy.h"
#include "cuda/ptx/barrier.h"
#include "cuda/ptx/bulk_copy.h"
#include "cuda/ptx/cluster.h"
#include "cuda/ptx/memory.h"
#include "cuda/ptx/warp.h"
#include "device_testing.h"

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::cuda::testing;

namespace {

struct Corner {
  int at[5];
};

template <int kRank>
MIXPREC_DEVICE void load_box(uint32_t to, const TensorMap& map, uint32_t mbarrier,
                             const Corner& corner) {
  const int* c = corner.at;
  if constexpr (kRank == 1) ptx::tensor_load(to, map, mbarrier, c[0]);
  if constexpr (kRank == 2) ptx::tensor_load(to, map, mbarrier, c[0], c[1]);
  if constexpr (kRank == 3) ptx::tensor_load(to, map, mbarrier, c[0], c[1], c[2]);
  if constexpr (kRank == 4) ptx::tensor_load(to, map, mbarrier, c[0], c[1], c[2], c[3]);
  if constexpr (kRank == 5) ptx::tensor_load(to, map, mbarrier, c[0], c[1], c[2], c[3], c[4]);
}
template <int kRank>
MIXPREC_DEVICE void store_box(const TensorMap& map, uint32_t from, const Corner& corner) {
  const int* c = corner.at;
  if constexpr (kRank == 1) ptx::tensor_store(map, from, c[0]);
  if constexpr (kRank == 2) ptx::tensor_store(map, from, c[0], c[1]);
  if constexpr (kRank == 3) ptx::tensor_store(map, from, c[0], c[1], c[2]);
  if constexpr (kRank == 4) ptx::tensor_store(map, from, c[0], c[1], c[2], c[3]);
  if constexpr (kRank == 5) ptx::tensor_store(map, from, c[0], c[1], c[2], c[3], c[4]);
}

// Loads a box, gives out what shared memory then holds, and stores the box, with every value plus
// one, to a second tensor.
template <int kRank>
__global__ void box_kernel(MIXPREC_GRID_CONSTANT(TensorMap) from,
                           MIXPREC_GRID_CONSTANT(TensorMap) to, uint16_t* seen, int elements,
                           MIXPREC_GRID_CONSTANT(Corner) corner) {
#if MIXPREC_HAS_SM90
  MIXPREC_DYNAMIC_SHARED(memory);
  MIXPREC_SHARED(barrier, uint64_t);
  auto* const tile = reinterpret_cast<uint16_t*>(memory);
  const uint32_t mbarrier = ptx::shared_address(&barrier);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(mbarrier, 1);
    ptx::fence_mbarrier_init();
    ptx::prefetch_tensor_map(from);
  }
  ptx::sync_threads();
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect_tx(mbarrier, static_cast<uint32_t>(elements * 2));
    load_box<kRank>(ptx::shared_address(tile), from, mbarrier, corner);
  }
  ptx::mbarrier_wait(mbarrier, 0);
  for (int i = static_cast<int>(threadIdx.x); i < elements; i += static_cast<int>(blockDim.x)) {
    ptx::st(seen + i, tile[i]);
    ++tile[i];
  }
  ptx::fence_proxy_async();
  ptx::sync_threads();
  if (threadIdx.x == 0) {
    store_box<kRank>(to, ptx::shared_address(tile), corner);
    ptx::bulk_commit_group();
    ptx::bulk_wait_group_read<0>();
  }
#endif
}

struct Box {
  std::vector<int> extents;  // innermost first
  std::vector<int> box;
  std::vector<int> corner;
  Swizzle swizzle;
};

template <int kRank>
void test_box(const Box& test) {
  // Rows are padded to a multiple of 16 bytes, with a gap behind each.
  const int row = (test.extents[0] + 7) / 8 * 8 + 8;
  TensorMapDesc desc;
  desc.dtype = DType::kBFloat16;
  desc.rank = kRank;
  desc.swizzle = test.swizzle;
  size_t count = static_cast<size_t>(row);
  int elements = 1;
  Corner corner = {};
  for (int dim = 0; dim < kRank; ++dim) {
    const auto at = static_cast<size_t>(dim);
    desc.extents[dim] = static_cast<uint64_t>(test.extents[at]);
    desc.box[dim] = static_cast<uint32_t>(test.box[at]);
    corner.at[dim] = test.corner[at];
    elements *= test.box[at];
    if (dim == 0) continue;
    desc.byte_strides[dim] = count * 2;
    count *= static_cast<size_t>(test.extents[at]);
  }
  std::vector<uint16_t> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<uint16_t>(i * 3 + 1);
  DeviceArray<uint16_t> in(values);
  DeviceArray<uint16_t> out(std::vector<uint16_t>(count, 7));
  DeviceArray<uint16_t> seen(static_cast<size_t>(elements));
  TensorMap from_map;
  TensorMap to_map;
  desc.data = in.data;
  EXPECT_EQ(api::encode_tensor_map(&from_map, desc), api::kSuccess);
  desc.data = out.data;
  EXPECT_EQ(api::encode_tensor_map(&to_map, desc), api::kSuccess);
  launch<box_kernel<kRank>>(config(1, 64, static_cast<size_t>(elements) * 2), from_map, to_map,
                            seen.data, elements, corner);

  const std::vector<uint16_t> tile = seen.read();
  std::vector<uint16_t> expected(count, 7);
  for (int i = 0; i < elements; ++i) {
    int rest = i;
    size_t place = 0;
    size_t stride = 1;
    bool inside = true;
    for (size_t dim = 0; dim < kRank; ++dim) {
      const int at = test.corner[dim] + rest % test.box[dim];
      rest /= test.box[dim];
      inside = inside && at >= 0 && at < test.extents[dim];
      place += static_cast<size_t>(at) * stride;
      stride *= static_cast<size_t>(dim == 0 ? row : test.extents[dim]);
    }
    const uint16_t value = inside ? values[place] : 0;
    const uint32_t at = swizzled(static_cast<uint32_t>(i * 2), test.swizzle) / 2;
    EXPECT_EQ(tile[at], value);
    if (inside) expected[place] = static_cast<uint16_t>(value + 1);
  }
  const std::vector<uint16_t> stored = out.read();
  for (size_t i = 0; i < count; ++i) EXPECT_EQ(stored[i], expected[i]);
  expect_healthy();
}

DEVICE_TEST(90, "boxes of tensors of every rank, loaded and stored") {
  test_box<1>({{100}, {64}, {16}, Swizzle::kNone});
  test_box<2>({{40, 20}, {16, 8}, {8, 3}, Swizzle::kNone});
  test_box<3>({{40, 6, 5}, {16, 4, 2}, {3, 2, 1}, Swizzle::kNone});
  test_box<4>({{24, 5, 4, 3}, {8, 3, 2, 2}, {5, 1, 1, 1}, Swizzle::kNone});
  test_box<5>({{24, 5, 4, 3, 3}, {8, 2, 2, 2, 2}, {16, 1, 2, 0, 1}, Swizzle::kNone});
}

DEVICE_TEST(90, "boxes in every swizzle") {
  test_box<2>({{200, 64}, {16, 64}, {32, 0}, Swizzle::k32Bytes});
  test_box<2>({{200, 64}, {32, 64}, {32, 0}, Swizzle::k64Bytes});
  test_box<2>({{200, 64}, {64, 64}, {32, 0}, Swizzle::k128Bytes});
  test_box<3>({{64, 16, 3}, {64, 8, 3}, {0, 8, 0}, Swizzle::k128Bytes});
}

DEVICE_TEST(90, "boxes that reach over every edge") {
  test_box<1>({{100}, {64}, {90}, Swizzle::kNone});
  test_box<1>({{100}, {64}, {-30}, Swizzle::kNone});
  test_box<2>({{70, 33}, {64, 32}, {64, 16}, Swizzle::k128Bytes});
  test_box<2>({{70, 33}, {64, 32}, {-10, -5}, Swizzle::k128Bytes});
  test_box<2>({{70, 33}, {64, 32}, {128, 64}, Swizzle::k128Bytes});
  test_box<3>({{24, 5, 4}, {32, 8, 8}, {-1, -1, -1}, Swizzle::k64Bytes});
}

DEVICE_TEST(90, "tensor maps that no device takes") {
  DeviceArray<uint16_t> data(std::vector<uint16_t>(64 * 64, 1));
  TensorMapDesc good;
  good.data = data.data;
  good.extents[0] = good.extents[1] = 64;
  good.byte_strides[1] = 128;
  good.box[0] = 64;
  good.box[1] = 32;
  good.swizzle = Swizzle::k128Bytes;
  TensorMap map;
  EXPECT_EQ(api::encode_tensor_map(&map, good), api::kSuccess);
  const auto refused = [&](const auto& change) {
    TensorMapDesc bad = good;
    change(bad);
    EXPECT_EQ(api::encode_tensor_map(&map, bad), api::kInvalidValue);
  };
  refused([&](TensorMapDesc& desc) { desc.data = data.data + 1; });
  refused([](TensorMapDesc& desc) { desc.byte_strides[1] = 136; });
  refused([](TensorMapDesc& desc) { desc.box[1] = 257; });
  refused([](TensorMapDesc& desc) { desc.box[0] = 60; });
  refused([](TensorMapDesc& desc) { desc.extents[0] = 0; });
  refused([](TensorMapDesc& desc) { desc.swizzle = Swizzle::k64Bytes; });
  refused([](TensorMapDesc& desc) { desc.rank = 6; });
}

// ---- Copies without a tensor ----

// A ring of two slots: one thread copies, the others add up, the sums go back in bulk.
__global__ void ring_kernel(const float* from, float* out, int rounds) {
#if MIXPREC_HAS_SM90
  constexpr int kFloats = 256;
  MIXPREC_SHARED(slots, float[2][kFloats]);
  MIXPREC_SHARED(sums, float[kFloats]);
  MIXPREC_SHARED(barriers, uint64_t[4]);
  const uint32_t full = ptx::shared_address(&barriers[0]);
  const uint32_t empty = ptx::shared_address(&barriers[2]);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    for (uint32_t i = 0; i < 2; ++i) {
      ptx::mbarrier_init(full + i * 8, 1);
      ptx::mbarrier_init(empty + i * 8, kFloats);
    }
    ptx::fence_mbarrier_init();
  }
  ptx::sync_threads();
  if (thread >= kFloats) {  // the copying warp
    if (ptx::elect_one()) {
      for (int round = 0; round < rounds; ++round) {
        const auto slot = static_cast<uint32_t>(round % 2);
        ptx::mbarrier_wait(empty + slot * 8, static_cast<uint32_t>(round / 2 % 2 ^ 1));
        ptx::mbarrier_expect_tx(full + slot * 8, kFloats * 4);
        ptx::bulk_load(ptx::shared_address(&slots[slot][0]), from + round * kFloats, kFloats * 4,
                       full + slot * 8);
        ptx::mbarrier_arrive(full + slot * 8);
      }
    }
    return;
  }
  float sum = 0;
  for (int round = 0; round < rounds; ++round) {
    const auto slot = static_cast<uint32_t>(round % 2);
    const auto parity = static_cast<uint32_t>(round / 2 % 2);
    while (!ptx::mbarrier_try_wait(full + slot * 8, parity)) {
    }
    sum += slots[slot][kFloats - 1 - thread];
    ptx::mbarrier_arrive(empty + slot * 8);
  }
  ptx::st_shared<float>(ptx::shared_address(&sums[thread]), sum);
  ptx::fence_proxy_async();
  ptx::named_barrier_sync(1, kFloats);
  if (thread == 0) {
    ptx::bulk_store(out, ptx::shared_address(&sums[0]), kFloats * 4);
    ptx::bulk_commit_group();
    ptx::bulk_wait_group<0>();
    ptx::st(out + kFloats, ptx::ld(out));
  }
#endif
}

DEVICE_TEST(90, "bulk copies through a ring of mbarriers") {
  each_order([] {
    constexpr int kRounds = 7;
    DeviceArray<float> from(ramp(256 * kRounds));
    DeviceArray<float> out(257);
    launch<ring_kernel>(config(1, 288), from.data, out.data, kRounds);
    const std::vector<float> result = out.read();
    for (int i = 0; i < 256; ++i) {
      float sum = 0;
      for (int round = 0; round < kRounds; ++round)
        sum += static_cast<float>(round * 256 + 255 - i);
      EXPECT_EQ(result[static_cast<size_t>(i)], sum);
    }
    EXPECT_EQ(result[256], result[0]);
    expect_healthy();
  });
}

// cp.async that arrives at an mbarrier by itself.
__global__ void arriving_copies_kernel(const float* from, float* out) {
#if MIXPREC_HAS_SM90
  MIXPREC_SHARED(tile, float[128]);
  MIXPREC_SHARED(barrier, uint64_t);
  const uint32_t mbarrier = ptx::shared_address(&barrier);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) ptx::mbarrier_init(mbarrier, 64);
  ptx::sync_threads();
  if (thread < 64) {
    ptx::cp_async<4>(ptx::shared_address(&tile[thread]), from + thread);
    ptx::cp_async<4>(ptx::shared_address(&tile[64 + thread]), from + 64 + thread);
    ptx::cp_async_mbarrier_arrive(mbarrier);
  } else {
    ptx::mbarrier_wait(mbarrier, 0);
    ptx::st(out + thread - 64, tile[127 - (thread - 64)]);
  }
#endif
}

DEVICE_TEST(90, "cp.async arrives at an mbarrier") {
  each_order([] {
    DeviceArray<float> from(ramp(128));
    DeviceArray<float> out(64);
    launch<arriving_copies_kernel>(config(1, 128), from.data, out.data);
    const std::vector<float> result = out.read();
    for (size_t i = 0; i < 64; ++i) EXPECT_EQ(result[i], 127.0f - static_cast<float>(i));
    expect_healthy();
  });
}

// ---- Clusters ----

// Every block loads its quarter of a tile into all blocks; each then sums the whole, tells the next
// block the sum, and arrives at that one's mbarrier.
__global__ void cluster_kernel(MIXPREC_GRID_CONSTANT(TensorMap) map, float* out) {
#if MIXPREC_HAS_SM90
  MIXPREC_DYNAMIC_SHARED(memory);
  MIXPREC_SHARED(barriers, uint64_t[2]);
  MIXPREC_SHARED(mail, float[1]);
  const uint32_t full = ptx::shared_address(&barriers[0]);
  const uint32_t told = ptx::shared_address(&barriers[1]);
  const uint32_t rank = ptx::cluster_rank();
  const uint32_t size = ptx::cluster_size();
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(full, 1);
    ptx::mbarrier_init(told, 1);
    ptx::fence_mbarrier_init();
  }
  ptx::cluster_sync();
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect_tx(full, size * 8 * 128);
    ptx::tensor_load_multicast(ptx::shared_address(memory) + rank * 1024, map, full,
                               static_cast<uint16_t>((1u << size) - 1), 0,
                               static_cast<int>(blockIdx.y * size * 8 + rank * 8));
  }
  ptx::mbarrier_wait(full, 0);
  const auto* const tile = reinterpret_cast<const float*>(memory);
  if (threadIdx.x == 0) {
    float sum = 0;
    for (uint32_t i = 0; i < size * 256; ++i) sum += tile[i];
    const uint32_t next = (rank + 1) % size;
    ptx::st_shared_cluster<float>(ptx::map_shared(ptx::shared_address(&mail[0]), next),
                                  sum + static_cast<float>(rank));
    ptx::mbarrier_arrive_cluster(ptx::map_shared(told, next));
    ptx::mbarrier_wait(told, 0);
    ptx::st(out + blockIdx.y * size + rank, mail[0]);
  }
  // No block ends while another may still reach into its shared memory.
  ptx::cluster_sync();
#endif
}

DEVICE_TEST(90, "multicast and mail between the blocks of clusters") {
  each_order([] {
    constexpr int kBlocks = 4;
    constexpr int kClusters = 3;
    DeviceArray<float> from(ramp(32 * 8 * kBlocks * kClusters));
    DeviceArray<float> out(kBlocks * kClusters);
    TensorMapDesc desc;
    desc.dtype = DType::kFloat32;
    desc.data = from.data;
    desc.extents[0] = 32;
    desc.extents[1] = 8 * kBlocks * kClusters;
    desc.byte_strides[1] = 128;
    desc.box[0] = 32;
    desc.box[1] = 8;
    TensorMap map;
    EXPECT_EQ(api::encode_tensor_map(&map, desc), api::kSuccess);
    launch<cluster_kernel>(config(Dim3(kBlocks, kClusters), 64, 1024 * kBlocks, Dim3(kBlocks)), map,
                           out.data);
    const std::vector<float> result = out.read();
    for (int cluster = 0; cluster < kClusters; ++cluster) {
      float sum = 0;
      for (int i = 0; i < 256 * kBlocks; ++i) {
        sum += static_cast<float>(cluster * 256 * kBlocks + i);
      }
      for (int rank = 0; rank < kBlocks; ++rank) {
        const auto sender = static_cast<float>((rank + kBlocks - 1) % kBlocks);
        EXPECT_EQ(result[static_cast<size_t>(cluster * kBlocks + rank)], sum + sender);
      }
    }
    expect_healthy();
  });
}

}  // namespace
