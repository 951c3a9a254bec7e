// The CUDA backend: one object per device, everything on one stream. Its ops are spread over the
// files of kernels/ by family, each with its kernels; docs/architecture.md says how to write one.
#pragma once

#include "core/backend.h"
#include "runtime/allocator.h"
#include "runtime/device.h"
#include "runtime/launch.h"
#include "runtime/report.h"
#include "runtime/stream_access.h"
#include "runtime/transfer.h"

namespace mixprec::cuda {

// Work that was captured, and the memory that it works in.
struct CapturedGraph {
  api::Graph handle = nullptr;
  uint64_t pool = 0;
  std::vector<Transfers::Pinned> constants;  // what its copies from the host read
};

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int device);

  void* allocate(size_t bytes) override;
  void deallocate(void* data, size_t bytes) noexcept override;
  MemoryStats memory_stats() const override { return allocator_.stats(); }
  void reset_peak_memory_stats() override { allocator_.reset_peaks(); }
  void empty_cache() override;
  void copy_from_host(void* device, const void* host, size_t bytes) override;
  void copy_to_host(void* host, const void* device, size_t bytes) override;
  std::unique_ptr<HostCopy> start_copy_to_host(void* host, const void* device,
                                               size_t bytes) override;
  void synchronize() override;
  uint64_t waits() const override { return host_waits(); }
  void raise_pending() override { raise_report(*report_, ""); }
  void begin_op(const OpCall& call) override;
  void end_op(const OpCall& call) override;
  void leave_op() noexcept override { access_.unlock_shared(); }

#define MIXPREC_OVERRIDE_OP(name) void name(const OpCall& call) override;
  MIXPREC_OPS(MIXPREC_OVERRIDE_OP)
#undef MIXPREC_OVERRIDE_OP

  // ---- Graphs ----

  // From here on what this thread queues is captured instead of done, and other threads wait.
  // Nothing may be copied to the host, or waited for, until end_capture or abandon_capture; what is
  // copied from the host is copied again by every replay.
  void begin_capture();
  // Throws DeviceError where the device can't make a graph of it; the capture is over then, too.
  CapturedGraph end_capture();
  // Whether this thread captures a graph.
  bool captures() const { return access_.is_mine(); }
  void abandon_capture() noexcept;
  void launch_graph(const CapturedGraph& graph);
  void destroy_graph(const CapturedGraph& graph) noexcept;

  // ---- For the ops ----

  int device() const { return device_; }
  api::Stream stream() const { return stream_; }
  const api::DeviceProperties& properties() const { return properties_; }

  // A launch of `threads` a block in which a thread does one of `items`, or several in a loop over
  // the grid: there are never more blocks than fill the device a few times.
  LaunchConfig config(int64_t items, int threads, size_t shared_bytes = 0) const;
  // A launch of `blocks` blocks, each of them needed.
  LaunchConfig grid(Dim3 blocks, int threads, size_t shared_bytes = 0) const;
  // What a kernel of `call` reports bad data with.
  ReportSlot report_slot(const OpCall& call) const { return {report_, call.name}; }

 private:
  void refuse_capture(const char* doing) const;

  const int device_;
  api::DeviceProperties properties_;
  const api::Stream stream_;
  CachingAllocator allocator_;
  Transfers transfers_;
  DeviceReport* report_ = nullptr;  // pinned
  StreamAccess access_;
  CapturedGraph capture_;  // the one under way, or the last; its pool is their number
};

// The backend of a device, made at the first call. Throws DeviceError where there is no such
// device.
CudaBackend& backend(int device);

}  // namespace mixprec::cuda
