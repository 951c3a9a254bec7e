// Caching allocator for the memory of one device, in the order of its stream: a block that is freed
// on the host may be handed out at once, since whatever still reads it was queued before whatever
// will write it. Sizes, pools and statistics are PyTorch's (c10/cuda/CUDACachingAllocator.cpp).
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "api.h"
#include "core/backend.h"

namespace mixprec::cuda {

class CachingAllocator {
 public:
  // `device` is the one that is current at every call. Lives as long as the process: segments and
  // blocks are not freed with it.
  CachingAllocator(int device, api::Stream stream) : device_(device), stream_(stream) {}

  // Memory aligned to 512 bytes; null for 0 bytes. Where the device refuses, the cache is given
  // back and the request repeated. Throws OutOfMemory with a summary.
  void* allocate(size_t bytes);
  void deallocate(void* data) noexcept;
  MemoryStats stats() const;
  void reset_peaks();
  // Gives back the segments that nothing lies in.
  void empty_cache() noexcept;

  // Memory that is allocated between begin_pool and end_pool is a graph's: its addresses are part
  // of the graph, so what is freed of it serves nobody else, until release_pool. Other memory that
  // is freed meanwhile is freed at the end.
  void begin_pool(uint64_t pool);
  void end_pool();
  void release_pool(uint64_t pool) noexcept;

 private:
  struct Segment;
  struct Block;
  struct BySize {
    bool operator()(const Block* a, const Block* b) const;
  };
  using FreeBlocks = std::set<Block*, BySize>;
  using Pool = std::array<FreeBlocks, 2>;  // blocks of large segments, of small ones

  Block* find_free(size_t bytes, bool small);
  Block* new_segment(size_t bytes, bool small);
  void split(Block* block, size_t bytes);
  Block* merge(Block* block, Block* with_next);
  size_t release_cached() noexcept;
  void free_block(void* data) noexcept;
  FreeBlocks& free_blocks(const Segment& segment);
  std::string summary(size_t asked) const;

  const int device_;
  const api::Stream stream_;
  mutable std::mutex mutex_;
  std::map<uint64_t, Pool> pools_;  // 0 is everybody's, the others are those of graphs
  uint64_t pool_ = 0;               // the one that is allocated from
  std::vector<void*> freed_late_;
  std::unordered_map<void*, Block*> live_;
  MemoryStats stats_;
};

}  // namespace mixprec::cuda
