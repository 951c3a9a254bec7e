// The device API of runtime/api.h over emulated memory, streams and kernels. What it emulates is
// set in the environment: MIXPREC_EMULATOR_DEVICES (default 1), MIXPREC_EMULATOR_MEMORY in MiB
// (default 8192), MIXPREC_EMULATOR_CAPABILITY (default 90), MIXPREC_EMULATOR_SEED (default 0),
// MIXPREC_EMULATOR_FAULT (part of a kernel's name: its first launch fails).
#include "cuda/runtime/api.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "cuda/runtime/launch.h"
#include "fault.h"
#include "machine.h"
#include "stream.h"

namespace mixprec::cuda {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMaxDevices = 16;
constexpr size_t kCountOffset = 256;
constexpr uint64_t kMaxClusterBlocks = 8;  // that every device of capability 9.0 takes

int64_t setting(const char* name, int64_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : std::strtoll(text, nullptr, 10);
}

int emulated_devices() {
  return static_cast<int>(std::min<int64_t>(kMaxDevices, setting("MIXPREC_EMULATOR_DEVICES", 1)));
}
size_t emulated_memory() {
  return static_cast<size_t>(setting("MIXPREC_EMULATOR_MEMORY", 8192)) << 20;
}

// Whether a test wants the kernel to fail, to see what becomes of a process whose device has died.
bool is_to_fail(std::string_view kernel) {
  static const char* const part = std::getenv("MIXPREC_EMULATOR_FAULT");
  return part != nullptr && kernel.find(part) != std::string_view::npos;
}

// Bytes that cudaMalloc would have given out, by device.
std::atomic<size_t> bytes_in_use[kMaxDevices];
thread_local int current_device = 0;

// What kernels and copies name must be device memory; checked when the work runs.
bool check_range(const char* what, const void* data, size_t bytes, uint8_t state) {
  if (emulator::has_state(data, bytes, state)) return true;
  const char* problem = !emulator::has_state(data, bytes, emulator::kAllocated)
                            ? ": not all of it is allocated device memory, "
                            : ": not all of it was written, ";
  emulator::set_device_error(api::kIllegalAddress,
                             std::string(what) + " of " + std::to_string(bytes) + " bytes" +
                                 problem + "it begins at " + emulator::describe_address(data));
  return false;
}

void check_guards(const char* when, std::string_view name, const void* address) {
  if (emulator::guards_intact(address)) return;
  emulator::set_device_error(api::kIllegalAddress,
                             "a write outside of " + emulator::describe_address(address) +
                                 " was found " + when + " " + std::string(name));
}

// Blocks that the arguments point into are those that a kernel may have written past.
void check_guards_of_arguments(const emulator::BoundKernel& kernel) {
  for (size_t at = 0; at + sizeof(void*) <= kernel.argument_bytes; at += sizeof(void*)) {
    const void* address;
    std::memcpy(&address, static_cast<const char*>(kernel.arguments) + at, sizeof(void*));
    if (emulator::in_arena(address, 1)) check_guards("after", kernel.name, address);
  }
}

}  // namespace

namespace emulator {

api::Code submit(const LaunchConfig& config, const BoundKernel& kernel) {
  const std::shared_ptr<void> arguments(kernel.arguments, kernel.destroy);
  const uint64_t threads = config.block.count();
  if (threads == 0 || threads > 1024 || config.block.z > 64 || config.grid.count() == 0 ||
      config.grid.x > 0x7fffffffu || config.grid.y > 65535 || config.grid.z > 65535 ||
      config.shared_bytes > SharedMemory::kCapacity || config.cluster.count() == 0 ||
      config.cluster.count() > kMaxClusterBlocks || config.grid.x % config.cluster.x != 0 ||
      config.grid.y % config.cluster.y != 0 || config.grid.z % config.cluster.z != 0) {
    return api::kInvalidConfiguration;
  }
  Launch launch;
  launch.grid = config.grid;
  launch.block = config.block;
  launch.cluster = config.cluster;
  launch.shared_bytes = config.shared_bytes;
  launch.name = kernel.name;
  launch.body = kernel.body;
  launch.arguments = kernel.arguments;
  return config.stream->enqueue([launch, kernel, arguments] {
    if (device_error() != api::kSuccess) return;
    if (is_to_fail(kernel.name)) {
      return set_device_error(api::kIllegalAddress, "planted fault in " + std::string(kernel.name));
    }
    const Outcome outcome = machine_of_this_thread().run(launch);
    if (outcome.code != api::kSuccess) {
      set_device_error(outcome.code, outcome.report);
    } else {
      check_guards_of_arguments(kernel);
    }
  });
}

}  // namespace emulator

namespace api {

struct EventHandle {
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    uint64_t recorded = 0;
    uint64_t done = 0;
    Clock::time_point time;
  };
  std::shared_ptr<State> state = std::make_shared<State>();
};

bool is_emulated() { return true; }

const char* error_name(Code code) {
  switch (code) {
    case kSuccess:
      return "success";
    case kOutOfMemory:
      return "out of memory";
    case kInvalidConfiguration:
      return "invalid launch configuration";
    case kNoDevice:
      return "no device";
    case kInvalidDevice:
      return "invalid device";
    case kIllegalAddress:
      return "illegal address";
    case kMisalignedAddress:
      return "misaligned address";
    case kLaunchTimeout:
      return "launch timeout";
    case kLaunchFailure:
      return "launch failure";
    case kCaptureUnsupported:
      return "not allowed while a graph is captured";
    default:
      return "invalid value";
  }
}

const char* error_text(Code code) {
  // Read by the caller before the next error of this thread.
  static thread_local std::string text;
  text = emulator::last_report();
  return code == emulator::device_error() && !text.empty() ? text.c_str() : error_name(code);
}

Code device_count(int* count) {
  *count = emulated_devices();
  return *count > 0 ? kSuccess : kNoDevice;
}

Code device_properties(int device, DeviceProperties* properties) {
  if (device < 0 || device >= emulated_devices()) return kInvalidDevice;
  const auto capability = static_cast<int>(setting("MIXPREC_EMULATOR_CAPABILITY", 90));
  std::snprintf(properties->name, sizeof(properties->name), "emulated device (no GPU)");
  properties->major = capability / 10;
  properties->minor = capability % 10;
  properties->total_memory = emulated_memory();
  properties->multiprocessors = 4;  // few, so that loops over a grid are taken more than once
  properties->threads_per_multiprocessor = 2048;
  properties->shared_bytes_per_block = emulator::SharedMemory::kCapacity;
  properties->l2_bytes = size_t{4} << 20;
  properties->clock_hz = 1.7e9;
  properties->memory_bytes_per_second = 1e11;
  return kSuccess;
}

Code set_device(int device) {
  if (device < 0 || device >= emulated_devices()) return kInvalidDevice;
  current_device = device;
  return kSuccess;
}

Code driver_version(int* version) {
  *version = 0;
  return kSuccess;
}

Code last_error() { return emulator::device_error(); }

Code allocate(void** data, size_t bytes) {
  *data = nullptr;
  if (emulator::device_error() != kSuccess) return emulator::device_error();
  emulator::prepare_arena();
  const size_t counted = bytes / kAddressStretch;
  std::atomic<size_t>& in_use = bytes_in_use[current_device];
  if (in_use.fetch_add(counted) + counted > emulated_memory()) {
    in_use -= counted;
    return kOutOfMemory;
  }
  *data = emulator::reserve(bytes);
  if (*data == nullptr) {
    in_use -= counted;
    return kOutOfMemory;
  }
  // What release() has to take off again, in the room before the block.
  std::memcpy(static_cast<char*>(*data) - kCountOffset, &counted, sizeof(size_t));
  return kSuccess;
}

Code release(void* data) {
  if (data == nullptr) return kSuccess;
  emulator::drain();
  size_t counted;
  std::memcpy(&counted, static_cast<char*>(data) - kCountOffset, sizeof(size_t));
  if (emulator::give_back(data) == 0) return kInvalidValue;
  bytes_in_use[current_device] -= counted;
  return emulator::device_error();
}

Code memory_info(size_t* free_bytes, size_t* total_bytes) {
  *total_bytes = emulated_memory();
  *free_bytes = *total_bytes - bytes_in_use[current_device].load();
  return emulator::device_error();
}

Code allocate_pinned(void** data, size_t bytes) {
  emulator::prepare_arena();
  *data = emulator::reserve(bytes);
  if (*data == nullptr) return kOutOfMemory;
  emulator::set_shadow(*data, bytes, emulator::kAllocated | emulator::kWritten);
  return kSuccess;
}

Code release_pinned(void* data) {
  emulator::drain();
  return data == nullptr || emulator::give_back(data) != 0 ? kSuccess : kInvalidValue;
}

Code copy_to_device(void* device, const void* host, size_t bytes, Stream stream) {
  return stream->enqueue([=] {
    if (!check_range("copy to the device", device, bytes, emulator::kAllocated)) return;
    std::memcpy(device, host, bytes);
    emulator::set_shadow(device, bytes, emulator::kAllocated | emulator::kWritten);
  });
}

Code copy_to_host(void* host, const void* device, size_t bytes, Stream stream) {
  return stream->enqueue([=] {
    constexpr uint8_t kReadable = emulator::kAllocated | emulator::kWritten;
    if (check_range("copy to the host", device, bytes, kReadable)) {
      std::memcpy(host, device, bytes);
    }
  });
}

Code copy_on_device(void* to, const void* from, size_t bytes, Stream stream) {
  return stream->enqueue([=] {
    if (!check_range("copy on the device, source", from, bytes, emulator::kAllocated)) return;
    if (!check_range("copy on the device, target", to, bytes, emulator::kAllocated)) return;
    std::memcpy(to, from, bytes);
    std::memcpy(emulator::shadow_of(to), emulator::shadow_of(from), bytes);
  });
}

Code copy_between(void* to, int, const void* from, int, size_t bytes, Stream stream) {
  return copy_on_device(to, from, bytes, stream);
}

Code set_bytes(void* device, int value, size_t bytes, Stream stream) {
  return stream->enqueue([=] {
    if (!check_range("fill", device, bytes, emulator::kAllocated)) return;
    std::memset(device, value, bytes);
    emulator::set_shadow(device, bytes, emulator::kAllocated | emulator::kWritten);
  });
}

void mark_allocated(const void* data, size_t bytes, Stream stream) {
  stream->enqueue([=] { emulator::begin_block(data, bytes); });
}

void mark_free(const void* data, Stream stream) {
  stream->enqueue([=] {
    if (emulator::end_block(data)) return;
    emulator::set_device_error(
        kIllegalAddress,
        "a write outside of " + emulator::describe_address(data) + " was found when it was freed");
  });
}

Code create_stream(Stream* stream) {
  emulator::prepare_arena();
  *stream = new StreamHandle;
  return kSuccess;
}

Code synchronize_stream(Stream stream) { return stream->synchronize(); }

Code host_callback(Stream stream, void (*function)(void*), void* data) {
  return stream->enqueue([=] { function(data); });
}

Code begin_capture(Stream stream) { return stream->begin_capture(); }

Code end_capture(Stream stream, Graph* graph) { return stream->end_capture(graph); }

Code launch_graph(Graph graph, Stream stream) {
  return stream->enqueue([work = graph->work] {
    for (const std::function<void()>& item : *work) item();
  });
}

Code destroy_graph(Graph graph) {
  delete graph;
  return kSuccess;
}

Code create_event(Event* event, bool) {
  *event = new EventHandle;
  return kSuccess;
}

Code destroy_event(Event event) {
  delete event;
  return kSuccess;
}

Code record_event(Event event, Stream stream) {
  const std::shared_ptr<EventHandle::State> state = event->state;
  uint64_t number;
  {
    const std::lock_guard<std::mutex> lock(state->mutex);
    number = ++state->recorded;
  }
  return stream->enqueue([state, number] {
    {
      const std::lock_guard<std::mutex> lock(state->mutex);
      state->done = number;
      state->time = Clock::now();
    }
    state->changed.notify_all();
  });
}

Code query_event(Event event) {
  const std::lock_guard<std::mutex> lock(event->state->mutex);
  if (event->state->done != event->state->recorded) return kNotReady;
  return emulator::device_error();
}

Code synchronize_event(Event event) {
  EventHandle::State& state = *event->state;
  std::unique_lock<std::mutex> lock(state.mutex);
  state.changed.wait(lock, [&] { return state.done == state.recorded; });
  return emulator::device_error();
}

Code stream_wait(Stream stream, Event event) {
  const std::shared_ptr<EventHandle::State> state = event->state;
  return stream->enqueue([state] {
    std::unique_lock<std::mutex> lock(state->mutex);
    state->changed.wait(lock, [&] { return state->done == state->recorded; });
  });
}

Code elapsed_ms(float* ms, Event start, Event end) {
  const std::chrono::duration<float, std::milli> elapsed = end->state->time - start->state->time;
  *ms = elapsed.count();
  return emulator::device_error();
}

}  // namespace api
}  // namespace mixprec::cuda
