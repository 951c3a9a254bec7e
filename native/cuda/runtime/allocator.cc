#include "allocator.h"

#include <algorithm>

#include "error.h"

namespace mixprec::cuda {
namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kGranularity = 512;  // all sizes are multiples of it
constexpr size_t kSmallLimit = kMiB;  // the largest block of the small pool
constexpr size_t kSmallSegment = 2 * kMiB;
constexpr size_t kLargeSegment = 20 * kMiB;
constexpr size_t kOwnSegment = 10 * kMiB;  // from here on a block gets a segment to itself
constexpr size_t kSegmentGranularity = 2 * kMiB;
constexpr size_t kLargest = size_t{1} << 47;

constexpr size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

size_t segment_size(size_t rounded) {
  if (rounded <= kSmallLimit) return kSmallSegment;
  if (rounded < kOwnSegment) return kLargeSegment;
  return round_up(rounded, kSegmentGranularity);
}

std::string mebibytes(size_t bytes) {
  const size_t tenths = (bytes * 10 + kMiB / 2) / kMiB;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " MiB";
}

}  // namespace

// Memory that came from the device in one piece.
struct CachingAllocator::Segment {
  char* data = nullptr;
  size_t bytes = 0;
  bool small = false;
  uint64_t pool = 0;
};

// A part of a segment, in a list with its neighbours.
struct CachingAllocator::Block {
  Segment* segment = nullptr;
  size_t offset = 0;
  size_t bytes = 0;
  bool free = true;
  Block* previous = nullptr;
  Block* next = nullptr;

  void* address() const { return segment->data + offset * api::kAddressStretch; }
};

bool CachingAllocator::BySize::operator()(const Block* a, const Block* b) const {
  if (a->bytes != b->bytes) return a->bytes < b->bytes;
  return std::less<void*>()(a->address(), b->address());
}

CachingAllocator::FreeBlocks& CachingAllocator::free_blocks(const Segment& segment) {
  return pools_[segment.pool][segment.small ? 1 : 0];
}

CachingAllocator::Block* CachingAllocator::find_free(size_t bytes, bool small) {
  Segment nowhere;
  Block wanted;
  wanted.segment = &nowhere;
  wanted.bytes = bytes;
  FreeBlocks& blocks = pools_[pool_][small ? 1 : 0];
  const auto found = blocks.lower_bound(&wanted);
  if (found == blocks.end()) return nullptr;
  Block* const block = *found;
  blocks.erase(found);
  return block;
}

CachingAllocator::Block* CachingAllocator::new_segment(size_t bytes, bool small) {
  const size_t size = segment_size(bytes);
  void* data = nullptr;
  api::Code code = api::allocate(&data, size * api::kAddressStretch);
  if (code == api::kOutOfMemory && release_cached() > 0) {
    code = api::allocate(&data, size * api::kAddressStretch);
  }
  if (code == api::kOutOfMemory) throw Error(ErrorCode::kOutOfMemory, summary(bytes));
  require(code, "allocating device memory");
  auto* const segment = new Segment;
  segment->data = static_cast<char*>(data);
  segment->bytes = size;
  segment->small = small;
  segment->pool = pool_;
  auto* const block = new Block;
  block->segment = segment;
  block->bytes = size;
  stats_.reserved += size;
  stats_.max_reserved = std::max(stats_.max_reserved, stats_.reserved);
  return block;
}

// Cuts off what `bytes` leave of the block, where that is worth a block.
void CachingAllocator::split(Block* block, size_t bytes) {
  const bool small = block->segment->small;
  const size_t rest = block->bytes - bytes;
  if (small ? rest < kGranularity : rest <= kSmallLimit) return;
  auto* const remainder = new Block;
  remainder->segment = block->segment;
  remainder->offset = block->offset + bytes;
  remainder->bytes = rest;
  remainder->previous = block;
  remainder->next = block->next;
  if (block->next != nullptr) block->next->previous = remainder;
  block->next = remainder;
  block->bytes = bytes;
  free_blocks(*block->segment).insert(remainder);
}

// Joins `next` to its left neighbour; both are free and in no set.
CachingAllocator::Block* CachingAllocator::merge(Block* block, Block* next) {
  block->bytes += next->bytes;
  block->next = next->next;
  if (next->next != nullptr) next->next->previous = block;
  delete next;
  return block;
}

void* CachingAllocator::allocate(size_t bytes) {
  if (bytes == 0) return nullptr;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (bytes > kLargest) throw Error(ErrorCode::kOutOfMemory, summary(bytes));
  const size_t rounded = round_up(bytes, kGranularity);
  const bool small = rounded <= kSmallLimit;
  Block* block = find_free(rounded, small);
  if (block == nullptr) block = new_segment(rounded, small);
  split(block, rounded);
  block->free = false;
  void* const data = block->address();
  live_[data] = block;
  api::mark_allocated(data, bytes, stream_);
  stats_.allocated += block->bytes;
  stats_.max_allocated = std::max(stats_.max_allocated, stats_.allocated);
  return data;
}

void CachingAllocator::deallocate(void* data) noexcept {
  if (data == nullptr) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  free_block(data);
}

void CachingAllocator::free_block(void* data) noexcept {
  const auto found = live_.find(data);
  if (found == live_.end()) return;
  Block* block = found->second;
  if (pool_ != 0 && block->segment->pool != pool_) {
    freed_late_.push_back(data);
    return;
  }
  live_.erase(found);
  api::mark_free(data, stream_);
  stats_.allocated -= block->bytes;
  FreeBlocks& blocks = free_blocks(*block->segment);
  block->free = true;
  if (block->next != nullptr && block->next->free) {
    blocks.erase(block->next);
    merge(block, block->next);
  }
  if (block->previous != nullptr && block->previous->free) {
    blocks.erase(block->previous);
    block = merge(block->previous, block);
  }
  blocks.insert(block);
}

size_t CachingAllocator::release_cached() noexcept {
  if (pool_ != 0) return 0;
  size_t released = 0;
  for (FreeBlocks& blocks : pools_[0]) {
    for (auto at = blocks.begin(); at != blocks.end();) {
      Block* const block = *at;
      Segment* const segment = block->segment;
      if (block->bytes != segment->bytes) {
        ++at;
        continue;
      }
      at = blocks.erase(at);
      delete block;
      released += segment->bytes;
      stats_.reserved -= segment->bytes;
      api::release(segment->data);  // waits for the device; an error of it shows at the next call
      delete segment;
    }
  }
  return released;
}

void CachingAllocator::begin_pool(uint64_t pool) {
  const std::lock_guard<std::mutex> lock(mutex_);
  pool_ = pool;
}

void CachingAllocator::end_pool() {
  const std::lock_guard<std::mutex> lock(mutex_);
  pool_ = 0;
  for (void* const data : freed_late_) free_block(data);
  freed_late_.clear();
}

void CachingAllocator::release_pool(uint64_t pool) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = pools_.find(pool);
  if (found == pools_.end()) return;
  for (const auto& [data, block] : live_) {
    if (block->segment->pool == pool) block->segment->pool = 0;
  }
  for (FreeBlocks& blocks : found->second) {
    for (Block* const block : blocks) {
      block->segment->pool = 0;
      free_blocks(*block->segment).insert(block);
    }
  }
  pools_.erase(pool);
}

MemoryStats CachingAllocator::stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

void CachingAllocator::reset_peaks() {
  const std::lock_guard<std::mutex> lock(mutex_);
  stats_.max_allocated = stats_.allocated;
  stats_.max_reserved = stats_.reserved;
}

void CachingAllocator::empty_cache() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  release_cached();
}

std::string CachingAllocator::summary(size_t asked) const {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  api::memory_info(&free_bytes, &total_bytes);
  return "out of memory on cuda:" + std::to_string(device_) + ": " + mebibytes(asked) +
         " were asked for; of " + mebibytes(total_bytes) + " there are " + mebibytes(free_bytes) +
         " free, this process has " + mebibytes(stats_.allocated) + " in tensors and " +
         mebibytes(stats_.reserved - stats_.allocated) + " in its cache, the peak was " +
         mebibytes(stats_.max_allocated) +
         ". Smaller batches, 16-bit precision or checkpoint() need less";
}

}  // namespace mixprec::cuda
