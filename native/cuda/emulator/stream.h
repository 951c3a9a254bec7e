// Emulated streams: a queue and a host thread that works through it, so that a kernel runs after
// the call that launched it has returned. With MIXPREC_LAUNCH_BLOCKING=1 work runs in place
// instead.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda/runtime/api.h"

namespace mixprec::cuda::api {

// Work that was captured, shared with its launches that are still queued.
struct GraphHandle {
  std::shared_ptr<std::vector<std::function<void()>>> work;
};

struct StreamHandle {
 public:
  StreamHandle();

  // Queues work, or keeps it while a graph is captured. Returns the device's error, if it has died.
  Code enqueue(std::function<void()> work);
  // Fails while a graph is captured.
  Code synchronize();
  Code begin_capture();
  Code end_capture(Graph* graph);

 private:
  void work_through();

  bool in_place_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  std::shared_ptr<std::vector<std::function<void()>>> captured_;  // null unless capturing
  bool busy_ = false;
};

}  // namespace mixprec::cuda::api

namespace mixprec::cuda::emulator {

// What ails the device; errors stick to it, as they do to a CUDA context.
api::Code device_error();
void set_device_error(api::Code code, const std::string& report);

// Waits for all streams.
void drain();

}  // namespace mixprec::cuda::emulator
