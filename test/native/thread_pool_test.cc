// The thread pool: coverage of ranges, nesting, exceptions, callers on several threads, settings,
// forks and exits.
#include "cpu/thread_pool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

#include "cpu/cpu_count.h"
#include "testing.h"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/wait.h>
#include <unistd.h>
#endif

using namespace mixprec;
using namespace mixprec::testing;
using cpu::num_threads;
using cpu::parallel_for;
using cpu::set_num_threads;

namespace {

// Each of `threads` threads comes to the same job.
void expect_all_present(int threads) {
  std::mutex mutex;
  std::condition_variable all_here;
  std::set<std::thread::id> present;
  bool complete = false;
  parallel_for(threads, 1, [&](int64_t, int64_t) {
    std::unique_lock<std::mutex> lock(mutex);
    present.insert(std::this_thread::get_id());
    if (static_cast<int>(present.size()) == threads) complete = true;
    all_here.notify_all();
    // Bounded, so that a pool with too few threads fails instead of hanging.
    all_here.wait_for(lock, std::chrono::seconds(20), [&] { return complete; });
  });
  EXPECT(complete, shown(present.size()) + " of " + shown(threads));
  EXPECT(present.count(std::this_thread::get_id()) == 1, "the caller did not take part");
}

#if defined(__unix__) || defined(__APPLE__)
// The exit code of a forked child that ends with `body`'s result.
int in_child(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    int code = 99;
    try {
      code = body();
    } catch (...) {
    }
    std::exit(code);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Comes first: the setting is read when the pool is first used.
TEST("MIXPREC_NUM_THREADS is the initial number of threads, and a bad one an ArgumentError") {
  for (const int wanted : {1, 3, 1024}) {
    EXPECT_EQ(in_child([=] {
                setenv("MIXPREC_NUM_THREADS", std::to_string(wanted).c_str(), 1);
                return num_threads() == wanted ? 0 : 1;
              }),
              0);
  }
  for (const char* bad : {"0", "-2", "1025", "two", "2.5", "2 ", "99999999999999999999"}) {
    EXPECT_EQ(in_child([=] {
                setenv("MIXPREC_NUM_THREADS", bad, 1);
                try {
                  num_threads();
                } catch (const Error& error) {
                  const bool named = std::string(error.what()).find(bad) != std::string::npos;
                  return error.code() == ErrorCode::kArgument && named ? 0 : 1;
                }
                return 2;
              }),
              0);
  }
}
#endif

TEST("the initial number of threads is that of the usable cores") {
  if (std::getenv("MIXPREC_NUM_THREADS") == nullptr) EXPECT_EQ(num_threads(), cpu::usable_cores());
  EXPECT(cpu::usable_cores() >= 1, "no cores");
  EXPECT(cpu::usable_cores() <= static_cast<int>(std::thread::hardware_concurrency()),
         shown(cpu::usable_cores()));
}

TEST("ranges cover every index once, each as long as the grain but the last") {
  for (const int threads : {1, 2, 3, 8}) {
    set_num_threads(threads);
    for (const int64_t count : {1, 2, 3, 7, 64, 1000, 4097}) {
      for (const int64_t grain : {1, 2, 5, 64, 999, 5000}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
        std::atomic<int> short_ranges{0};
        parallel_for(count, grain, [&](int64_t begin, int64_t end) {
          if (end - begin < grain && end != count) ++short_ranges;
          for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
        });
        const bool once =
            std::all_of(seen.begin(), seen.end(), [](const auto& n) { return n == 1; });
        EXPECT(once, shown(count) + " by " + shown(grain) + " on " + shown(threads));
        EXPECT_EQ(short_ranges.load(), 0);
      }
    }
  }
}

TEST("an empty or negative range calls nothing") {
  int calls = 0;
  parallel_for(0, 1, [&](int64_t, int64_t) { ++calls; });
  parallel_for(-5, 1, [&](int64_t, int64_t) { ++calls; });
  EXPECT_EQ(calls, 0);
}

TEST("as many threads as asked for work at the same time, the caller among them") {
  for (const int threads : {2, 4, 7, 3}) {
    set_num_threads(threads);
    expect_all_present(threads);
  }
}

TEST("workers that are still leaving do not stand for those asked for") {
  for (int round = 0; round < 300; ++round) {
    set_num_threads(7);
    expect_all_present(7);
    set_num_threads(1);
    // Some of the six have left by now, others have not woken yet.
    std::this_thread::sleep_for(std::chrono::microseconds(round % 50));
    set_num_threads(4);
    expect_all_present(4);
  }
}

TEST("a nested call runs inline on the thread that makes it") {
  set_num_threads(4);
  std::atomic<int64_t> total{0};
  std::atomic<int> elsewhere{0};
  parallel_for(64, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto own = std::this_thread::get_id();
      parallel_for(100, 1, [&](int64_t first, int64_t last) {
        if (std::this_thread::get_id() != own) ++elsewhere;
        total += last - first;
      });
    }
  });
  EXPECT_EQ(total.load(), int64_t{6400});
  EXPECT_EQ(elsewhere.load(), 0);
}

TEST("an exception is rethrown with its type, and the pool works on") {
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    for (int round = 0; round < 50; ++round) {
      EXPECT_ERROR(ErrorCode::kShape, "piece",
                   parallel_for(100, 1, [&](int64_t begin, int64_t end) {
                     if (begin <= 70 && 70 < end) throw Error(ErrorCode::kShape, "a bad piece");
                   }));
      bool caught = false;
      try {
        parallel_for(10, 1, [](int64_t, int64_t) { throw std::length_error("every piece"); });
      } catch (const std::length_error&) {
        caught = true;
      }
      EXPECT(caught, "no length_error");
      std::atomic<int64_t> total{0};
      parallel_for(100, 3, [&](int64_t begin, int64_t end) { total += end - begin; });
      EXPECT_EQ(total.load(), int64_t{100});
    }
  }
}

TEST("callers on several threads get their own results") {
  set_num_threads(3);
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      for (int64_t round = 0; round < 2000; ++round) {
        std::atomic<int64_t> total{0};
        parallel_for(50 + caller, 1, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) total += i;
        });
        if (total != (50 + caller) * (49 + caller) / 2) ++wrong;
      }
    });
  }
  for (int count = 1; count <= 40; ++count) set_num_threads(1 + count % 4);
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST("the number of threads can change at any time, within bounds") {
  for (int round = 0; round < 200; ++round) {
    set_num_threads(1 + round * 7 % 5);
    EXPECT_EQ(num_threads(), 1 + round * 7 % 5);
    std::atomic<int64_t> total{0};
    parallel_for(1000, 1, [&](int64_t begin, int64_t end) { total += end - begin; });
    EXPECT_EQ(total.load(), int64_t{1000});
  }
  EXPECT_ERROR(ErrorCode::kArgument, "got 0", set_num_threads(0));
  EXPECT_ERROR(ErrorCode::kArgument, "got -3", set_num_threads(-3));
  EXPECT_ERROR(ErrorCode::kArgument, "got 1025", set_num_threads(1025));
}

#if defined(__unix__) || defined(__APPLE__)
TEST("a forked child has a pool of its own, and exits while its workers sleep") {
  set_num_threads(3);
  const auto work = [] {
    std::atomic<int64_t> total{0};
    for (int round = 0; round < 100; ++round) {
      parallel_for(100, 1, [&](int64_t begin, int64_t end) { total += end - begin; });
    }
    return total == 10000 && num_threads() == 3 ? 0 : 1;
  };
  EXPECT_EQ(work(), 0);
  for (int child = 0; child < 5; ++child) EXPECT_EQ(in_child(work), 0);
  EXPECT_EQ(work(), 0);
}
#endif

}  // namespace
