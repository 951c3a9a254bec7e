// Copies between host and device through pinned buffers. A copy to the device returns once the
// source was read; a copy to the host is queued, and waited for on any thread.
#pragma once

#include <deque>
#include <memory>
#include <mutex>

#include "api.h"
#include "core/backend.h"
#include "device.h"

namespace mixprec::cuda {

class Transfers {
 public:
  Transfers(int device, api::Stream stream) : device_(device), stream_(stream) {}

  void to_device(void* device, const void* host, size_t bytes);
  std::unique_ptr<HostCopy> start_to_host(void* host, const void* device, size_t bytes);
  // Gives pinned buffers that no copy needs back to the system.
  void release_idle();

 private:
  class PinnedCopy;
  // A buffer that the device still reads, until the event.
  struct InFlight {
    api::Event done;
    void* data;
    size_t bytes;
  };
  void collect(bool wait);

  const int device_;
  const api::Stream stream_;
  EventPool events_;
  PinnedPool pinned_;
  std::mutex mutex_;
  std::deque<InFlight> in_flight_;
  size_t bytes_in_flight_ = 0;
};

}  // namespace mixprec::cuda
