// The device API over the CUDA runtime, which is linked statically and finds the driver by itself.
#if !defined(MIXPREC_CUDA_EMULATED)
#include <cuda_runtime_api.h>

#include <cstring>

#include "launch.h"

namespace mixprec::cuda::api {
namespace {

// 48 KiB less what a kernel may have of static shared memory.
constexpr size_t kDefaultSharedLimit = 32 << 10;

cudaStream_t native(Stream stream) { return reinterpret_cast<cudaStream_t>(stream); }
cudaEvent_t native(Event event) { return reinterpret_cast<cudaEvent_t>(event); }

}  // namespace

bool is_emulated() { return false; }
const char* error_name(Code code) { return cudaGetErrorName(static_cast<cudaError_t>(code)); }
const char* error_text(Code code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

Code device_count(int* count) {
  *count = 0;
  const Code code = cudaGetDeviceCount(count);
  if (code != kSuccess) {
    *count = 0;
    cudaGetLastError();  // not an error of later calls
  }
  return code;
}

Code device_properties(int device, DeviceProperties* properties) {
  cudaDeviceProp found;
  const Code code = cudaGetDeviceProperties(&found, device);
  if (code != kSuccess) return code;
  static_assert(sizeof(found.name) == sizeof(properties->name));
  std::memcpy(properties->name, found.name, sizeof(found.name));
  properties->major = found.major;
  properties->minor = found.minor;
  properties->total_memory = found.totalGlobalMem;
  properties->multiprocessors = found.multiProcessorCount;
  properties->threads_per_multiprocessor = found.maxThreadsPerMultiProcessor;
  properties->shared_bytes_per_block = found.sharedMemPerBlockOptin;
  properties->l2_bytes = static_cast<size_t>(found.l2CacheSize);
  int clock_khz = 0, memory_khz = 0, bus_bits = 0;
  cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, device);
  cudaDeviceGetAttribute(&memory_khz, cudaDevAttrMemoryClockRate, device);
  cudaDeviceGetAttribute(&bus_bits, cudaDevAttrGlobalMemoryBusWidth, device);
  properties->clock_hz = clock_khz * 1e3;
  // Two transfers to a clock.
  properties->memory_bytes_per_second = 2.0 * memory_khz * 1e3 * bus_bits / 8;
  return kSuccess;
}

Code set_device(int device) { return cudaSetDevice(device); }
Code driver_version(int* version) { return cudaDriverGetVersion(version); }
Code last_error() { return cudaGetLastError(); }

Code allocate(void** data, size_t bytes) {
  const Code code = cudaMalloc(data, bytes);
  if (code == kOutOfMemory) cudaGetLastError();  // the caller deals with it
  return code;
}
Code release(void* data) { return cudaFree(data); }
Code memory_info(size_t* free_bytes, size_t* total_bytes) {
  return cudaMemGetInfo(free_bytes, total_bytes);
}
Code allocate_pinned(void** data, size_t bytes) {
  const Code code = cudaHostAlloc(data, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
  if (code == kOutOfMemory) cudaGetLastError();
  return code;
}
Code release_pinned(void* data) { return cudaFreeHost(data); }

Code copy_to_device(void* device, const void* host, size_t bytes, Stream stream) {
  return cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, native(stream));
}
Code copy_to_host(void* host, const void* device, size_t bytes, Stream stream) {
  return cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, native(stream));
}
Code copy_on_device(void* to, const void* from, size_t bytes, Stream stream) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, native(stream));
}
Code copy_between(void* to, int to_device, const void* from, int from_device, size_t bytes,
                  Stream stream) {
  return cudaMemcpyPeerAsync(to, to_device, from, from_device, bytes, native(stream));
}
Code set_bytes(void* device, int value, size_t bytes, Stream stream) {
  return cudaMemsetAsync(device, value, bytes, native(stream));
}

Code create_stream(Stream* stream) {
  return cudaStreamCreateWithFlags(reinterpret_cast<cudaStream_t*>(stream), cudaStreamNonBlocking);
}
Code synchronize_stream(Stream stream) { return cudaStreamSynchronize(native(stream)); }
Code stream_wait(Stream stream, Event event) {
  return cudaStreamWaitEvent(native(stream), native(event), 0);
}
Code host_callback(Stream stream, void (*function)(void*), void* data) {
  return cudaLaunchHostFunc(native(stream), function, data);
}

Code begin_capture(Stream stream) {
  return cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeRelaxed);
}
Code end_capture(Stream stream, Graph* graph) {
  *graph = nullptr;
  cudaGraph_t captured = nullptr;
  Code code = cudaStreamEndCapture(native(stream), &captured);
  if (code != kSuccess) return code;
  cudaGraphExec_t executable = nullptr;
  code = cudaGraphInstantiate(&executable, captured, 0);
  cudaGraphDestroy(captured);
  if (code == kSuccess) *graph = reinterpret_cast<Graph>(executable);
  return code;
}
Code launch_graph(Graph graph, Stream stream) {
  return cudaGraphLaunch(reinterpret_cast<cudaGraphExec_t>(graph), native(stream));
}
Code destroy_graph(Graph graph) {
  return cudaGraphExecDestroy(reinterpret_cast<cudaGraphExec_t>(graph));
}

Code create_event(Event* event, bool timing) {
  const unsigned flags = timing ? cudaEventDefault : cudaEventDisableTiming;
  return cudaEventCreateWithFlags(reinterpret_cast<cudaEvent_t*>(event), flags);
}
Code destroy_event(Event event) { return cudaEventDestroy(native(event)); }
Code record_event(Event event, Stream stream) {
  return cudaEventRecord(native(event), native(stream));
}
Code query_event(Event event) {
  const Code code = cudaEventQuery(native(event));
  if (code == kNotReady) cudaGetLastError();
  return code;
}
Code synchronize_event(Event event) { return cudaEventSynchronize(native(event)); }
Code elapsed_ms(float* ms, Event start, Event end) {
  return cudaEventElapsedTime(ms, native(start), native(end));
}

Code launch_kernel(const LaunchConfig& config, const void* function, void** arguments) {
  if (config.shared_bytes > kDefaultSharedLimit) {
    const Code code = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(config.shared_bytes));
    if (code != kSuccess) return code;
  }
  cudaLaunchConfig_t native_config = {};
  native_config.gridDim = {config.grid.x, config.grid.y, config.grid.z};
  native_config.blockDim = {config.block.x, config.block.y, config.block.z};
  native_config.dynamicSmemBytes = config.shared_bytes;
  native_config.stream = native(config.stream);
  cudaLaunchAttribute cluster = {};
  if (config.cluster.count() > 1) {
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = config.cluster.x;
    cluster.val.clusterDim.y = config.cluster.y;
    cluster.val.clusterDim.z = config.cluster.z;
    native_config.attrs = &cluster;
    native_config.numAttrs = 1;
  }
  return cudaLaunchKernelExC(&native_config, function, arguments);
}

}  // namespace mixprec::cuda::api
#endif
