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

  // A buffer of pinned memory.
  struct Pinned {
    void* data;
    size_t bytes;
  };

  void to_device(void* device, const void* host, size_t bytes);
  // As to_device while a graph is captured: every replay copies what is there now, out of pinned
  // memory that is added to `kept`.
  void capture_to_device(void* device, const void* host, size_t bytes, std::vector<Pinned>& kept);
  // Takes pinned memory back once all that is queued now is done.
  void give_back_later(const std::vector<Pinned>& kept) noexcept;
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
