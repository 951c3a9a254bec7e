#include "machine.h"

#include <algorithm>
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

Dim3 position(uint64_t linear, Dim3 extents) {
  const uint64_t plane = uint64_t{extents.x} * extents.y;
  return {static_cast<uint32_t>(linear % extents.x),
          static_cast<uint32_t>(linear / extents.x % extents.y),
          static_cast<uint32_t>(linear / plane)};
}

std::string text_of(Dim3 index) {
  std::string text = "(";
  text += std::to_string(index.x) + ", " + std::to_string(index.y) + ", ";
  return text + std::to_string(index.z) + ")";
}

}  // namespace

Machine& machine_of_this_thread() {
  static thread_local Machine instance;
  return instance;
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

Machine::Machine() : seed_(seed_from_environment()), random_(seed_ * 2654435761u + 1) {}
Machine::~Machine() = default;

uint32_t Machine::random() {
  random_ = random_ * 1664525u + 1013904223u;
  return random_ >> 8;
}

Outcome Machine::run(const Launch& launch) {
  launch_ = &launch;
  next_block_ = 0;
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
    ready_ = polling_ = ThreadQueue();
  }
  launch_ = nullptr;
  current_ = nullptr;
  return std::move(outcome_);
}

bool Machine::start_block() {
  if (next_block_ >= launch_->grid.count() || resident_.size() >= kMaxResident) return false;
  if (free_blocks_.empty()) {
    pool_.push_back(std::make_unique<Block>());
    free_blocks_.push_back(pool_.back().get());
  }
  Block& block = *free_blocks_.back();
  free_blocks_.pop_back();
  resident_.push_back(&block);
  block.index = position(next_block_++, launch_->grid);
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
  block.shared.begin(launch_->shared_bytes);
  starting_ = &block;
  return true;
}

void Machine::end_block(Block& block) {
  if (!block.shared.gaps_intact()) {
    fail(api::kIllegalAddress, "a write to shared memory went past the end of a variable");
  }
  resident_.erase(std::find(resident_.begin(), resident_.end(), &block));
  free_blocks_.push_back(&block);
  ++progress_;
}

bool Machine::start_thread() {
  if (starting_ == nullptr) {
    // One block after the other without a detour through the scheduler, while nobody waits.
    if (!resident_.empty() || !ready_.empty() || !start_block()) return false;
  }
  Block& block = *starting_;
  const uint32_t linear = block.next;
  block.next += block.stride;
  if (block.next >= block.threads_total) block.next -= block.threads_total;
  if (++block.started == block.threads_total) starting_ = nullptr;
  Thread& thread = block.threads[linear];
  thread.linear = linear;
  thread.lane = linear % kWarpSize;
  const Dim3 extents = launch_->block;
  thread.index = extents.x == block.threads_total ? Dim3(linear, 0, 0) : position(linear, extents);
  thread.warp = &block.warps[linear / kWarpSize];
  thread.block = &block;
  thread.worker = running_;
  current_ = &thread;
  built_ins.thread = &thread;
  return true;
}

void Machine::exit_thread(Thread& thread) {
  Block& block = *thread.block;
  Warp& warp = *thread.warp;
  ++progress_;
  warp.live &= ~(1u << thread.lane);
  for (Meeting& meeting : warp.meetings) {
    if (meeting.mask != 0 && meeting.arrived == (meeting.mask & warp.live)) finish(meeting);
  }
  --block.live;
  Barrier& all = block.barriers[0];
  if (all.arrived > 0 && all.expected == 0 && all.arrived == block.live) open(all);
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
      if (!start_block()) return;
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
    if (start_block()) return false;
    if (polling_.empty() || idle_rounds_ > kPatience) return true;
  }
  ++idle_rounds_;
  while (!polling_.empty()) ready_.push(polling_.pop());
  return false;
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
  }
  return text;
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

void fault(api::Code code, std::string text) { machine().fail(code, std::move(text)); }

}  // namespace mixprec::cuda::emulator
