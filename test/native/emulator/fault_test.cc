// Faults planted in the products of gemm_kernels.h and in small kernels: the emulator has to report
// each of them, or it shows in the result.
#include "gemm_testing.h"

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::cuda::testing;

namespace {

// How far the result is off, relative to the largest number in it; infinite where it has NaN.
double error_of(const GemmOperands& x, const std::vector<float>& c) {
  double worst = 0;
  double largest = 0;
  for (int row = 0; row < x.m; ++row) {
    for (int column = 0; column < x.n; ++column) {
      double sum = 0;
      for (int i = 0; i < x.k; ++i) {
        sum += number(x.a_values[static_cast<size_t>(row * x.k + i)]) *
               number(x.b_values[static_cast<size_t>(column * x.k + i)]);
      }
      const double got = c[static_cast<size_t>(row * x.n + column)];
      if (std::isnan(got)) return std::numeric_limits<double>::infinity();
      worst = std::max(worst, std::abs(got - sum));
      largest = std::max(largest, std::abs(sum));
    }
  }
  return worst / largest;
}

template <Fault kFault>
void expect_report_sm80(api::Code code, const std::string& part) {
  const GemmOperands operands(65, 63, 264);
  run_sm80<kFault>(operands);
  const std::string report = report_of(code);
  expect_in(report, part);
  expect_in(report, "gemm_sm80");
}

template <Fault kFault, uint32_t kCluster = 1>
void expect_report_sm90(api::Code code, const std::string& part) {
  const GemmOperands operands(128, 72, 456);
  run_sm90<kFault, kCluster>(operands);
  const std::string report = report_of(code);
  expect_in(report, part);
  expect_in(report, "gemm_sm90");
}

TEST("cp.async without a wait, or one that waits for too little") {
  expect_report_sm80<Fault::kNoCopyWait>(api::kLaunchFailure,
                                         "to which a copy is still under way: a wait is missing");
  expect_report_sm80<Fault::kOneGroupTooFew>(
      api::kLaunchFailure, "to which a copy is still under way: a wait is missing");
}

TEST("a barrier missing before other threads' copies are read") {
  expect_report_sm80<Fault::kNoBarrier>(api::kLaunchFailure,
                                        "to which a copy is still under way: a wait is missing");
}

TEST("a barrier missing before a slot is copied to again") {
  // Whether a warp runs ahead depends on the order, so several are tried.
  int found = 0;
  each_order([&] {
    const GemmOperands operands(64, 64, 264);
    const std::vector<float> c = run_sm80<Fault::kSlotReused>(operands);
    found += c.empty() || error_of(operands, c) > 1e-3 ? 1 : 0;
    emulator::revive();
  });
  EXPECT(found > 0, "no order of threads showed it");
}

TEST("off by one at the ragged edges") {
  expect_report_sm80<Fault::kLoadPastEdge>(api::kIllegalAddress,
                                           "cp.async touches memory that is not allocated");
  expect_report_sm80<Fault::kStorePastEdge>(api::kIllegalAddress,
                                            "out of bounds: write of 4 bytes");
}

TEST("rows that ldmatrix does not take") {
  expect_report_sm80<Fault::kMisalignedRow>(api::kMisalignedAddress, "misaligned cp.async");
}

TEST("consumers that do not wait for a full slot") {
  expect_report_sm90<Fault::kNoFullWait>(api::kLaunchFailure, "wgmma, operand A");
}

TEST("a producer that does not wait for an empty slot") {
  expect_report_sm90<Fault::kNoEmptyWait>(api::kLaunchFailure, "more arrivals than the 1 that");
}

TEST("consumers that do not give slots back") {
  const auto report = [] {
    const GemmOperands operands(64, 64, 456);
    run_sm90<Fault::kNoEmptyArrive, 1>(operands);
    return report_of(api::kLaunchTimeout);
  }();
  expect_in(report, "deadlock in");
  expect_in(report, "threads still waiting: warp 0 (1) warp 4 (32) warp 5 (32) warp 6 (32)");
  expect_in(report, "waiting: warp 0 for the mbarrier that lies at shared byte ");
  expect_in(report, "waiting: warp 4 5 6 7 for the mbarrier that lies at shared byte ");
  expect_in(report, "0 of 1 arrivals, 0 bytes outstanding");
}

TEST("expected bytes that are not those of the copies") {
  expect_report_sm90<Fault::kMoreBytes>(api::kLaunchTimeout,
                                        "1 of 1 arrivals, 8192 bytes outstanding");
  expect_report_sm90<Fault::kFewerBytes>(api::kLaunchFailure, "to which a copy is still under way");
}

TEST("a descriptor with another swizzle, or another stride") {
  const GemmOperands operands(64, 64, 256);
  EXPECT(error_of(operands, run_sm90<Fault::kNone, 1>(operands)) < 0.01, "the plain kernel is off");
  const double error = error_of(operands, run_sm90<Fault::kNone, 1>(operands, Swizzle::kNone));
  EXPECT(error > 0.1, "the result is off by no more than " + std::to_string(error));
  run_sm90<Fault::kWrongSwizzle, 1>(operands);
  expect_in(report_of(api::kLaunchFailure), "misaligned descriptor");
  const double stride = error_of(operands, run_sm90<Fault::kWrongStride, 1>(operands));
  EXPECT(stride > 0.1, "the result is off by no more than " + std::to_string(stride));
}

TEST("a tile that does not begin with the swizzle's pattern") {
  expect_report_sm90<Fault::kMisalignedTile>(
      api::kLaunchFailure, "misaligned descriptor: the tile does not begin where");
}

TEST("wgmma without its fence or its wait") {
  expect_report_sm90<Fault::kNoWgmmaFence>(api::kLaunchFailure, "without wgmma_fence");
  expect_report_sm90<Fault::kNoWgmmaWait>(api::kLaunchFailure,
                                          "a thread ended while its wgmma was under way");
}

TEST("fences between threads and copies") {
  expect_report_sm90<Fault::kNoInitFence>(api::kLaunchFailure, "without fence_mbarrier_init");
  expect_report_sm90<Fault::kNoProxyFence>(api::kLaunchFailure,
                                           "stored without fence_proxy_async after it");
}

TEST("a block that ends too early") {
  expect_report_sm90<Fault::kNoStoreWait>(api::kLaunchFailure, "bulk_wait_group_read is missing");
  const GemmOperands operands(128, 64, 456);
  int found = 0;
  each_order([&] {
    found += run_sm90<Fault::kNoClusterSync, 2>(operands).empty() ? 1 : 0;
    emulator::revive();
  });
  EXPECT(found > 0, "no order of threads showed that a block ended too early");
}

// ---- Small kernels ----

enum class Misuse {
  kUninitialized,
  kOverwritten,
  kTooManyArrivals,
  kUnalignedCopy,
  kUnalignedBox,
  kOtherRank,
  kClusterWaitFirst,
  kNoBlock,
  kOutOfShared,
  kPastParity,
  kBytesLeft,
};

template <Misuse kMisuse>
__global__ void misuse_kernel(MIXPREC_GRID_CONSTANT(TensorMap) map, const float* data) {
  MIXPREC_DYNAMIC_SHARED(memory);
  MIXPREC_SHARED(barrier, uint64_t);
  const uint32_t mbarrier = ptx::shared_address(&barrier);
  const uint32_t tile = ptx::shared_address(memory);
  if constexpr (kMisuse != Misuse::kUninitialized) {
    ptx::mbarrier_init(mbarrier, 1);
    ptx::fence_mbarrier_init();
  }
  if constexpr (kMisuse == Misuse::kOverwritten) barrier = 0;
  switch (kMisuse) {
    case Misuse::kUninitialized:
    case Misuse::kOverwritten:
      return ptx::mbarrier_arrive(mbarrier);
    case Misuse::kTooManyArrivals:
      ptx::mbarrier_arrive_expect_tx(mbarrier, 16);
      return ptx::mbarrier_arrive(mbarrier);
    case Misuse::kUnalignedCopy:
      return ptx::bulk_load(tile, data + 1, 64, mbarrier);
    case Misuse::kUnalignedBox:
      return ptx::tensor_load(tile + 64, map, mbarrier, 0, 0);
    case Misuse::kOtherRank:
      return ptx::tensor_load(tile, map, mbarrier, 0, 0, 0);
    case Misuse::kClusterWaitFirst:
      return ptx::cluster_wait();
    case Misuse::kNoBlock:
      return ptx::mbarrier_arrive_cluster(ptx::map_shared(mbarrier, 3));
    case Misuse::kOutOfShared:
      return ptx::st_shared<float>(tile + 65536, 1.0f);
    case Misuse::kPastParity:
      return ptx::mbarrier_wait(mbarrier, 2);
    case Misuse::kBytesLeft:
      return ptx::mbarrier_expect_tx(mbarrier, 16);
  }
}

template <Misuse kMisuse>
void expect_misuse(api::Code code, const std::string& part) {
  DeviceArray<float> data(ramp(64 * 32));
  TensorMapDesc desc;
  desc.dtype = DType::kFloat32;
  desc.data = data.data;
  desc.extents[0] = desc.box[0] = 64;
  desc.extents[1] = desc.box[1] = 16;
  desc.byte_strides[1] = 256;
  TensorMap map;
  EXPECT_EQ(api::encode_tensor_map(&map, desc), api::kSuccess);
  attempt<misuse_kernel<kMisuse>>(config(1, 1, 8192), map, data.data);
  expect_in(report_of(code), part);
}

TEST("misused mbarriers, copies and clusters") {
  expect_misuse<Misuse::kUninitialized>(api::kLaunchFailure, "is no mbarrier");
  expect_misuse<Misuse::kOverwritten>(api::kLaunchFailure, "is no mbarrier");
  expect_misuse<Misuse::kTooManyArrivals>(api::kLaunchFailure, "more arrivals than the 1");
  expect_misuse<Misuse::kUnalignedCopy>(api::kMisalignedAddress, "multiples of 16");
  expect_misuse<Misuse::kUnalignedBox>(api::kMisalignedAddress, "is not aligned to 128");
  expect_misuse<Misuse::kOtherRank>(api::kLaunchFailure, "with 3 coordinates");
  expect_misuse<Misuse::kClusterWaitFirst>(api::kLaunchFailure, "barrier.cluster.wait without");
  expect_misuse<Misuse::kNoBlock>(api::kIllegalAddress, "the cluster has no block 3");
  expect_misuse<Misuse::kOutOfShared>(api::kIllegalAddress, "out of bounds: shared byte 65536");
  expect_misuse<Misuse::kPastParity>(api::kLaunchFailure, "0 or 1, not 2");
  expect_misuse<Misuse::kBytesLeft>(api::kLaunchFailure, "expected and copied bytes differ");
}

template <bool kWait>
__global__ void plain_read_kernel(const float* from, float* out) {
  MIXPREC_SHARED(tile, float[128]);
  const int i = static_cast<int>(threadIdx.x);
  tile[i] = 1.0f;
  ptx::cp_async<4>(ptx::shared_address(&tile[i]), from + i);
  if constexpr (kWait) ptx::cp_async_wait_all();
  ptx::sync_threads();
  ptx::st(out + i, tile[127 - i]);
}

TEST("a plain read of what is still on its way is NaN") {
  DeviceArray<float> from(ramp(128));
  DeviceArray<float> out(128);
  launch<plain_read_kernel<true>>(config(1, 128), from.data, out.data);
  EXPECT_EQ(out.read()[0], 127.0f);
  launch<plain_read_kernel<false>>(config(1, 128), from.data, out.data);
  for (const float value : out.read()) EXPECT(std::isnan(value), std::to_string(value));
  expect_healthy();
}

TEST("a grid that no cluster divides") {
  DeviceArray<float> data(ramp(4));
  bool thrown = false;
  try {
    launch<misuse_kernel<Misuse::kUninitialized>>(config(3, 1, 8192, Dim3(2)), TensorMap(),
                                                  data.data);
  } catch (const Error& error) {
    thrown = true;
    expect_in(error.what(), "invalid launch configuration");
  }
  EXPECT(thrown, "the launch did not throw");
  expect_healthy();
}

}  // namespace
