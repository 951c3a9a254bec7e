#include "transfer.h"

#include <algorithm>
#include <cstring>

#include "error.h"

namespace mixprec::cuda {
namespace {

// A large copy goes in pieces, so that copying into pinned memory overlaps the transfer.
constexpr size_t kPiece = size_t{8} << 20;
constexpr size_t kMostInFlight = size_t{64} << 20;
// Beyond this a copy to the host goes straight to its target, which is slower but takes no memory.
constexpr size_t kMostPinned = size_t{1} << 30;

}  // namespace

// A copy to the host that was queued: into a pinned buffer, then by wait() to where it belongs.
class Transfers::PinnedCopy final : public HostCopy {
 public:
  PinnedCopy(Transfers& owner, void* host, void* pinned, size_t bytes, api::Event done)
      : owner_(owner), host_(host), pinned_(pinned), bytes_(bytes), done_(done) {}
  ~PinnedCopy() override {
    // An abandoned copy may still be on its way.
    if (!arrived_) wait_for(done_);
    owner_.pinned_.give_back(pinned_, bytes_);
    owner_.events_.give_back(done_);
  }
  void wait() override {
    use_device(owner_.device_);
    require(wait_for(done_), "copying to the host");
    arrived_ = true;
    std::memcpy(host_, pinned_, bytes_);
  }

 private:
  Transfers& owner_;
  void* host_;
  void* pinned_;
  size_t bytes_;
  api::Event done_;
  bool arrived_ = false;
};

// Takes back the buffers whose copies are done; with `wait`, the oldest one at least.
void Transfers::collect(bool wait) {
  while (!in_flight_.empty()) {
    const InFlight& oldest = in_flight_.front();
    if (!wait && api::query_event(oldest.done) == api::kNotReady) return;
    if (wait) wait_for(oldest.done);
    wait = false;
    pinned_.give_back(oldest.data, oldest.bytes);
    events_.give_back(oldest.done);
    bytes_in_flight_ -= oldest.bytes;
    in_flight_.pop_front();
  }
}

void Transfers::to_device(void* device, const void* host, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  collect(false);
  for (size_t at = 0; at < bytes; at += kPiece) {
    const size_t count = std::min(kPiece, bytes - at);
    const char* from = static_cast<const char*>(host) + at;
    char* to = static_cast<char*>(device) + at;
    while (bytes_in_flight_ > 0 && bytes_in_flight_ + count > kMostInFlight) collect(true);
    void* const pinned = pinned_.take(count);
    if (pinned == nullptr) {
      // Pageable memory: the call itself waits until it was read.
      require(api::copy_to_device(to, from, count, stream_), "copying to the device");
      require(wait_for(stream_), "copying to the device");
      continue;
    }
    std::memcpy(pinned, from, count);
    const api::Event done = events_.take();
    in_flight_.push_back({done, pinned, count});
    bytes_in_flight_ += count;
    require(api::copy_to_device(to, pinned, count, stream_), "copying to the device");
    require(api::record_event(done, stream_), "copying to the device");
  }
}

void Transfers::capture_to_device(void* device, const void* host, size_t bytes,
                                  std::vector<Pinned>& kept) {
  if (bytes == 0) return;
  void* const pinned = pinned_.take(bytes);
  if (pinned == nullptr) {
    throw Error(ErrorCode::kOutOfMemory,
                "out of pinned host memory: " + std::to_string(bytes) +
                    " bytes were asked for to be copied at every replay of a graph");
  }
  kept.push_back({pinned, bytes});
  std::memcpy(pinned, host, bytes);
  require(api::copy_to_device(device, pinned, bytes, stream_), "copying to the device");
}

void Transfers::give_back_later(const std::vector<Pinned>& kept) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const Pinned& buffer : kept) {
    const api::Event done = events_.take();
    api::record_event(done, stream_);
    in_flight_.push_back({done, buffer.data, buffer.bytes});
    bytes_in_flight_ += buffer.bytes;
  }
}

std::unique_ptr<HostCopy> Transfers::start_to_host(void* host, const void* device, size_t bytes) {
  void* const pinned = bytes <= kMostPinned ? pinned_.take(bytes) : nullptr;
  if (pinned == nullptr) {
    require(api::copy_to_host(host, device, bytes, stream_), "copying to the host");
    require(wait_for(stream_), "copying to the host");
    return nullptr;
  }
  const api::Event done = events_.take();
  auto copy = std::make_unique<PinnedCopy>(*this, host, pinned, bytes, done);
  require(api::copy_to_host(pinned, device, bytes, stream_), "copying to the host");
  require(api::record_event(done, stream_), "copying to the host");
  return copy;
}

void Transfers::release_idle() {
  const std::lock_guard<std::mutex> lock(mutex_);
  collect(false);
  pinned_.release_idle();
}

}  // namespace mixprec::cuda
