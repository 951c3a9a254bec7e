// The devices of this process, and the events and pinned buffers that work on them shares.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "api.h"

namespace mixprec::cuda {

// How many devices can be used: 0 where there is no GPU or no driver. `reason`, if wanted, becomes
// what to tell the user in that case.
int device_count(std::string* reason = nullptr);

// Makes the device the one that this thread's API calls are for.
void use_device(int device);

// All waiting of the host for a device goes through these, which count it.
api::Code wait_for(api::Stream stream);
api::Code wait_for(api::Event event);
uint64_t host_waits();

// Events are made once and used again.
class EventPool {
 public:
  api::Event take();
  void give_back(api::Event event);

 private:
  std::mutex mutex_;
  std::vector<api::Event> idle_;
};

// Pinned host memory, by powers of two, kept for the next copy.
class PinnedPool {
 public:
  // Memory for `bytes`; null where the system refuses it.
  void* take(size_t bytes);
  void give_back(void* data, size_t bytes);
  void release_idle();

 private:
  static constexpr int kClasses = 48;
  std::mutex mutex_;
  std::vector<void*> idle_[kClasses];
};

}  // namespace mixprec::cuda
