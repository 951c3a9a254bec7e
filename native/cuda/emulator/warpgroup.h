// wgmma: matrix products that four warps issue together and that run while the threads go on. They
// run as late as can be, so that what changes shared memory too early is seen; a thread's
// accumulators are NaN until it has waited.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "fragments.h"
#include "thread.h"

namespace mixprec::cuda::emulator {

inline constexpr uint32_t kWarpgroupThreads = 128;

// One wgmma.mma_async, as all threads of the warpgroup give it.
struct WgmmaShape {
  OperandType type = OperandType::kFloat16;
  uint16_t n = 0;
  bool a_in_registers = false;
  bool a_mn_major = false;
  bool b_mn_major = false;

  bool operator==(const WgmmaShape&) const = default;
};

// The sums of a 64 x n tile, which products of the same registers add to one after the other.
struct WgmmaSums {
  std::vector<float> tile;  // int32_t bits of integers
  float* registers[kWarpgroupThreads] = {};
  uint16_t n = 0;
  uint32_t products = 0;  // that have not run
};

struct WgmmaProduct {
  WgmmaShape shape;
  bool accumulate = true;
  uint64_t descriptor_a = 0;
  uint64_t descriptor_b = 0;
  std::vector<uint32_t> a;  // four registers of each thread
  std::shared_ptr<WgmmaSums> sums;
  uint32_t issued = 0;  // threads
};

class Warpgroup {
 public:
  struct Operands {
    uint64_t descriptor_a = 0;
    uint64_t descriptor_b = 0;
    const uint32_t* a = nullptr;
    float* registers = nullptr;
    bool accumulate = true;
  };

  const ThreadQueue& waiting() const { return waiting_; }
  void fence(const Thread& thread);
  void issue(const Thread& thread, const WgmmaShape& shape, const Operands& operands);
  void commit(const Thread& thread);
  void wait(Thread& thread, uint32_t pending);
  // Whether the thread has products whose end it did not wait for.
  bool busy(const Thread& thread) const;

 private:
  struct Member {
    uint64_t issued = 0;  // products
    uint64_t groups = 0;  // committed
    bool fenced = false;  // since it last had access to its registers
  };

  uint64_t last_issued() const { return run_ + products_.size(); }
  std::shared_ptr<WgmmaSums> sums_of(uint32_t member, const WgmmaShape& shape, float* registers);
  void take_registers(WgmmaSums& sums, uint32_t member, float* registers);
  bool committed_by_all(uint64_t group) const;
  void run_until(uint64_t product);
  void run(WgmmaProduct& product);

  Member members_[kWarpgroupThreads];
  std::deque<WgmmaProduct> products_;  // that have not run
  uint64_t run_ = 0;
  std::vector<uint64_t> group_ends_;  // the product after each group's last
  ThreadQueue waiting_;
};

// The running thread's; faults where it has none.
Warpgroup& warpgroup();
void check_warpgroup_at_end(const Thread& thread);

}  // namespace mixprec::cuda::emulator
