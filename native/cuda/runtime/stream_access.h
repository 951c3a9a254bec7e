// Who may queue work on a device's stream: many threads at once, or the one that captures a graph.
#pragma once

#include <atomic>
#include <shared_mutex>
#include <thread>

namespace mixprec::cuda {

// A shared mutex whose exclusive owner may take it once more, shared. Meets the requirements of
// std::shared_lock.
class StreamAccess {
 public:
  void lock() {
    mutex_.lock();
    owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  }
  void unlock() {
    owner_.store(std::thread::id(), std::memory_order_relaxed);
    mutex_.unlock();
  }
  void lock_shared() {
    if (!is_mine()) mutex_.lock_shared();
  }
  void unlock_shared() {
    if (!is_mine()) mutex_.unlock_shared();
  }
  // Whether this thread has it exclusively.
  bool is_mine() const {
    return owner_.load(std::memory_order_relaxed) == std::this_thread::get_id();
  }

 private:
  std::shared_mutex mutex_;
  std::atomic<std::thread::id> owner_{};
};

}  // namespace mixprec::cuda
