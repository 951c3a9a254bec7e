// The caching allocator: alignment, statistics, reuse, giving memory back, refusals, threads.
#include "cpu/allocator.h"

#include <set>
#include <thread>

#include "testing.h"

using namespace mixprec;
using namespace mixprec::testing;
using cpu::CachingAllocator;

namespace {

// A counter of what an allocator says it holds, which must come back to 0.
bool is_empty(const CachingAllocator& allocator) { return allocator.stats().allocated == 0; }

TEST("blocks are aligned, apart, and at least as large as asked for") {
  CachingAllocator allocator;
  std::vector<std::pair<char*, size_t>> blocks;
  for (const size_t bytes : {0, 1, 63, 64, 65, 1000, 4096, 4097, 100000, 1 << 20}) {
    auto* data = static_cast<char*>(allocator.allocate(bytes));
    EXPECT(data != nullptr && reinterpret_cast<uintptr_t>(data) % 64 == 0, shown(bytes));
    std::memset(data, static_cast<int>(blocks.size()), bytes);
    blocks.emplace_back(data, bytes);
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    const auto [data, bytes] = blocks[i];
    const auto wrong = [&](char byte) { return byte != static_cast<char>(i); };
    EXPECT(std::none_of(data, data + bytes, wrong), "block " + shown(i) + " was overwritten");
    allocator.deallocate(data, bytes);
  }
  EXPECT(is_empty(allocator), shown(allocator.stats().allocated));
  allocator.empty_cache();
}

TEST("sizes are rounded up by at most an eighth beyond 512 bytes") {
  for (size_t bytes = 1; bytes < (size_t{1} << 24); bytes += 1 + bytes / 7) {
    CachingAllocator allocator;
    void* data = allocator.allocate(bytes);
    const size_t held = allocator.stats().allocated;
    EXPECT(held >= bytes && held <= std::max(bytes + 64, bytes + bytes / 8 + 1), shown(bytes));
    allocator.deallocate(data, bytes);
    allocator.empty_cache();
  }
}

TEST("statistics count what is held, what is cached and their peaks") {
  CachingAllocator allocator;
  constexpr size_t kBytes = 1 << 20;
  void* first = allocator.allocate(kBytes);
  void* second = allocator.allocate(kBytes);
  EXPECT_EQ(allocator.stats().allocated, 2 * kBytes);
  EXPECT_EQ(allocator.stats().reserved, 2 * kBytes);
  allocator.deallocate(first, kBytes);
  EXPECT_EQ(allocator.stats().allocated, kBytes);
  EXPECT_EQ(allocator.stats().max_allocated, 2 * kBytes);
  EXPECT_EQ(allocator.stats().reserved, 2 * kBytes);
  allocator.reset_peaks();
  EXPECT_EQ(allocator.stats().max_allocated, kBytes);
  EXPECT_EQ(allocator.stats().max_reserved, 2 * kBytes);
  allocator.empty_cache();
  EXPECT_EQ(allocator.stats().reserved, kBytes);
  EXPECT_EQ(allocator.stats().allocated, kBytes);
  allocator.reset_peaks();
  EXPECT_EQ(allocator.stats().max_reserved, kBytes);
  allocator.deallocate(second, kBytes);
  allocator.empty_cache();
  EXPECT_EQ(allocator.stats().reserved, size_t{0});
  EXPECT(is_empty(allocator), "not empty");
}

TEST("a freed block serves the next request of its size") {
  CachingAllocator allocator;
  void* data = allocator.allocate(100000);
  allocator.deallocate(data, 100000);
  // The same class of sizes, if not the same size.
  void* again = allocator.allocate(99000);
  EXPECT(again == data, "a new block was made");
  void* other = allocator.allocate(100000);
  EXPECT(other != data, "a block was given out twice");
  allocator.deallocate(again, 99000);
  allocator.deallocate(other, 100000);
  EXPECT(is_empty(allocator), "not empty");
  allocator.empty_cache();
}

TEST("a training step repeated reserves no more memory") {
  CachingAllocator allocator;
  Random random(1);
  std::vector<size_t> sizes;
  for (int i = 0; i < 300; ++i) sizes.push_back(static_cast<size_t>(random.below(1 << 16)) + 1);
  size_t after_first = 0;
  for (int step = 0; step < 20; ++step) {
    std::vector<void*> blocks;
    for (const size_t bytes : sizes) blocks.push_back(allocator.allocate(bytes));
    for (size_t i = 0; i < blocks.size(); ++i) allocator.deallocate(blocks[i], sizes[i]);
    if (step == 0) after_first = allocator.stats().reserved;
    EXPECT_EQ(allocator.stats().reserved, after_first);
  }
  allocator.empty_cache();
}

TEST("cached blocks of sizes that never return do not pile up") {
  CachingAllocator allocator;
  constexpr size_t kLive = size_t{8} << 20;
  for (size_t step = 0; step < 200; ++step) {
    const size_t bytes = kLive + step * kLive / 4;
    allocator.deallocate(allocator.allocate(bytes), bytes);
    const MemoryStats stats = allocator.stats();
    EXPECT(stats.reserved <= stats.max_allocated + stats.max_allocated / 4 + (size_t{64} << 20),
           shown(stats.reserved) + " are reserved");
  }
  allocator.empty_cache();
}

TEST("a request the system refuses is an OutOfMemory with the figures, and changes nothing") {
  CachingAllocator allocator;
  void* held = allocator.allocate(size_t{3} << 20);
  const MemoryStats before = allocator.stats();
  for (const size_t bytes : {size_t{1} << 48, ~size_t{0}, ~size_t{0} - 63}) {
    EXPECT_ERROR(ErrorCode::kOutOfMemory, "MiB", allocator.allocate(bytes));
  }
  EXPECT_EQ(allocator.stats().allocated, before.allocated);
  EXPECT_EQ(allocator.stats().max_allocated, before.max_allocated);
  EXPECT_EQ(allocator.stats().reserved, before.reserved);
  allocator.deallocate(held, size_t{3} << 20);
  allocator.deallocate(nullptr, 5);
  EXPECT(is_empty(allocator), "not empty");
  allocator.empty_cache();
}

TEST("threads share it") {
  CachingAllocator allocator;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      Random random(static_cast<uint64_t>(thread));
      for (int round = 0; round < 3000; ++round) {
        const auto bytes = static_cast<size_t>(random.below(5000)) + 4;
        auto* data = static_cast<int*>(allocator.allocate(bytes));
        *data = thread;
        std::this_thread::yield();
        if (*data != thread) ++wrong;
        allocator.deallocate(data, bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT(is_empty(allocator), "not empty");
  allocator.empty_cache();
  EXPECT_EQ(allocator.stats().reserved, size_t{0});
}

TEST("a tensor's memory goes when the last that shares it does") {
  cpu::backend().empty_cache();
  const size_t before = cpu::backend().memory_stats().allocated;
  {
    Tensor view;
    {
      const Tensor tensor = filled_tensor(DType::kFloat32, {1000}, 1000);
      view = tensor;
      const Tensor third = view;
    }
    EXPECT(cpu::backend().memory_stats().allocated >= before + 4000, "freed too early");
    EXPECT_EQ(std::isnan(*view.as<float>()), true);
  }
  EXPECT_EQ(cpu::backend().memory_stats().allocated, before);
}

}  // namespace
