#include "stream.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "fault.h"
#include "machine.h"

namespace mixprec::cuda::emulator {
namespace {

std::atomic<api::Code> sticky_error{api::kSuccess};

struct Streams {
  std::mutex mutex;
  std::vector<api::StreamHandle*> all;
  std::string report;
};
// Never destroyed: threads of streams run until the process ends.
Streams& streams() {
  static auto* const instance = new Streams;
  return *instance;
}

}  // namespace

api::Code device_error() { return sticky_error.load(); }

void set_device_error(api::Code code, const std::string& report) {
  Streams& self = streams();
  const std::lock_guard<std::mutex> lock(self.mutex);
  if (sticky_error.load() != api::kSuccess) return;
  self.report = report;
  sticky_error.store(code);
}

std::string last_report() {
  Streams& self = streams();
  const std::lock_guard<std::mutex> lock(self.mutex);
  return self.report;
}

void revive() {
  drain();
  Streams& self = streams();
  const std::lock_guard<std::mutex> lock(self.mutex);
  self.report.clear();
  sticky_error.store(api::kSuccess);
}

void drain() {
  std::vector<api::StreamHandle*> all;
  {
    const std::lock_guard<std::mutex> lock(streams().mutex);
    all = streams().all;
  }
  for (api::StreamHandle* stream : all) stream->synchronize();
}

}  // namespace mixprec::cuda::emulator

namespace mixprec::cuda::api {

StreamHandle::StreamHandle() {
  const char* blocking = std::getenv("MIXPREC_LAUNCH_BLOCKING");
  in_place_ = blocking != nullptr && std::strcmp(blocking, "1") == 0;
  emulator::Streams& registry = emulator::streams();
  {
    const std::lock_guard<std::mutex> lock(registry.mutex);
    registry.all.push_back(this);
  }
  if (!in_place_) std::thread([this] { work_through(); }).detach();
}

Code StreamHandle::enqueue(std::function<void()> work) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (captured_ != nullptr) {
      captured_->push_back(std::move(work));
      return emulator::device_error();
    }
    if (in_place_) {
      work();
      return emulator::device_error();
    }
    queue_.push_back(std::move(work));
  }
  changed_.notify_all();
  return emulator::device_error();
}

Code StreamHandle::synchronize() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (captured_ != nullptr) return kCaptureUnsupported;
  changed_.wait(lock, [this] { return queue_.empty() && !busy_; });
  return emulator::device_error();
}

Code StreamHandle::begin_capture() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (captured_ != nullptr) return kCaptureUnsupported;
  captured_ = std::make_shared<std::vector<std::function<void()>>>();
  return emulator::device_error();
}

Code StreamHandle::end_capture(Graph* graph) {
  *graph = nullptr;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (captured_ == nullptr) return kCaptureUnsupported;
  *graph = new GraphHandle{std::move(captured_)};
  captured_ = nullptr;
  return emulator::device_error();
}

void StreamHandle::work_through() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return !queue_.empty(); });
    const std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    busy_ = true;
    lock.unlock();
    work();
    lock.lock();
    busy_ = false;
    if (queue_.empty()) changed_.notify_all();
  }
}

}  // namespace mixprec::cuda::api
