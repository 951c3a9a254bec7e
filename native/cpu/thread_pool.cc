// Persistent workers that share the pieces of one job at a time. A job is announced by one atomic
// word; workers look at it for a moment before they sleep, so that the many small regions of a
// training step cost no system calls.
#include "thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#endif

#include "core/errors.h"
#include "cpu_count.h"

namespace mixprec::cpu {
namespace {

using Body = std::function<void(int64_t, int64_t)>;

constexpr int kMaxThreads = 1024;
// More pieces than threads, so that one that comes late or is interrupted holds up little.
constexpr int64_t kPiecesPerThread = 4;
constexpr auto kSpinTime = std::chrono::microseconds(40);

// Set while this thread runs a piece of a job.
thread_local bool inside_job = false;

void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield" ::: "memory");
#endif
}

// Whether `done` came true within the time that spinning may take.
template <class Condition>
bool spin_until(const Condition& done, bool may_spin) {
  if (done()) return true;
  if (!may_spin) return false;
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 16; ++i) {
      pause_briefly();
      if (done()) return true;
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

// Threads of this library are not for handling the process's signals.
class BlockedSignals {
 public:
#if defined(__unix__) || defined(__APPLE__)
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }

 private:
  sigset_t previous_;
#endif
};

class Pool {
 public:
  Pool(int threads, int cores) : threads_(threads), cores_(cores) {}

  int threads() const { return threads_.load(std::memory_order_relaxed); }

  void set_threads(int count) {
    const std::lock_guard<std::mutex> lock(mutex_);
    threads_.store(count);
    started_.store(std::min(started_.load(std::memory_order_relaxed), count - 1),
                   std::memory_order_relaxed);
    // Workers that are too many leave when they wake.
    wake_.notify_all();
  }

  void run(int64_t count, int64_t piece, const Body& body);

 private:
  // Pieces are taken by counting down the low half of this word; the high half counts jobs, so that
  // a worker that comes late cannot take a piece of a job that is over.
  static constexpr uint64_t kPieceMask = 0xffffffffu;

  void start_workers();
  void work(int index);
  void take_pieces();
  bool may_spin() const { return threads() <= cores_; }
  bool has_work() const { return (state_.load(std::memory_order_seq_cst) & kPieceMask) != 0; }

  std::atomic<int> threads_;
  const int cores_;

  std::mutex job_mutex_;  // held by the caller whose job runs
  std::atomic<uint64_t> state_{0};
  std::atomic<int64_t> unfinished_{0};
  // Of the running job: written only while no piece is to be taken.
  const Body* body_ = nullptr;
  int64_t count_ = 0;
  int64_t piece_ = 0;
  std::atomic<bool> failed_{false};
  std::exception_ptr failure_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable finished_;
  std::atomic<int> sleeping_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::vector<bool> alive_;  // by worker
  // Workers 0 to started_ - 1 are alive and stay: fewer than threads_. Those beyond, which may take
  // their time to leave, do not count.
  std::atomic<int> started_{0};
};

void Pool::take_pieces() {
  uint64_t state = state_.load(std::memory_order_acquire);
  while ((state & kPieceMask) != 0) {
    if (!state_.compare_exchange_weak(state, state - 1, std::memory_order_acq_rel)) continue;
    const auto index = static_cast<int64_t>((state & kPieceMask) - 1);
    if (!failed_.load(std::memory_order_relaxed)) {
      try {
        (*body_)(index * piece_, std::min(count_, (index + 1) * piece_));
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!failure_) failure_ = std::current_exception();
        failed_.store(true, std::memory_order_relaxed);
      }
    }
    // From here on the job may be over, for the last piece: nothing of it is touched any more.
    if (unfinished_.fetch_sub(1, std::memory_order_seq_cst) == 1 &&
        caller_sleeps_.load(std::memory_order_seq_cst)) {
      const std::lock_guard<std::mutex> lock(mutex_);
      finished_.notify_one();
    }
    state = state_.load(std::memory_order_acquire);
  }
}

void Pool::work(int index) {
  inside_job = true;
  while (true) {
    take_pieces();
    if (spin_until([&] { return has_work(); }, may_spin())) continue;
    std::unique_lock<std::mutex> lock(mutex_);
    const auto too_many = [&] { return index + 1 >= threads(); };
    sleeping_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, [&] { return has_work() || too_many(); });
    sleeping_.fetch_sub(1, std::memory_order_relaxed);
    if (too_many()) {
      alive_[static_cast<size_t>(index)] = false;
      return;
    }
  }
}

void Pool::start_workers() {
  if (started_.load(std::memory_order_relaxed) >= threads() - 1) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  const BlockedSignals blocked;
  const int wanted = threads() - 1;
  for (int index = 0; index < wanted; ++index) {
    const auto slot = static_cast<size_t>(index);
    if (slot == alive_.size()) alive_.push_back(false);
    if (alive_[slot]) continue;
    try {
      // Detached: a worker waits for work until the process ends, and must not hold that up.
      std::thread(&Pool::work, this, index).detach();
    } catch (const std::system_error&) {
      return;  // The system has no more threads: those there are do the work.
    }
    alive_[slot] = true;
  }
  started_.store(wanted, std::memory_order_relaxed);
}

void Pool::run(int64_t count, int64_t piece, const Body& body) {
  const std::unique_lock<std::mutex> job(job_mutex_, std::try_to_lock);
  // Another JavaScript thread has the workers.
  if (!job.owns_lock()) return body(0, count);
  const int64_t pieces = (count + piece - 1) / piece;
  const int64_t helpers = std::min<int64_t>(threads(), pieces) - 1;
  start_workers();
  body_ = &body;
  count_ = count;
  piece_ = piece;
  failed_.store(false, std::memory_order_relaxed);
  failure_ = nullptr;
  unfinished_.store(pieces, std::memory_order_relaxed);
  const uint64_t generation = (state_.load(std::memory_order_relaxed) >> 32) + 1;
  state_.store((generation << 32) | static_cast<uint64_t>(pieces), std::memory_order_seq_cst);
  if (sleeping_.load(std::memory_order_seq_cst) > 0) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (int64_t i = 0; i < helpers; ++i) wake_.notify_one();
  }
  inside_job = true;
  take_pieces();
  inside_job = false;
  const auto done = [&] { return unfinished_.load(std::memory_order_seq_cst) == 0; };
  if (!spin_until(done, may_spin())) {
    std::unique_lock<std::mutex> lock(mutex_);
    caller_sleeps_.store(true, std::memory_order_seq_cst);
    finished_.wait(lock, done);
    caller_sleeps_.store(false, std::memory_order_relaxed);
  }
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

int initial_threads() {
  const char* text = std::getenv("MIXPREC_NUM_THREADS");
  if (text == nullptr || *text == '\0') return usable_cores();
  char* end = nullptr;
  const long count = std::strtol(text, &end, 10);
  if (*end != '\0' || count < 1 || count > kMaxThreads) {
    throw Error(ErrorCode::kArgument, "MIXPREC_NUM_THREADS — expected a whole number from 1 to " +
                                          std::to_string(kMaxThreads) + ", got \"" + text + "\"");
  }
  return static_cast<int>(count);
}

// Never destroyed, since its workers outlive static destruction.
std::atomic<Pool*> the_pool{nullptr};
std::atomic<int> parent_threads{0};

// A forked child has none of the parent's threads and may have copied a lock that is held: it makes
// a pool of its own when it needs one. Nothing more may happen here, before an exec for example.
void after_fork_in_child() {
  const Pool* parent = the_pool.load();
  if (parent != nullptr) parent_threads.store(parent->threads());
  the_pool.store(nullptr);
  inside_job = false;
}

Pool& pool() {
  if (Pool* existing = the_pool.load(std::memory_order_acquire)) return *existing;
#if defined(__unix__) || defined(__APPLE__)
  [[maybe_unused]] static const int registered =
      pthread_atfork(nullptr, nullptr, after_fork_in_child);
#endif
  const int inherited = parent_threads.load();
  auto* created = new Pool(inherited > 0 ? inherited : initial_threads(), usable_cores());
  Pool* existing = nullptr;
  if (the_pool.compare_exchange_strong(existing, created)) return *created;
  delete created;
  return *existing;
}

}  // namespace

int num_threads() { return pool().threads(); }

int usable_threads() { return inside_job ? 1 : num_threads(); }

void set_num_threads(int count) {
  if (count < 1 || count > kMaxThreads) {
    throw Error(ErrorCode::kArgument, "setNumThreads: expected a whole number from 1 to " +
                                          std::to_string(kMaxThreads) + ", got " +
                                          std::to_string(count));
  }
  pool().set_threads(count);
}

void parallel_for(int64_t count, int64_t grain, const Body& body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  if (count <= grain || inside_job) return body(0, count);
  Pool& workers = pool();
  const int64_t threads = workers.threads();
  if (threads == 1) return body(0, count);
  const int64_t most_pieces = threads * kPiecesPerThread;
  const int64_t piece = std::max(grain, (count + most_pieces - 1) / most_pieces);
  workers.run(count, piece, body);
}

}  // namespace mixprec::cpu
