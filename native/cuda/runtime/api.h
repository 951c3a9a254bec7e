// The device API that the backend is written against: a thin layer over cudart, with a second
// implementation that the emulator provides (emulator/api.cc). Functions return a Code, whose
// numbers are those of cudaError_t, and never throw.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mixprec::cuda {

// Extents of a grid, a block or a cluster.
struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;

  constexpr Dim3() = default;
  constexpr Dim3(uint32_t x_, uint32_t y_ = 1, uint32_t z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr uint64_t count() const { return uint64_t{x} * y * z; }
};

namespace api {

struct StreamHandle;
struct EventHandle;
struct GraphHandle;
using Stream = StreamHandle*;
using Event = EventHandle*;
using Graph = GraphHandle*;

using Code = int;
inline constexpr Code kSuccess = 0;
inline constexpr Code kInvalidValue = 1;
inline constexpr Code kOutOfMemory = 2;
inline constexpr Code kInvalidConfiguration = 9;
inline constexpr Code kInsufficientDriver = 35;
inline constexpr Code kNoDevice = 100;
inline constexpr Code kInvalidDevice = 101;
inline constexpr Code kNotReady = 600;
inline constexpr Code kIllegalAddress = 700;
inline constexpr Code kLaunchTimeout = 702;
inline constexpr Code kMisalignedAddress = 716;
inline constexpr Code kLaunchFailure = 719;
inline constexpr Code kCaptureUnsupported = 900;

struct DeviceProperties {
  char name[256] = {};
  int major = 0;  // compute capability
  int minor = 0;
  size_t total_memory = 0;
  int multiprocessors = 0;
  int threads_per_multiprocessor = 0;
  size_t shared_bytes_per_block = 0;  // the most a kernel can ask for
  size_t l2_bytes = 0;
  double clock_hz = 0;  // the most that the multiprocessors run at; 0 where not known
  double memory_bytes_per_second = 0;  // likewise
};

// Whether this is the emulator, which no figure may be reported from.
bool is_emulated();
const char* error_name(Code code);
// What is known of an error: the emulator's report of a fault names kernel, block and thread.
const char* error_text(Code code);

Code device_count(int* count);
Code device_properties(int device, DeviceProperties* properties);
Code set_device(int device);
Code driver_version(int* version);
// Fails with the error of an earlier kernel, if there was one; does not wait.
Code last_error();

Code allocate(void** data, size_t bytes);
Code release(void* data);
Code memory_info(size_t* free_bytes, size_t* total_bytes);
// Host memory that the device can read and write under the same address.
Code allocate_pinned(void** data, size_t bytes);
Code release_pinned(void* data);

// Host memory must be pinned for these to be asynchronous.
Code copy_to_device(void* device, const void* host, size_t bytes, Stream stream);
Code copy_to_host(void* host, const void* device, size_t bytes, Stream stream);
Code copy_on_device(void* to, const void* from, size_t bytes, Stream stream);
// Between two devices.
Code copy_between(void* to, int to_device, const void* from, int from_device, size_t bytes,
                  Stream stream);
Code set_bytes(void* device, int value, size_t bytes, Stream stream);

Code create_stream(Stream* stream);
Code synchronize_stream(Stream stream);
Code stream_wait(Stream stream, Event event);
// Runs on a thread of the runtime once all earlier work of the stream is done; must call no API.
Code host_callback(Stream stream, void (*function)(void*), void* data);

// Work that is queued between the two is kept in a graph instead of done; meanwhile nothing may
// wait for the stream, and no memory may go back to the device.
Code begin_capture(Stream stream);
Code end_capture(Stream stream, Graph* graph);  // null where it fails
Code launch_graph(Graph graph, Stream stream);
Code destroy_graph(Graph graph);

Code create_event(Event* event, bool timing);
Code destroy_event(Event event);
Code record_event(Event event, Stream stream);
Code query_event(Event event);  // kNotReady until it happened
Code synchronize_event(Event event);
Code elapsed_ms(float* ms, Event start, Event end);

// The caching allocator tells the emulator which bytes of its segments are in use, and spreads
// blocks out so that there is a gap behind each: a block at offset o of a segment lies at
// o * kAddressStretch. Both happen in the order of the stream. On a device this changes nothing.
#if defined(MIXPREC_CUDA_EMULATED)
inline constexpr size_t kAddressStretch = 2;
void mark_allocated(const void* data, size_t bytes, Stream stream);
void mark_free(const void* data, Stream stream);
#else
inline constexpr size_t kAddressStretch = 1;
inline void mark_allocated(const void*, size_t, Stream) {}
inline void mark_free(const void*, Stream) {}
#endif

}  // namespace api
}  // namespace mixprec::cuda
