// The CPU backend: complete, multi-threaded, with the numerics of the GPU path (16-bit storage,
// float32 arithmetic). Its ops are spread over the files of this folder by family.
#pragma once

#include "allocator.h"
#include "core/backend.h"

namespace mixprec::cpu {

class CpuBackend final : public Backend {
 public:
  void* allocate(size_t bytes) override { return allocator_.allocate(bytes); }
  void deallocate(void* data, size_t bytes) noexcept override {
    allocator_.deallocate(data, bytes);
  }
  MemoryStats memory_stats() const override { return allocator_.stats(); }
  void reset_peak_memory_stats() override { allocator_.reset_peaks(); }
  void empty_cache() override { allocator_.empty_cache(); }
  void copy_from_host(void* device, const void* host, size_t bytes) override;
  void copy_to_host(void* host, const void* device, size_t bytes) override;
  std::string explain(const OpCall& call) override;

#define MIXPREC_OVERRIDE_OP(name) void name(const OpCall& call) override;
  MIXPREC_OPS(MIXPREC_OVERRIDE_OP)
#undef MIXPREC_OVERRIDE_OP

 private:
  CachingAllocator allocator_;
};

CpuBackend& backend();

}  // namespace mixprec::cpu
