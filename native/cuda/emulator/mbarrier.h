// Mbarriers, and the addresses by which instructions name shared memory. All functions but
// complete_bytes() are the bodies of instructions: they run on a fiber and report faults.
#pragma once

#include <cstdint>
#include <string>

#include "thread.h"

namespace mixprec::cuda::emulator {

// An mbarrier's memory holds a mark and where in its block this record is: plain stores to it, and
// use before the initialization, are found that way.
struct Mbarrier {
  uint32_t offset = 0;
  uint32_t count = 0;    // arrivals that complete a phase
  uint32_t pending = 0;  // of this phase
  int64_t bytes = 0;     // expected and not copied yet; negative where the copies came first
  uint32_t phase = 0;
  uint32_t initializer = 0;  // the thread
  bool fenced = false;       // visible to copies and to other blocks
  bool valid = false;
  ThreadQueue waiting;
};
// "lies at shared byte 64 (phase 0, 1 of 2 arrivals, 0 bytes outstanding)".
std::string describe_state(const Mbarrier& barrier);

// A place in the shared memory of a block of the thread's cluster.
struct SharedPlace {
  Block* block = nullptr;
  uint32_t offset = 0;

  uint8_t* data() const;
};

// Addresses have 32 bits: the block's rank in its cluster, and the place in its window, where the
// first KiB belongs to the system.
inline constexpr uint32_t kWindowBase = 1024;
inline constexpr uint32_t kRankShift = 24;

uint32_t shared_address(const void* data);
// `what` names the access in the report of a fault.
SharedPlace shared_place(uint32_t address, uint32_t bytes, uint32_t alignment, const char* what);
// The same, for one that reads: copies that are under way to these bytes are a fault.
SharedPlace shared_source(uint32_t address, uint32_t bytes, uint32_t alignment, const char* what);
// The same, for one that stores as a thread does.
SharedPlace shared_target(uint32_t address, uint32_t bytes, uint32_t alignment, const char* what);
// "byte 2048 of shared memory", with the block if it is another one.
std::string describe(const SharedPlace& place);

void mbarrier_init(uint32_t address, uint32_t count);
void mbarrier_invalidate(uint32_t address);
void fence_mbarriers();
// Expects `bytes` more, then arrives `count` times.
void mbarrier_arrive(uint32_t address, uint32_t count, uint32_t bytes);
void mbarrier_expect(uint32_t address, uint32_t bytes);
bool mbarrier_test(uint32_t address, uint32_t parity);
void mbarrier_wait(uint32_t address, uint32_t parity);
// Faults unless copies can complete on the mbarrier.
void check_completion(const SharedPlace& place);

// What a landed copy does; also outside of fibers.
void complete_bytes(const SharedPlace& place, uint32_t bytes);
void arrive_after_copies(const SharedPlace& place);

// Where it lies and what it waits for, as reports say it.
std::string describe_state(const Mbarrier& barrier);

}  // namespace mixprec::cuda::emulator
