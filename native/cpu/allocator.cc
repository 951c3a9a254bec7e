#include "allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <string>

#include "pages.h"

namespace mixprec::cpu {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kCacheFloor = size_t{64} << 20;

// Eight classes an octave: at most an eighth of a block is wasted, and steps of a training run
// whose shapes vary a little find each other's blocks.
size_t size_class(size_t bytes) {
  if (bytes <= kAlignment) return kAlignment;
  const size_t step = std::max(kAlignment, std::bit_floor(bytes - 1) / 8);
  return (bytes + step - 1) / step * step;
}

std::string mebibytes(size_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

}  // namespace

void* CachingAllocator::allocate(size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (bytes > (size_t{1} << 47)) throw Error(ErrorCode::kOutOfMemory, summary(bytes));
  const size_t rounded = size_class(bytes);
  void* data = nullptr;
  if (const auto found = cached_.find(rounded); found != cached_.end() && !found->second.empty()) {
    data = found->second.back();
    found->second.pop_back();
  } else {
    // Cached blocks of sizes that no longer come are given back once they are a quarter of the
    // peak.
    const size_t peak = std::max(stats_.max_allocated, stats_.allocated + rounded);
    if (stats_.reserved + rounded > peak + peak / 4 + kCacheFloor) release_cached();
    data = allocate_pages(rounded);
    if (data == nullptr) {
      release_cached();
      data = allocate_pages(rounded);
    }
    if (data == nullptr) throw Error(ErrorCode::kOutOfMemory, summary(rounded));
    stats_.reserved += rounded;
    stats_.max_reserved = std::max(stats_.max_reserved, stats_.reserved);
  }
  stats_.allocated += rounded;
  stats_.max_allocated = std::max(stats_.max_allocated, stats_.allocated);
  return data;
}

void CachingAllocator::deallocate(void* data, size_t bytes) noexcept {
  if (data == nullptr) return;
  const size_t rounded = size_class(bytes);
  const std::lock_guard<std::mutex> lock(mutex_);
  stats_.allocated -= rounded;
  try {
    cached_[rounded].push_back(data);
  } catch (const std::bad_alloc&) {
    std::free(data);
    stats_.reserved -= rounded;
  }
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
  return "out of memory on cpu: " + mebibytes(asked) + " were asked for; this process has " +
         mebibytes(stats_.allocated) + " in tensors and " +
         mebibytes(stats_.reserved - stats_.allocated) + " in its cache, the peak was " +
         mebibytes(stats_.max_allocated) +
         ". Smaller batches, 16-bit precision or checkpoint() need less";
}

void CachingAllocator::release_cached() noexcept {
  for (auto& [rounded, blocks] : cached_) {
    for (void* block : blocks) std::free(block);
    stats_.reserved -= rounded * blocks.size();
  }
  cached_.clear();
}

}  // namespace mixprec::cpu
