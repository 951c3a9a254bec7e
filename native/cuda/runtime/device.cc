#include <algorithm>
#include <atomic>
#include <bit>
#include <string>

#include "device.h"
#include "error.h"

namespace mixprec::cuda {
namespace {

constexpr size_t kSmallestPinned = 4096;

struct Discovery {
  int count = 0;
  std::string reason;
};

Discovery discover() {
  Discovery found;
  const api::Code code = api::device_count(&found.count);
  if (code == api::kInsufficientDriver) {
    int version = 0;
    api::driver_version(&version);
    found.reason = version == 0 ? "no NVIDIA driver is installed"
                                : "the NVIDIA driver is older than this build's CUDA";
  } else if (code == api::kNoDevice || (code == api::kSuccess && found.count == 0)) {
    found.reason = "this machine has no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides it";
  } else if (code != api::kSuccess) {
    found.reason = std::string("CUDA does not start: ") + api::error_text(code);
  }
  return found;
}

std::atomic<uint64_t> waits{0};

int pinned_class(size_t bytes) { return std::bit_width(std::max(bytes, kSmallestPinned) - 1); }

}  // namespace

int device_count(std::string* reason) {
  static const Discovery found = discover();
  if (reason != nullptr) *reason = found.reason;
  return found.count;
}

void use_device(int device) {
  static thread_local int current = -1;
  if (current == device) return;
  require(api::set_device(device), "choosing the device");
  current = device;
}

api::Code wait_for(api::Stream stream) {
  waits.fetch_add(1, std::memory_order_relaxed);
  return api::synchronize_stream(stream);
}

api::Code wait_for(api::Event event) {
  waits.fetch_add(1, std::memory_order_relaxed);
  return api::synchronize_event(event);
}

uint64_t host_waits() { return waits.load(std::memory_order_relaxed); }

api::Event EventPool::take() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!idle_.empty()) {
      api::Event event = idle_.back();
      idle_.pop_back();
      return event;
    }
  }
  api::Event event = nullptr;
  require(api::create_event(&event, false), "making an event");
  return event;
}

void EventPool::give_back(api::Event event) {
  const std::lock_guard<std::mutex> lock(mutex_);
  idle_.push_back(event);
}

void* PinnedPool::take(size_t bytes) {
  const int size_class = pinned_class(bytes);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<void*>& idle = idle_[size_class];
    if (!idle.empty()) {
      void* data = idle.back();
      idle.pop_back();
      return data;
    }
  }
  void* data = nullptr;
  return api::allocate_pinned(&data, size_t{1} << size_class) == api::kSuccess ? data : nullptr;
}

void PinnedPool::give_back(void* data, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  idle_[pinned_class(bytes)].push_back(data);
}

void PinnedPool::release_idle() {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (std::vector<void*>& idle : idle_) {
    for (void* data : idle) api::release_pinned(data);
    idle.clear();
  }
}

}  // namespace mixprec::cuda
