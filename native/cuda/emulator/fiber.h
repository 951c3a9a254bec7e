// Stacks to switch between within one thread of the host. On x86-64 a switch is a dozen
// instructions; elsewhere it goes through ucontext, which is ten times slower.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace mixprec::cuda::emulator {

class Fiber {
 public:
  static constexpr size_t kStackBytes = size_t{256} << 10;

  // The stack that is running already: what other fibers switch back to.
  Fiber() = default;
  // A stack of its own, which begins with entry() at the first switch to it; entry never returns.
  explicit Fiber(void (*entry)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Stops here and goes on where `to` stopped.
  void switch_to(Fiber& to);

 private:
  void* memory_ = nullptr;
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
};

}  // namespace mixprec::cuda::emulator
