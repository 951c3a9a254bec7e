#include "machine.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <numeric>

namespace mixprec::cuda::emulator {

// A stack that runs threads, one after the other.
struct Worker {
  explicit Worker(void (*entry)()) : fiber(entry) {}
  Fiber fiber;
};

thread_local BuiltIns built_ins __attribute__((tls_model("initial-exec")));
thread_local Machine* running_machine __attribute__((tls_model("initial-exec"))) = nullptr;

namespace {

// Rounds in which threads did nothing but poll before a deadlock is reported.
constexpr int kPatience = 200;
// How many blocks may be under way at a time, where those that are wait for later ones.
constexpr size_t kMaxResident = 256;

uint32_t seed_from_environment() {
  const char* text = std::getenv("MIXPREC_EMULATOR_SEED");
  return text == nullptr ? 0 : static_cast<uint32_t>(std::strtoul(text, nullptr, 10));
}

std::atomic<uint32_t>& chosen_seed() {
  static std::atomic<uint32_t> seed{seed_from_environment()};
  return seed;
}

Dim3 position(uint64_t linear, Dim3 extents) {
  const uint64_t plane = uint64_t{extents.x} * extents.y;
  return {static_cast<uint32_t>(linear % extents.x),
          static_cast<uint32_t>(linear / extents.x % extents.y),
          static_cast<uint32_t>(linear / plane)};
}

}  // namespace

Machine& machine_of_this_thread() {
  // Not in the thread's static memory, of which a loaded library gets little.
  static thread_local const auto instance = std::make_unique<Machine>();
  return *instance;
}

void run_worker() {
  Machine& self = machine();
  while (true) {
    while (self.start_thread()) {
      self.launch_->body(self.launch_->arguments);
      self.exit_thread(*self.current_);
    }
    self.idle_.push_back(self.running_);
    self.running_->fiber.switch_to(self.scheduler_);
  }
}

Machine::Machine() = default;
Machine::~Machine() = default;

uint32_t Machine::random() {
  random_ = random_ * 1664525u + 1013904223u;
  return random_ >> 8;
}

Outcome Machine::run(const Launch& launch) {
  launch_ = &launch;
  const uint32_t seed = chosen_seed().load(std::memory_order_relaxed);
  if (seed != seed_) random_ = seed * 2654435761u + 1;
  seed_ = seed;
  next_cluster_ = 0;
  progress_ = polled_progress_ = 0;
  idle_rounds_ = 0;
  failed_ = false;
  outcome_ = Outcome();
  built_ins.launch = &launch;
  running_machine = this;
  schedule();
  running_machine = nullptr;
  built_ins = BuiltIns();
  if (failed_) {
    // Threads stopped in the middle of the kernel: their stacks are of no use any more.
    workers_.clear();
    idle_.clear();
    resident_.clear();
    free_blocks_.clear();
    pool_.clear();
    starting_ = nullptr;
    to_start_.clear();
    copies_.clear();
    ready_ = polling_ = ThreadQueue();
  }
  launch_ = nullptr;
  current_ = nullptr;
  return std::move(outcome_);
}

bool Machine::start_cluster() {
  const Dim3 grid = launch_->grid;
  const Dim3 extents = launch_->cluster;
  const auto size = static_cast<uint32_t>(extents.count());
  if (next_cluster_ * size >= grid.count()) return false;
  if (!resident_.empty() && resident_.size() + size > kMaxResident) return false;
  const Dim3 clusters{grid.x / extents.x, grid.y / extents.y, grid.z / extents.z};
  const Dim3 corner = position(next_cluster_++, clusters);
  Cluster* cluster = nullptr;
  for (uint32_t rank = 0; rank < size; ++rank) {
    if (free_blocks_.empty()) {
      pool_.push_back(std::make_unique<Block>());
      free_blocks_.push_back(pool_.back().get());
    }
    Block& block = *free_blocks_.back();
    free_blocks_.pop_back();
    resident_.push_back(&block);
    const Dim3 inside = position(rank, extents);
    block.index = {corner.x * extents.x + inside.x, corner.y * extents.y + inside.y,
                   corner.z * extents.z + inside.z};
    prepare(block);
    if (rank == 0) {
      cluster = &block.own_cluster;
      cluster->blocks.clear();
      cluster->live_blocks = size;
      cluster->live = size * block.threads_total;
      cluster->arrived = 0;
      cluster->waiting = ThreadQueue();
      starting_ = &block;
    } else {
      to_start_.push_back(&block);
    }
    block.cluster = cluster;
    block.rank = rank;
    cluster->blocks.push_back(&block);
  }
  if ((seed_ & 2) != 0) std::reverse(to_start_.begin(), to_start_.end());
  return true;
}

void Machine::prepare(Block& block) {
  block.threads_total = static_cast<uint32_t>(launch_->block.count());
  block.started = 0;
  block.live = block.threads_total;
  block.next = 0;
  block.stride = 1;
  if (seed_ != 0) {
    block.next = random() % block.threads_total;
    do {
      block.stride = 1 + random() % block.threads_total;
    } while (std::gcd(block.stride, block.threads_total) != 1);
  }
  if (block.threads.size() < block.threads_total) block.threads.resize(block.threads_total);
  const uint32_t warps = (block.threads_total + kWarpSize - 1) / kWarpSize;
  if (block.warps.size() < warps) block.warps.resize(warps);
  for (uint32_t w = 0; w < warps; ++w) {
    const uint32_t lanes = std::min(kWarpSize, block.threads_total - w * kWarpSize);
    Warp& warp = block.warps[w];
    warp.lanes = &block.threads[w * kWarpSize];
    warp.live = lanes == kWarpSize ? ~0u : (1u << lanes) - 1;
    for (Meeting& meeting : warp.meetings) meeting.mask = 0;
  }
  for (Barrier& barrier : block.barriers) barrier = Barrier();
  block.mbarriers.clear();
  block.warpgroups.clear();
  block.shared.begin(launch_->shared_bytes);
}

void Machine::end_block(Block& block) {
  if (!block.shared.gaps_intact()) {
    fail(api::kIllegalAddress, "a write to shared memory went past the end of a variable");
  }
  if (const char* reason = copies_.reason_to_stay(block)) {
    fail(api::kLaunchFailure, std::string("the block ended while ") + reason);
  }
  copies_.end_block(block);
  for (const Mbarrier& barrier : block.mbarriers) {
    if (!barrier.valid || barrier.bytes == 0) continue;
    fail(api::kLaunchFailure, "the block ended with an mbarrier that " + describe_state(barrier) +
                                  ": expected and copied bytes differ");
  }
  ++progress_;
  if (--block.cluster->live_blocks == 0) end_cluster(*block.cluster);
}

// Until now the shared memory of all its blocks has been kept apart from new ones.
void Machine::end_cluster(Cluster& cluster) {
  for (Block* block : cluster.blocks) {
    resident_.erase(std::find(resident_.begin(), resident_.end(), block));
    free_blocks_.push_back(block);
  }
}

bool Machine::start_thread() {
  if (starting_ == nullptr) {
    // One block after the other without a detour through the scheduler, while nobody waits.
    if (!resident_.empty() || !ready_.empty() || !start_cluster()) return false;
  }
  Block& block = *starting_;
  const uint32_t linear = block.next;
  block.next += block.stride;
  if (block.next >= block.threads_total) block.next -= block.threads_total;
  if (++block.started == block.threads_total) {
    starting_ = nullptr;
    if (!to_start_.empty()) {
      starting_ = to_start_.front();
      to_start_.pop_front();
    }
  }
  Thread& thread = block.threads[linear];
  thread.linear = linear;
  thread.lane = linear % kWarpSize;
  const Dim3 extents = launch_->block;
  thread.index = extents.x == block.threads_total ? Dim3(linear, 0, 0) : position(linear, extents);
  thread.warp = &block.warps[linear / kWarpSize];
  thread.block = &block;
  thread.worker = running_;
  thread.copy_groups = thread.bulk_groups = thread.proxy_fences = 0;
  thread.arrived_at_cluster = thread.passed_cluster = false;
  current_ = &thread;
  built_ins.thread = &thread;
  return true;
}

void Machine::exit_thread(Thread& thread) {
  Block& block = *thread.block;
  Warp& warp = *thread.warp;
  ++progress_;
  if (!block.warpgroups.empty()) check_warpgroup_at_end(thread);
  stop_if_given_up();
  warp.live &= ~(1u << thread.lane);
  for (Meeting& meeting : warp.meetings) {
    if (meeting.mask != 0 && meeting.arrived == (meeting.mask & warp.live)) finish(meeting);
  }
  --block.live;
  Barrier& all = block.barriers[0];
  if (all.arrived > 0 && all.expected == 0 && all.arrived == block.live) open(all);
  Cluster& cluster = *block.cluster;
  --cluster.live;
  if (thread.arrived_at_cluster) --cluster.arrived;
  if (cluster.arrived > 0 && cluster.arrived == cluster.live) open(cluster);
  if (block.live == 0) end_block(block);
}

void Machine::sleep() { running_->fiber.switch_to(scheduler_); }

void Machine::wake(Thread* thread) {
  ++progress_;
  ready_.push(thread);
}

void Machine::poll() {
  polling_.push(current_);
  sleep();
}

int64_t Machine::arrive(uint32_t id, uint32_t expected, int64_t value, bool wait) {
  if (id >= 16) fail(api::kLaunchFailure, "barrier " + std::to_string(id) + " does not exist");
  if (expected % kWarpSize != 0) {
    fail(api::kLaunchFailure,
         "a barrier of " + std::to_string(expected) + " threads, no multiple of 32");
  }
  Thread& thread = *current_;
  Block& block = *thread.block;
  Barrier& barrier = block.barriers[id];
  if (barrier.arrived > 0 && barrier.expected != expected) {
    fail(api::kLaunchFailure, "threads expect different numbers at barrier " + std::to_string(id));
  }
  barrier.expected = expected;
  barrier.sum += value;
  ++barrier.arrived;
  if (barrier.arrived == (expected == 0 ? block.live : expected)) {
    open(barrier);
  } else if (wait) {
    barrier.waiting.push(&thread);
    sleep();
  }
  return block.barriers[id].last_sum;
}

void Machine::open(Barrier& barrier) {
  barrier.last_sum = barrier.sum;
  barrier.sum = 0;
  barrier.arrived = 0;
  while (!barrier.waiting.empty()) wake(barrier.waiting.pop());
  ++progress_;
}

void Machine::cluster_arrive() {
  Thread& thread = *current_;
  Cluster& cluster = *thread.block->cluster;
  if (thread.arrived_at_cluster) {
    fail(api::kLaunchFailure, "barrier.cluster.arrive twice without a wait between");
  }
  thread.arrived_at_cluster = true;
  if (++cluster.arrived == cluster.live) open(cluster);
}

void Machine::cluster_wait() {
  Thread& thread = *current_;
  Cluster& cluster = *thread.block->cluster;
  if (thread.passed_cluster) {
    thread.passed_cluster = false;
    return;
  }
  if (!thread.arrived_at_cluster) {
    fail(api::kLaunchFailure, "barrier.cluster.wait without barrier.cluster.arrive before it");
  }
  cluster.waiting.push(&thread);
  sleep();
  thread.passed_cluster = false;
}

void Machine::open(Cluster& cluster) {
  cluster.arrived = 0;
  for (Block* block : cluster.blocks) {
    for (uint32_t i = 0; i < block->threads_total; ++i) {
      Thread& thread = block->threads[i];
      if (thread.arrived_at_cluster) thread.passed_cluster = true;
      thread.arrived_at_cluster = false;
    }
  }
  while (!cluster.waiting.empty()) wake(cluster.waiting.pop());
  ++progress_;
}

Meeting& Machine::join(uint32_t mask, void (*complete)(Thread*, uint32_t)) {
  const Thread& thread = *current_;
  Warp& warp = *thread.warp;
  const uint32_t bit = 1u << thread.lane;
  if ((mask & bit) == 0)
    fail(api::kLaunchFailure, "the mask of a warp instruction lacks its own lane");
  Meeting* open_place = nullptr;
  for (Meeting& meeting : warp.meetings) {
    if (meeting.mask == 0) {
      if (open_place == nullptr) open_place = &meeting;
    } else if (meeting.mask == mask) {
      if (meeting.complete != complete) {
        fail(api::kLaunchFailure, "lanes of a warp meet in different instructions");
      }
      meeting.arrived |= bit;
      return meeting;
    }
  }
  if (open_place == nullptr) fail(api::kLaunchFailure, "a warp has diverged more than four ways");
  *open_place = Meeting{mask, bit, complete};
  return *open_place;
}

void Machine::finish(Meeting& meeting) {
  const Meeting done = meeting;
  meeting.mask = 0;
  Thread* const lanes = current_->warp->lanes;
  done.complete(lanes, done.arrived);
  for (uint32_t left = done.arrived; left != 0; left &= left - 1) {
    Thread* const lane = &lanes[__builtin_ctz(left)];
    if (lane != current_) wake(lane);
  }
}

Worker* Machine::idle_worker() {
  if (idle_.empty()) {
    workers_.push_back(std::make_unique<Worker>(run_worker));
    return workers_.back().get();
  }
  Worker* const worker = idle_.back();
  idle_.pop_back();
  return worker;
}

void Machine::run_worker_on(Worker& worker) {
  running_ = &worker;
  scheduler_.switch_to(worker.fiber);
}

void Machine::schedule() {
  while (!failed_) {
    if (seed_ != 0 && !copies_.empty() && random() % 4 == 0) copies_.deliver_one();
    const bool prefer_ready = (seed_ & 1) != 0;
    if (starting_ != nullptr && (ready_.empty() || !prefer_ready)) {
      run_worker_on(*idle_worker());
    } else if (!ready_.empty()) {
      // Rotating the queue is a shuffle of the threads' order, over time.
      if (seed_ != 0 && random() % 4 == 0) ready_.push(ready_.pop());
      current_ = ready_.pop();
      built_ins.thread = current_;
      run_worker_on(*current_->worker);
    } else if (resident_.empty()) {
      if (!start_cluster()) return copies_.deliver_all();
    } else if (copies_.deliver_one()) {
      // Nobody could run.
    } else if (stalled()) {
      outcome_ = {api::kLaunchTimeout, deadlock_report()};
      failed_ = true;
    }
  }
}

// Nobody can run but threads that poll. True if that will not change.
bool Machine::stalled() {
  if (progress_ != polled_progress_) {
    polled_progress_ = progress_;
    idle_rounds_ = 0;
  }
  // Perhaps they wait for a block that has not begun.
  if (idle_rounds_ > 2 || polling_.empty()) {
    if (start_cluster()) return false;
    if (polling_.empty() || idle_rounds_ > kPatience) return true;
  }
  ++idle_rounds_;
  while (!polling_.empty()) ready_.push(polling_.pop());
  return false;
}

void Machine::fail(api::Code code, std::string text) {
  outcome_.code = code;
  outcome_.report = text + where();
  // What this frame owns would never be freed, since the stack is given up.
  std::string().swap(text);
  failed_ = true;
  running_->fiber.switch_to(scheduler_);
  __builtin_unreachable();
}

void Machine::give_up(api::Code code, std::string text) {
  if (failed_) return;
  outcome_ = {code, std::move(text) + " in " + std::string(launch_->name)};
  failed_ = true;
}

void Machine::stop_if_given_up() {
  if (failed_) running_->fiber.switch_to(scheduler_);
}

void set_seed(uint32_t seed) { chosen_seed().store(seed); }

void fault(api::Code code, std::string text) { machine().fail(code, std::move(text)); }

}  // namespace mixprec::cuda::emulator
