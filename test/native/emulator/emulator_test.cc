// The emulator itself: what threads of a block do together, and that it reports every fault planted
// in a kernel, with the kernel's name. Built in the emulated build only.
#include "cuda/kernels/reduce_block.h"
#include "cuda/ptx/atomic.h"
#include "cuda/ptx/barrier.h"
#include "cuda/ptx/memory.h"
#include "cuda/ptx/warp.h"
#include "device_testing.h"

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::cuda::testing;

namespace {

// ---- What works ----

__global__ void scale_kernel(float* data, int count, float factor) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) ptx::st(data + i, ptx::ld(data + i) * factor);
}

TEST("a kernel without barriers runs over blocks and threads") {
  DeviceArray<float> x(ramp(1000));
  launch<scale_kernel>(config(4, 256), x.data, 1000, 3.0f);
  const std::vector<float> result = x.read();
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(result[i], 3.0f * i);
  expect_healthy();
}

template <int kThreads>
__global__ void sum_kernel(const float* data, float* out) {
  const float value = ptx::ld(data + blockIdx.x * kThreads + threadIdx.x);
  const float sum = block_reduce<kThreads>(value, 0.0f, AddCombine());
  const float most = block_reduce<kThreads>(value, 0.0f, MaxCombine());
  if (threadIdx.x == kThreads - 1) ptx::st(out + blockIdx.x, sum + most);
}

TEST("block reductions reach every thread, one after the other") {
  DeviceArray<float> x(ramp(1024));
  DeviceArray<float> out(4);
  launch<sum_kernel<256>>(config(4, 256), x.data, out.data);
  const std::vector<float> result = out.read();
  for (int b = 0; b < 4; ++b) {
    const float first = 256.0f * b;
    EXPECT_EQ(result[b], 256.0f * first + 255.0f * 128.0f + first + 255.0f);
  }
  expect_healthy();
}

__global__ void warp_kernel(int* out) {
  const int lane = static_cast<int>(ptx::lane_id());
  int* mine = out + lane * 8;
  ptx::st(mine + 0, ptx::shuffle_xor(lane, 5));
  ptx::st(mine + 1, ptx::shuffle_up(lane, 3));
  ptx::st(mine + 2, ptx::shuffle_down(lane, 3, kFullMask, 16));
  ptx::st(mine + 3, ptx::shuffle(lane, 9, kFullMask, 8));
  ptx::st(mine + 4, static_cast<int>(ptx::ballot(lane % 3 == 0)));
  // Halves of a warp, each with its own mask, in opposite order.
  const uint32_t half = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  ptx::st(mine + 5, static_cast<int>(ptx::ballot(true, half)));
  ptx::st(mine + 6, ptx::any(lane == 31) ? 1 : 0);
  ptx::st(mine + 7, ptx::all(lane == 31) ? 1 : 0);
}

TEST("shuffles and votes") {
  DeviceArray<int> out(256);
  launch<warp_kernel>(config(1, 32), out.data);
  const std::vector<int> result = out.read();
  uint32_t thirds = 0;
  for (int lane = 0; lane < 32; lane += 3) thirds |= 1u << lane;
  for (int lane = 0; lane < 32; ++lane) {
    const int* mine = &result[lane * 8];
    EXPECT_EQ(mine[0], lane ^ 5);
    EXPECT_EQ(mine[1], lane < 3 ? lane : lane - 3);
    EXPECT_EQ(mine[2], lane % 16 + 3 < 16 ? lane + 3 : lane);
    EXPECT_EQ(mine[3], lane / 8 * 8 + 1);
    EXPECT_EQ(static_cast<uint32_t>(mine[4]), thirds);
    EXPECT_EQ(static_cast<uint32_t>(mine[5]), lane < 16 ? 0x0000ffffu : 0xffff0000u);
    EXPECT_EQ(mine[6], 1);
    EXPECT_EQ(mine[7], 0);
  }
  expect_healthy();
}

__global__ void producer_kernel(int* out) {
  MIXPREC_SHARED(slot, int[32]);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x < 32) {  // the producer
    for (int step = 0; step < 4; ++step) {
      ptx::named_barrier_sync(2, 64);  // the slot is empty
      slot[lane] = step * 100 + lane;
      ptx::named_barrier_arrive(1, 64);  // the slot is full
    }
  } else {
    int sum = 0;
    ptx::named_barrier_arrive(2, 64);
    for (int step = 0; step < 4; ++step) {
      ptx::named_barrier_sync(1, 64);
      sum += slot[31 - lane];
      if (step < 3) ptx::named_barrier_arrive(2, 64);
    }
    ptx::st(out + lane, sum);
  }
}

TEST("named barriers between a producing and a consuming warp") {
  DeviceArray<int> out(32);
  launch<producer_kernel>(config(1, 64), out.data);
  const std::vector<int> result = out.read();
  for (int lane = 0; lane < 32; ++lane) EXPECT_EQ(result[lane], 600 + 4 * (31 - lane));
  expect_healthy();
}

// Blocks in a chain: each waits for the one after it, so that they have to be under way together.
__global__ void chain_kernel(uint32_t* flags, int count) {
  const int block = static_cast<int>(blockIdx.x);
  if (threadIdx.x == 0) {
    if (block + 1 < count) {
      while (ptx::atomic_add(flags + block + 1, 0) == 0) ptx::poll_pause();
    }
    ptx::atomic_exchange(flags + block, 1);
  }
  ptx::sync_threads();
}

TEST("blocks that wait for later blocks are run together") {
  DeviceArray<uint32_t> flags(std::vector<uint32_t>(20, 0));
  launch<chain_kernel>(config(20, 64), flags.data, 20);
  for (const uint32_t flag : flags.read()) EXPECT_EQ(flag, 1u);
  expect_healthy();
}

__global__ void dynamic_kernel(float* out, int count) {
  MIXPREC_DYNAMIC_SHARED(memory);
  float* const values = reinterpret_cast<float*>(memory);
  const int i = static_cast<int>(threadIdx.x);
  values[i] = static_cast<float>(i);
  ptx::sync_threads();
  ptx::st(out + i, values[count - 1 - i]);
}

TEST("dynamic shared memory") {
  DeviceArray<float> out(128);
  launch<dynamic_kernel>(config(1, 128, 512), out.data, 128);
  const std::vector<float> result = out.read();
  for (int i = 0; i < 128; ++i) EXPECT_EQ(result[i], 127.0f - i);
  expect_healthy();
}

// ---- Planted faults ----

TEST("off by one at a ragged edge is out of bounds") {
  DeviceArray<float> x(ramp(1000));
  attempt<scale_kernel>(config(4, 256), x.data, 1001, 3.0f);
  const std::string report = report_of(api::kIllegalAddress);
  expect_in(report,
            "out of bounds: read of 4 bytes, 0 bytes after the end of a block of 4000 bytes");
  expect_in(report, "scale_kernel, block (3, 0, 0), thread (232, 0, 0) (warp 7, lane 8)");
}

TEST("a read before the beginning") {
  DeviceArray<float> x(ramp(64));
  attempt<scale_kernel>(config(1, 64), x.data - 1, 64, 3.0f);
  expect_in(report_of(api::kIllegalAddress), "4 bytes before a block of 256 bytes");
}

TEST("a read of memory that nobody wrote") {
  DeviceArray<float> x(64);
  attempt<scale_kernel>(config(1, 64), x.data, 64, 3.0f);
  expect_in(report_of(api::kLaunchFailure), "memory that nobody wrote: read of 4 bytes, byte ");
}

TEST("use after free") {
  float* freed = nullptr;
  {
    DeviceArray<float> x(ramp(64));
    freed = x.data;
  }
  attempt<scale_kernel>(config(1, 64), freed, 64, 3.0f);
  expect_in(report_of(api::kIllegalAddress), "of a freed block of 256 bytes in");
}

__global__ void misaligned_kernel(float* data) {
  ptx::st_pack<4>(data + 1, Pack<float, 4>{{1, 2, 3, 4}});
}

TEST("a misaligned vector access") {
  DeviceArray<float> x(ramp(64));
  attempt<misaligned_kernel>(config(1, 1), x.data);
  expect_in(report_of(api::kMisalignedAddress), "misaligned write of 16 bytes, byte 4 of a block");
}

__global__ void raw_store_kernel(float* data, int at) { data[at] = 1.0f; }

TEST("a raw store past either end is found in the guard") {
  for (const int at : {66, -2}) {
    {
      DeviceArray<float> x(ramp(64));
      attempt<raw_store_kernel>(config(1, 1), x.data, at);
      const std::string report = report_of(api::kIllegalAddress);
      expect_in(report, "a write outside of byte 0 of a block of 256 bytes was found after");
      expect_in(report, "raw_store_kernel");
    }
    expect_in(report_of(api::kIllegalAddress), "was found when it was freed");
  }
}

// Each thread passes its value to the left through shared memory.
template <bool kBarrier>
__global__ void neighbour_kernel(float* out) {
  MIXPREC_SHARED(values, float[128]);
  const int i = static_cast<int>(threadIdx.x);
  values[i] = static_cast<float>(i);
  if constexpr (kBarrier) ptx::sync_threads();
  ptx::st(out + i, values[(i + 1) % 128]);
}

TEST("a missing barrier shows as NaN") {
  DeviceArray<float> out(128);
  launch<neighbour_kernel<true>>(config(1, 128), out.data);
  for (int i = 0; i < 128; ++i) EXPECT_EQ(out.read()[i], static_cast<float>((i + 1) % 128));
  launch<neighbour_kernel<false>>(config(1, 128), out.data);
  int poisoned = 0;
  for (const float value : out.read()) poisoned += std::isnan(value) ? 1 : 0;
  EXPECT(poisoned > 0, "no thread saw that its neighbour had not written");
  expect_healthy();
}

__global__ void divergent_barrier_kernel(int* out) {
  if (threadIdx.x < 32) ptx::named_barrier_sync(3, 64);
  ptx::sync_threads();
  ptx::st(out, 1);
}

TEST("a barrier that not all reach is a deadlock") {
  DeviceArray<int> out(1);
  attempt<divergent_barrier_kernel>(config(1, 64), out.data);
  const std::string report = report_of(api::kLaunchTimeout);
  expect_in(report, "deadlock in");
  expect_in(report, "divergent_barrier_kernel");
  expect_in(report, "barrier 0 has 32 of 64");
  expect_in(report, "barrier 3 has 32 of 64");
}

__global__ void endless_kernel(uint32_t* flag) {
  while (ptx::atomic_add(flag, 0) == 0) ptx::poll_pause();
}

TEST("waiting for what nobody does is a deadlock") {
  DeviceArray<uint32_t> flag(std::vector<uint32_t>(1, 0));
  attempt<endless_kernel>(config(1, 32), flag.data);
  expect_in(report_of(api::kLaunchTimeout), "threads still waiting: warp 0 (32)");
}

__global__ void mixed_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const uint32_t seen = lane < 16 ? ptx::ballot(true) : ptx::shuffle(1u, 0);
  ptx::st(out + lane, static_cast<int>(seen));
}

TEST("lanes in different instructions of a warp") {
  DeviceArray<int> out(32);
  attempt<mixed_kernel>(config(1, 32), out.data);
  expect_in(report_of(api::kLaunchFailure), "different instructions");
}

__global__ void shared_overflow_kernel(float* out) {
  MIXPREC_SHARED(values, float[16]);
  float* const raw = values;
  for (int i = 0; i <= 16; ++i) raw[i] = 0.0f;
  ptx::st(out, raw[15]);
}

TEST("a write past the end of a shared variable") {
  DeviceArray<float> out(1);
  attempt<shared_overflow_kernel>(config(1, 1), out.data);
  expect_in(report_of(api::kIllegalAddress), "shared memory went past the end");
}

TEST("an error sticks, and stops what follows") {
  DeviceArray<float> x(ramp(64));
  attempt<scale_kernel>(config(2, 64), x.data, 65, 2.0f);
  EXPECT_EQ(api::synchronize_stream(stream()), api::kIllegalAddress);
  EXPECT_EQ(api::last_error(), api::kIllegalAddress);
  bool thrown = false;
  try {
    launch<scale_kernel>(config(1, 64), x.data, 64, 2.0f);
  } catch (const Error& error) {
    thrown = error.code() == ErrorCode::kDevice;
    expect_in(error.what(), "out of bounds");
    expect_in(error.what(), "restart");
  }
  EXPECT(thrown, "the launch did not throw");
  report_of(api::kIllegalAddress);
}

TEST("a launch that no device takes") {
  DeviceArray<float> x(ramp(64));
  bool thrown = false;
  try {
    launch<scale_kernel>(config(1, 2048), x.data, 64, 2.0f);
  } catch (const Error& error) {
    thrown = true;
    expect_in(error.what(), "invalid launch configuration");
  }
  EXPECT(thrown, "the launch did not throw");
  expect_healthy();
}

}  // namespace
