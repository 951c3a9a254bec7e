// Products of float32: rounded to TF32, or in three planes of bfloat16.
#include <atomic>
#include <cmath>

#include "cuda/runtime/error.h"
#include "cuda/tensors.h"
#include "wgmma_instances.h"

namespace mixprec::cuda {
namespace {

constexpr int kProbes = 8;

// One bulk copy from one end to the other.
__global__ void __launch_bounds__(kWarpLanes)
    copy_as_tf32(MIXPREC_GRID_CONSTANT(TensorMap) from, float* to) {
#if MIXPREC_HAS_SM90A
  using Box = float[kWarpLanes];
  MIXPREC_DYNAMIC_SHARED(memory);
  const uint32_t box = ptx::shared_address(memory);
  const uint32_t full = box + sizeof(Box);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(full, 1);
    ptx::fence_mbarrier_init();
    ptx::fence_proxy_async();
    ptx::mbarrier_arrive_expect_tx(full, kProbes * 4);
    ptx::tensor_load(box, from, full, 0, 0);
  }
  ptx::sync_warp();
  ptx::mbarrier_wait(full, 0);
  if (threadIdx.x < kProbes)
    ptx::st(to + threadIdx.x, ptx::ld_shared<float>(box + threadIdx.x * 4));
#endif
}

// Numbers close to the middle between two of TF32 come back as the nearer one.
bool try_rounding(CudaBackend& backend) {
  constexpr float kHalf = 0x1p-11f;
  const float numbers[kProbes] = {
      1 + kHalf * 1.5f, 1 + kHalf * 0.5f, -1 - kHalf * 1.5f, 3 + kHalf * 3,
      1 + kHalf,        1 + kHalf * 3,    0x1.ffffep-100f,   1e30f};
  const Scratch memory(backend, 2 * sizeof(numbers));
  auto* const data = memory.as<float>();
  backend.copy_from_host(data, numbers, sizeof(numbers));
  TensorMapDesc desc;
  desc.dtype = DType::kFloat32;
  desc.as_tf32 = true;
  desc.data = data;
  desc.extents[0] = desc.box[0] = kProbes;
  desc.extents[1] = desc.box[1] = 1;
  desc.byte_strides[1] = sizeof(numbers);
  TensorMap map;
  require(api::encode_tensor_map(&map, desc), "describing numbers to the bulk copies");
  launch<copy_as_tf32>(backend.grid(1, kWarpLanes, kWarpLanes * 4 + 8), map, data + kProbes);
  float copied[kProbes];
  backend.copy_to_host(copied, data + kProbes, sizeof(copied));
  bool rounds = true;
  for (int i = 0; i < kProbes; ++i) {
    const float unit = std::ldexp(1.0f, std::ilogb(numbers[i]) - 10);
    rounds = rounds && std::abs(copied[i] - numbers[i]) <= unit / 2 &&
             (float_bits(copied[i]) & 0x1fff) == 0;
  }
  return rounds;
}

}  // namespace

bool tensor_maps_round_to_tf32(CudaBackend& backend) {
  constexpr int kMostDevices = 64;
  static std::atomic<int8_t> known[kMostDevices];  // 0: not yet, 1: no, 2: yes
  if (backend.device() >= kMostDevices) return false;
  std::atomic<int8_t>& answer = known[backend.device()];
  if (answer.load(std::memory_order_relaxed) == 0) {
    if (backend.captures()) return false;  // nothing can be waited for
    answer.store(try_rounding(backend) ? 2 : 1, std::memory_order_relaxed);
  }
  return answer.load(std::memory_order_relaxed) == 2;
}

void wgmma_tf32(const WgmmaLaunch& launch, WgmmaArgs<float>& args) {
  launch_tile<Tf32, Major::kK, Major::kK>(launch, args);
}

void wgmma_planes(const WgmmaLaunch& launch, WgmmaArgs<float>& args) {
  launch_variant<BFloat16, Major::kK, Major::kK, kWgmmaPlanesTile, kPlaneCount>(launch, args);
}

}  // namespace mixprec::cuda
