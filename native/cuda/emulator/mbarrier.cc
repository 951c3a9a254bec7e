#include "mbarrier.h"

#include <cstring>

#include "machine.h"

namespace mixprec::cuda::emulator {
namespace {

constexpr uint32_t kMark = 0x6d626172;
constexpr uint32_t kMostArrivals = (1u << 20) - 1;

struct MbarrierMemory {
  uint32_t mark;
  uint32_t index;
};

// The record of the mbarrier at a place; null if there is none, or something wrote over it.
Mbarrier* find(const SharedPlace& place) {
  MbarrierMemory memory;
  std::memcpy(&memory, place.data(), sizeof(memory));
  auto& all = place.block->mbarriers;
  if (memory.mark != kMark || memory.index >= all.size()) return nullptr;
  Mbarrier& found = all[memory.index];
  return found.valid && found.offset == place.offset ? &found : nullptr;
}

Mbarrier& mbarrier_at(const SharedPlace& place, const char* what) {
  Mbarrier* const found = find(place);
  if (found == nullptr) {
    fault(api::kLaunchFailure,
          std::string(what) + ": " + describe(place) +
              " is no mbarrier, it was not initialized or has been written over");
  }
  if (!found->fenced && place.block != &current_block()) {
    fault(api::kLaunchFailure, std::string(what) + ": the mbarrier at " + describe(place) +
                                   " was initialized without fence_mbarrier_init");
  }
  return *found;
}
Mbarrier& mbarrier_at(uint32_t address, const char* what) {
  return mbarrier_at(shared_place(address, 8, 8, what), what);
}

void complete_if_due(Mbarrier& barrier) {
  if (barrier.pending > 0 || barrier.bytes != 0) return;
  barrier.pending = barrier.count;
  ++barrier.phase;
  Machine& self = machine();
  self.note_progress();
  while (!barrier.waiting.empty()) self.wake(barrier.waiting.pop());
}

bool is_past(const Mbarrier& barrier, uint32_t parity) { return barrier.phase % 2 != parity; }

void check_parity(uint32_t parity) {
  if (parity > 1) {
    fault(api::kLaunchFailure,
          "the parity of an mbarrier's phase is 0 or 1, not " + std::to_string(parity));
  }
}

}  // namespace

uint8_t* SharedPlace::data() const { return block->shared.at(offset); }

uint32_t shared_address(const void* data) {
  Block& block = current_block();
  const uint32_t offset = block.shared.offset_of(data);
  if (static_cast<const uint8_t*>(data) < block.shared.at(0) || offset > block.shared.used()) {
    fault(api::kIllegalAddress, "shared_address of what is not in the block's shared memory");
  }
  return block.rank << kRankShift | (kWindowBase + offset);
}

std::string describe(const SharedPlace& place) {
  std::string text = "byte " + std::to_string(place.offset) + " of shared memory";
  if (place.block != &current_block()) {
    text += " of block " + std::to_string(place.block->rank) + " of the cluster";
  }
  return text;
}

SharedPlace shared_place(uint32_t address, uint32_t bytes, uint32_t alignment, const char* what) {
  const uint32_t rank = address >> kRankShift;
  const uint32_t in_window = address & ((1u << kRankShift) - 1);
  const std::vector<Block*>& blocks = current_block().cluster->blocks;
  if (rank >= blocks.size()) {
    fault(api::kIllegalAddress, std::string(what) + ": the cluster has no block " +
                                    std::to_string(rank) + ", address " + std::to_string(address));
  }
  const SharedPlace place{blocks[rank], in_window - kWindowBase};
  if (in_window < kWindowBase || place.offset + bytes > place.block->shared.used()) {
    fault(api::kIllegalAddress, std::string(what) + " of " + std::to_string(bytes) +
                                    " bytes out of bounds: shared byte " +
                                    std::to_string(static_cast<int32_t>(place.offset)) +
                                    ", the block has " +
                                    std::to_string(place.block->shared.used()));
  }
  if (place.offset % alignment != 0) {
    fault(api::kMisalignedAddress, "misaligned " + std::string(what) + ": " + describe(place) +
                                       " is not aligned to " + std::to_string(alignment));
  }
  if (place.block->live == 0) {
    fault(api::kLaunchFailure, std::string(what) + ": block " + std::to_string(rank) +
                                   " of the cluster has ended, and its shared memory with it");
  }
  return place;
}

SharedPlace shared_source(uint32_t address, uint32_t bytes, uint32_t alignment, const char* what) {
  const SharedPlace place = shared_place(address, bytes, alignment, what);
  if (place.block->shared.in_flight(place.offset, bytes)) {
    fault(api::kLaunchFailure, std::string(what) + " of " + describe(place) +
                                   ", to which a copy is still under way: a wait is missing");
  }
  return place;
}

SharedPlace shared_target(uint32_t address, uint32_t bytes, uint32_t alignment, const char* what) {
  const SharedPlace place = shared_place(address, bytes, alignment, what);
  const Thread& thread = machine().thread();
  if (place.block == thread.block) {
    place.block->shared.note_store(place.offset, bytes, thread.linear, thread.proxy_fences);
  }
  return place;
}

void mbarrier_init(uint32_t address, uint32_t count) {
  const SharedPlace place = shared_place(address, 8, 8, "mbarrier.init");
  Block& block = current_block();
  if (place.block != &block) fault(api::kIllegalAddress, "mbarrier.init in another block");
  if (count == 0 || count > kMostArrivals) {
    fault(api::kLaunchFailure, "an mbarrier of " + std::to_string(count) + " arrivals");
  }
  if (find(place) != nullptr) {
    fault(api::kLaunchFailure, describe(place) + " is an mbarrier already: mbarrier.inval first");
  }
  const MbarrierMemory memory{kMark, static_cast<uint32_t>(block.mbarriers.size())};
  Mbarrier barrier;
  barrier.offset = place.offset;
  barrier.count = barrier.pending = count;
  barrier.initializer = machine().thread().linear;
  barrier.valid = true;
  block.mbarriers.push_back(barrier);
  std::memcpy(place.data(), &memory, sizeof(memory));
}

void mbarrier_invalidate(uint32_t address) {
  Mbarrier& barrier = mbarrier_at(address, "mbarrier.inval");
  if (!barrier.waiting.empty()) fault(api::kLaunchFailure, "mbarrier.inval while threads wait");
  barrier.valid = false;
}

void fence_mbarriers() {
  const Thread& thread = machine().thread();
  for (Mbarrier& barrier : thread.block->mbarriers) {
    if (barrier.initializer == thread.linear) barrier.fenced = true;
  }
}

void mbarrier_arrive(uint32_t address, uint32_t count, uint32_t bytes) {
  Mbarrier& barrier = mbarrier_at(address, "mbarrier.arrive");
  if (count > barrier.pending) {
    fault(api::kLaunchFailure,
          "mbarrier.arrive: more arrivals than the " + std::to_string(barrier.count) +
              " that the mbarrier at shared byte " + std::to_string(barrier.offset) +
              " counts, before the bytes it waits for (" + std::to_string(barrier.bytes) + ")");
  }
  barrier.bytes += bytes;
  barrier.pending -= count;
  complete_if_due(barrier);
}

void mbarrier_expect(uint32_t address, uint32_t bytes) {
  mbarrier_at(address, "mbarrier.expect_tx").bytes += bytes;
}

bool mbarrier_test(uint32_t address, uint32_t parity) {
  check_parity(parity);
  const SharedPlace place = shared_place(address, 8, 8, "mbarrier.try_wait");
  if (place.block != &current_block()) {
    fault(api::kIllegalAddress, "mbarrier.try_wait on another block's mbarrier");
  }
  return is_past(mbarrier_at(place, "mbarrier.try_wait"), parity);
}

void mbarrier_wait(uint32_t address, uint32_t parity) {
  while (!mbarrier_test(address, parity)) {
    Machine& self = machine();
    mbarrier_at(address, "mbarrier.try_wait").waiting.push(&self.thread());
    self.sleep();
  }
}

void check_completion(const SharedPlace& place) {
  const Mbarrier& barrier = mbarrier_at(place, "mbarrier of a bulk copy");
  if (!barrier.fenced) {
    fault(api::kLaunchFailure,
          "a bulk copy completes on the mbarrier at " + describe(place) +
              ", which was initialized without fence_mbarrier_init or fence_proxy_async");
  }
}

void complete_bytes(const SharedPlace& place, uint32_t bytes) {
  Mbarrier* const barrier = find(place);
  if (barrier == nullptr) {
    return machine().give_up(api::kLaunchFailure,
                             "a copy completed on an mbarrier that was written over, at shared "
                             "byte " +
                                 std::to_string(place.offset));
  }
  barrier->bytes -= bytes;
  complete_if_due(*barrier);
}

void arrive_after_copies(const SharedPlace& place) {
  Mbarrier* const barrier = find(place);
  if (barrier == nullptr || barrier->pending == 0) {
    return machine().give_up(api::kLaunchFailure,
                             "cp.async.mbarrier.arrive: no mbarrier that counts this arrival, at "
                             "shared byte " +
                                 std::to_string(place.offset));
  }
  --barrier->pending;
  complete_if_due(*barrier);
}

}  // namespace mixprec::cuda::emulator
