// What the machine says of a fault: where it happened, and who waits for whom.
#include "machine.h"

namespace mixprec::cuda::emulator {
namespace {

std::string text_of(Dim3 index) {
  std::string text = "(";
  text += std::to_string(index.x) + ", " + std::to_string(index.y) + ", ";
  return text + std::to_string(index.z) + ")";
}

// "warps 0 and 3 wait", of the threads in a queue.
std::string warps_in(const ThreadQueue& queue) {
  uint32_t warps = 0;
  for (const Thread* thread = queue.first(); thread != nullptr; thread = thread->next) {
    warps |= 1u << thread->linear / kWarpSize;
  }
  std::string text = "waiting: warp";
  for (uint32_t warp = 0; warp < 32; ++warp) {
    if ((warps >> warp & 1) != 0) text.append(" ").append(std::to_string(warp));
  }
  return text;
}

}  // namespace

std::string describe_state(const Mbarrier& barrier) {
  return "lies at shared byte " + std::to_string(barrier.offset) + " (phase " +
         std::to_string(barrier.phase) + ", " + std::to_string(barrier.count - barrier.pending) +
         " of " + std::to_string(barrier.count) + " arrivals, " + std::to_string(barrier.bytes) +
         " bytes outstanding)";
}

std::string Machine::where() const {
  std::string text = " in " + std::string(launch_->name);
  if (current_ == nullptr) return text;
  text += ", block " + text_of(current_->block->index) + ", thread " + text_of(current_->index);
  return text + " (warp " + std::to_string(current_->linear / kWarpSize) + ", lane " +
         std::to_string(current_->lane) + ")";
}

std::string Machine::deadlock_report() const {
  std::string text = "deadlock in " + std::string(launch_->name);
  for (const Block* block : resident_) {
    if (block->live == 0) continue;
    if (block != resident_.front() && text.size() > 400) return text + ", and more";
    text += ", block " + text_of(block->index) + ": threads still waiting:";
    const uint32_t warps = (block->threads_total + kWarpSize - 1) / kWarpSize;
    for (uint32_t w = 0; w < warps; ++w) {
      const int lanes = __builtin_popcount(block->warps[w].live);
      if (lanes > 0) text += " warp " + std::to_string(w) + " (" + std::to_string(lanes) + ")";
    }
    for (uint32_t id = 0; id < 16; ++id) {
      const Barrier& barrier = block->barriers[id];
      if (barrier.arrived == 0) continue;
      text += "; barrier " + std::to_string(id) + " has " + std::to_string(barrier.arrived) +
              " of " + std::to_string(barrier.expected == 0 ? block->live : barrier.expected);
    }
    for (const Mbarrier& barrier : block->mbarriers) {
      if (barrier.waiting.empty()) continue;
      text +=
          "; " + warps_in(barrier.waiting) + " for the mbarrier that " + describe_state(barrier);
    }
    for (const Warpgroup& group : block->warpgroups) {
      if (group.waiting().empty()) continue;
      text +=
          "; " + warps_in(group.waiting()) + " for wgmma that not all of its warpgroup committed";
    }
    const Cluster& cluster = *block->cluster;
    if (cluster.arrived > 0) {
      text += "; the cluster's barrier has " + std::to_string(cluster.arrived) + " of " +
              std::to_string(cluster.live);
    }
  }
  return text;
}

}  // namespace mixprec::cuda::emulator
