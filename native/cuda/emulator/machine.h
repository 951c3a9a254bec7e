// The emulated multiprocessor: runs the threads of a grid, block after block, as fibers of one host
// thread. A thread that waits for nobody runs to its end on a stack that the next one takes over,
// so element-wise kernels cost a call a thread. Threads that meet (barriers, shuffles, votes,
// matrix instructions) give up the stack only if they are not the last to arrive.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "copies.h"
#include "cuda/runtime/api.h"
#include "fault.h"
#include "fiber.h"
#include "mbarrier.h"
#include "memory.h"
#include "shared_memory.h"
#include "thread.h"
#include "warpgroup.h"

namespace mixprec::cuda::emulator {

inline constexpr uint32_t kWarpSize = 32;

// Lanes on their way into one instruction. `complete` does the work of all of them.
struct Meeting {
  uint32_t mask = 0;  // 0: not in use
  uint32_t arrived = 0;
  void (*complete)(Thread* lanes, uint32_t arrived) = nullptr;
};

struct Warp {
  Thread* lanes = nullptr;
  uint32_t live = 0;  // lanes that have not exited
  Meeting meetings[4];
};

struct Barrier {
  uint32_t expected = 0;  // 0 for barrier 0: all threads that have not exited
  uint32_t arrived = 0;
  int64_t sum = 0;       // of what the threads brought along
  int64_t last_sum = 0;  // of the last time it opened
  ThreadQueue waiting;
};

// The blocks that run together and reach each other's shared memory; of one block, if the launch
// asks for no clusters.
struct Cluster {
  std::vector<Block*> blocks;  // by rank
  uint32_t live_blocks = 0;
  uint32_t live = 0;     // threads
  uint32_t arrived = 0;  // at the cluster's barrier
  ThreadQueue waiting;
};

struct Block {
  Dim3 index;
  Cluster* cluster = nullptr;
  uint32_t rank = 0;
  Cluster own_cluster;  // of the block of rank 0
  uint32_t threads_total = 0;
  uint32_t started = 0;
  uint32_t live = 0;
  uint32_t next = 0, stride = 1;  // the thread to start next, and how far on the one after it is
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Barrier barriers[16];
  SharedMemory shared;
  std::deque<Mbarrier> mbarriers;
  std::vector<Warpgroup> warpgroups;  // made when the first wgmma asks
};

// One kernel launch.
struct Launch {
  Dim3 grid, block, cluster;
  size_t shared_bytes = 0;
  std::string_view name;
  void (*body)(const void* arguments) = nullptr;
  const void* arguments = nullptr;
};

struct Outcome {
  api::Code code = api::kSuccess;
  std::string report;
};

class Machine {
 public:
  Machine();
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // Runs all blocks. After a fault the rest of the grid is given up.
  Outcome run(const Launch& launch);

  // For the bodies of instructions, all of which run on a fiber.
  Thread& thread() const { return *current_; }
  const Launch& launch() const { return *launch_; }
  // Stops the thread until somebody calls wake() with it.
  void sleep();
  void wake(Thread* thread);
  // Lets others run, then comes back: for loops that poll. A round of nothing but polls is a
  // deadlock.
  void poll();
  // Waits until `expected` threads (0: all that live) came to the barrier. Returns the sum of
  // `value` over them. With `wait` false the thread is counted and goes on.
  int64_t arrive(uint32_t barrier, uint32_t expected, int64_t value, bool wait);
  Meeting& join(uint32_t mask, void (*complete)(Thread*, uint32_t));
  void finish(Meeting& meeting);
  // The cluster's barrier, in two halves.
  void cluster_arrive();
  void cluster_wait();
  Copies& copies() { return copies_; }
  [[noreturn]] void fail(api::Code code, std::string text);
  // As fail(), for what is found outside of the thread that is to blame: the kernel ends soon.
  void give_up(api::Code code, std::string text);
  void stop_if_given_up();
  // Something that may end another thread's wait.
  void note_progress() { ++progress_; }
  // Whether a seed asks for another order than the plainest.
  bool is_shuffled() const { return seed_ != 0; }
  uint32_t seed() const { return seed_; }
  uint32_t random();

 private:
  friend void run_worker();
  bool start_cluster();
  void prepare(Block& block);
  void end_block(Block& block);
  void end_cluster(Cluster& cluster);
  void open(Cluster& cluster);
  bool start_thread();
  void exit_thread(Thread& thread);
  void open(Barrier& barrier);
  void run_worker_on(Worker& worker);
  Worker* idle_worker();
  void schedule();
  bool stalled();
  std::string where() const;
  std::string deadlock_report() const;

  const Launch* launch_ = nullptr;
  Thread* current_ = nullptr;
  Worker* running_ = nullptr;
  Fiber scheduler_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> idle_;
  std::vector<std::unique_ptr<Block>> pool_;
  std::vector<Block*> resident_;
  std::vector<Block*> free_blocks_;
  Block* starting_ = nullptr;    // the resident block that has threads to start
  std::deque<Block*> to_start_;  // blocks of the same cluster that are next
  ThreadQueue ready_;
  ThreadQueue polling_;
  Copies copies_{*this};
  uint64_t next_cluster_ = 0;
  uint64_t progress_ = 0;  // counts all that can end somebody's wait
  uint64_t polled_progress_ = 0;
  int idle_rounds_ = 0;
  uint32_t seed_ = 0;
  uint32_t random_ = 0;
  Outcome outcome_;
  bool failed_ = false;
};

// The machine of this host thread, to run a kernel with; and the one that runs the kernel.
Machine& machine_of_this_thread();
extern thread_local Machine* running_machine __attribute__((tls_model("initial-exec")));
inline Machine& machine() { return *running_machine; }
inline Block& current_block() { return *machine().thread().block; }

// What the built-in variables of CUDA stand for; see ptx/kernel.h.
struct BuiltIns {
  const Thread* thread = nullptr;
  const Launch* launch = nullptr;
};
extern thread_local BuiltIns built_ins __attribute__((tls_model("initial-exec")));

// All lanes of `mask` meet; the last to arrive runs `complete`, which gets the operands of each
// lane (null for a lane that takes no part) and must not capture anything.
template <class Operands, class Complete>
void warp_meet(uint32_t mask, Operands& mine, Complete) {
  Machine& self = machine();
  self.thread().operands = &mine;
  constexpr auto kRun = [](Thread* lanes, uint32_t arrived) {
    Operands* operands[kWarpSize];
    for (uint32_t lane = 0; lane < kWarpSize; ++lane) {
      operands[lane] =
          (arrived >> lane & 1) != 0 ? static_cast<Operands*>(lanes[lane].operands) : nullptr;
    }
    Complete{}(operands);
  };
  Meeting& meeting = self.join(mask, kRun);
  if (meeting.arrived == (mask & self.thread().warp->live)) {
    self.finish(meeting);
  } else {
    self.sleep();
  }
}

}  // namespace mixprec::cuda::emulator
