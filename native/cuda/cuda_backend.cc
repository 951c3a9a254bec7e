#include "cuda_backend.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <string>
#include <utility>

#include "runtime/error.h"

namespace mixprec::cuda {
namespace {

// Blocks a multiprocessor in loops over a grid: enough to hide latency and the ragged end.
constexpr int64_t kBlocksPerMultiprocessor = 16;
constexpr int kMaxDevices = 64;

api::DeviceProperties read_properties(int device) {
  api::DeviceProperties properties;
  require(api::device_properties(device, &properties), "asking for the device's properties");
  return properties;
}

api::Stream make_stream(int device) {
  use_device(device);
  api::Stream stream = nullptr;
  require(api::create_stream(&stream), "making a stream");
  return stream;
}

}  // namespace

CudaBackend::CudaBackend(int device)
    : device_(device),
      properties_(read_properties(device)),
      stream_(make_stream(device)),
      allocator_(device, stream_),
      transfers_(device, stream_) {
  void* memory = nullptr;
  require(api::allocate_pinned(&memory, sizeof(DeviceReport)), "allocating pinned memory");
  report_ = new (memory) DeviceReport;
}

void* CudaBackend::allocate(size_t bytes) {
  // Not out of the memory of a graph that another thread captures.
  const std::shared_lock lock(access_);
  use_device(device_);
  return allocator_.allocate(bytes);
}

void CudaBackend::deallocate(void* data, size_t) noexcept { allocator_.deallocate(data); }

void CudaBackend::refuse_capture(const char* doing) const {
  if (!access_.is_mine()) return;
  throw Error(ErrorCode::kDevice,
              std::string(doing) +
                  " is not possible while a graph is captured, since nothing is computed yet; do "
                  "it before, or after a replay");
}

void CudaBackend::begin_capture() {
  refuse_capture("capturing another graph");
  access_.lock();
  use_device(device_);
  const api::Code code = api::begin_capture(stream_);
  if (code != api::kSuccess) {
    access_.unlock();
    throw_device_error(code, "capturing a graph");
  }
  allocator_.begin_pool(++capture_.pool);
}

CapturedGraph CudaBackend::end_capture() {
  check(access_.is_mine(), "a capture ended that did not begin");
  const api::Code code = api::end_capture(stream_, &capture_.handle);
  const CapturedGraph graph = std::exchange(capture_, {nullptr, capture_.pool, {}});
  allocator_.end_pool();
  access_.unlock();
  if (code != api::kSuccess) destroy_graph(graph);
  require(code, "capturing a graph");
  return graph;
}

void CudaBackend::abandon_capture() noexcept {
  if (!access_.is_mine()) return;
  api::end_capture(stream_, &capture_.handle);
  const CapturedGraph graph = std::exchange(capture_, {nullptr, capture_.pool, {}});
  allocator_.end_pool();
  access_.unlock();
  destroy_graph(graph);
}

void CudaBackend::launch_graph(const CapturedGraph& graph) {
  refuse_capture("replaying a graph");
  const std::shared_lock lock(access_);
  use_device(device_);
  require(api::last_error(), "an earlier operation");
  raise_report(*report_, "replay");
  require(api::launch_graph(graph.handle, stream_), "replaying a graph");
  if (!launches_block()) return;
  require(wait_for(stream_), "replaying a graph");
  raise_report(*report_, "replay");
}

void CudaBackend::destroy_graph(const CapturedGraph& graph) noexcept {
  if (graph.handle != nullptr) api::destroy_graph(graph.handle);  // what is queued is still done
  transfers_.give_back_later(graph.constants);
  allocator_.release_pool(graph.pool);
}

void CudaBackend::empty_cache() {
  refuse_capture("emptying the cache");
  use_device(device_);
  allocator_.empty_cache();
  transfers_.release_idle();
}

void CudaBackend::copy_from_host(void* device, const void* host, size_t bytes) {
  const std::shared_lock lock(access_);
  use_device(device_);
  if (access_.is_mine()) {
    return transfers_.capture_to_device(device, host, bytes, capture_.constants);
  }
  transfers_.to_device(device, host, bytes);
}

void CudaBackend::copy_to_host(void* host, const void* device, size_t bytes) {
  if (const auto copy = start_copy_to_host(host, device, bytes)) copy->wait();
  raise_report(*report_, "");
}

std::unique_ptr<HostCopy> CudaBackend::start_copy_to_host(void* host, const void* device,
                                                          size_t bytes) {
  if (bytes == 0) return nullptr;
  refuse_capture("reading a tensor");
  const std::shared_lock lock(access_);
  use_device(device_);
  return transfers_.start_to_host(host, device, bytes);
}

void CudaBackend::synchronize() {
  refuse_capture("waiting for the device");
  use_device(device_);
  require(wait_for(stream_), "waiting for the device");
  raise_report(*report_, "");
}

void CudaBackend::begin_op(const OpCall& call) {
  std::shared_lock lock(access_);
  use_device(device_);
  require(api::last_error(), "an earlier operation");
  raise_report(*report_, call.name);
  lock.release();  // by leave_op
}

void CudaBackend::end_op(const OpCall& call) {
  if (!launches_block() || access_.is_mine()) return;
  require(wait_for(stream_), "the operation");
  raise_report(*report_, call.name);
}

LaunchConfig CudaBackend::config(int64_t items, int threads, size_t shared_bytes) const {
  const int64_t needed = (items + threads - 1) / threads;
  const int64_t most = kBlocksPerMultiprocessor * properties_.multiprocessors;
  return grid(static_cast<uint32_t>(std::max<int64_t>(1, std::min(needed, most))), threads,
              shared_bytes);
}

LaunchConfig CudaBackend::grid(Dim3 blocks, int threads, size_t shared_bytes) const {
  LaunchConfig config;
  config.stream = stream_;
  config.grid = blocks;
  config.block = static_cast<uint32_t>(threads);
  config.shared_bytes = shared_bytes;
  return config;
}

CudaBackend& backend(int device) {
  // Never destroyed: tensors of other threads, and work in the queue, may outlive static objects.
  static std::atomic<CudaBackend*> backends[kMaxDevices];
  if (device >= 0 && device < kMaxDevices) [[likely]] {
    CudaBackend* const found = backends[device].load(std::memory_order_acquire);
    if (found != nullptr) [[likely]]
      return *found;
  }
  std::string reason;
  const int count = std::min(device_count(&reason), kMaxDevices);
  if (device < 0 || device >= count) {
    const std::string name = "device cuda:" + std::to_string(device) + " is not available, ";
    if (count == 0) throw Error(ErrorCode::kDevice, name + reason + "; use \"cpu\"");
    throw Error(ErrorCode::kDevice, name + "there are " + std::to_string(count) +
                                        ", the last is cuda:" + std::to_string(count - 1));
  }
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  CudaBackend* found = backends[device].load(std::memory_order_acquire);
  if (found == nullptr) {
    found = new CudaBackend(device);
    backends[device].store(found, std::memory_order_release);
  }
  return *found;
}

}  // namespace mixprec::cuda
