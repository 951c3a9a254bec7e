// Caching allocator for tensor memory on the CPU: freed blocks are kept by size class, because
// large blocks handed back to the system cost a page fault for every 4 KiB when they return.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "core/backend.h"

namespace mixprec::cpu {

class CachingAllocator {
 public:
  // Memory aligned to 64 bytes. Throws OutOfMemory with the figures when the system refuses even
  // after the cache was given back.
  void* allocate(size_t bytes);
  void deallocate(void* data, size_t bytes) noexcept;
  MemoryStats stats() const;
  void reset_peaks();
  void empty_cache() noexcept;

 private:
  void release_cached() noexcept;
  std::string summary(size_t asked) const;

  mutable std::mutex mutex_;
  std::map<size_t, std::vector<void*>> cached_;  // by size class
  MemoryStats stats_;
};

}  // namespace mixprec::cpu
