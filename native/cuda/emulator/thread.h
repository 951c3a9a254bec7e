// A thread of an emulated block, and the queues that threads wait in.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/runtime/api.h"

namespace mixprec::cuda::emulator {

struct Block;
struct Warp;
struct Worker;

// A cp.async that has not landed yet, or the arrival that follows those before it.
struct AsyncCopy {
  const void* from = nullptr;
  uint32_t offset = 0;  // in the block's shared memory; of the mbarrier, if this is an arrival
  uint32_t group = 0;   // how many groups the thread had committed before
  uint8_t bytes = 0;
  uint8_t source_bytes = 0;  // the rest becomes zero
  bool arrival = false;
};

struct Thread {
  Dim3 index;
  uint32_t linear = 0;
  uint32_t lane = 0;
  Warp* warp = nullptr;
  Block* block = nullptr;
  Worker* worker = nullptr;
  Thread* next = nullptr;    // in the one queue that holds this thread
  void* operands = nullptr;  // of the instruction in which it meets others

  std::vector<AsyncCopy> copies;
  bool listed = false;  // among the threads whose copies may land at any time
  uint32_t copy_groups = 0;
  uint32_t bulk_groups = 0;
  uint32_t proxy_fences = 0;  // how often it made its writes visible to asynchronous copies
  bool arrived_at_cluster = false;
  bool passed_cluster = false;  // its barrier opened after this thread arrived
};

// A first-in, first-out queue through Thread::next.
class ThreadQueue {
 public:
  bool empty() const { return first_ == nullptr; }
  const Thread* first() const { return first_; }
  void push(Thread* thread) {
    thread->next = nullptr;
    (first_ == nullptr ? first_ : last_->next) = thread;
    last_ = thread;
  }
  Thread* pop() {
    Thread* thread = first_;
    first_ = thread->next;
    return thread;
  }

 private:
  Thread* first_ = nullptr;
  Thread* last_ = nullptr;
};

}  // namespace mixprec::cuda::emulator
